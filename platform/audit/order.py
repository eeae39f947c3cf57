"""Events are numbered from 1 without gap, and no number stands twice."""

from audit.ended_tasks import Ended
from audit.entry import Entry
from audit.finding import Finding, Invariant, finding
from audit.track import Track


def check(before: Track | Ended | None, entry: Entry) -> Finding | None:
    """A fork or a gap. What retention left begins with the event that says so."""
    last = 0 if before is None else before.sequence
    number = entry.event.sequence
    if number == last + 1 or (number > last and entry.kind == "expired"):
        return None
    other = (before.stream_sequence,) if isinstance(before, Track) else ()
    if before is not None and 0 < number <= last:
        return finding(
            Invariant.FORK,
            entry.task,
            f"Event {number} ({entry.kind}) stands in the log again, after event {last}.",
            *other,
            entry.stream_sequence,
        )
    return finding(
        Invariant.REPLAY,
        entry.task,
        f"Event {number} ({entry.kind}) stands where event {last + 1} belongs.",
        *other,
        entry.stream_sequence,
    )
