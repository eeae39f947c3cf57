"""A task ends once."""

from typing import Final

from audit.ended_tasks import Ended
from audit.entry import Entry
from audit.finding import Finding, Invariant, finding
from audit.track import Track
from tasklog import lifecycle

# What may happen to a dead letter after its end; the table of states says when.
_AFTER_DEATH: Final = frozenset({"redriven", "discarded"})


def check(before: Track | Ended | None, entry: Entry) -> Finding | None:
    """An event after the end that is not about what to do with the ended task."""
    if before is None or before.state not in lifecycle.TERMINAL:
        return None
    expired = isinstance(before, Ended) and before.expired
    if not expired and (
        entry.kind == "expired" or (isinstance(before, Track) and entry.kind in _AFTER_DEATH)
    ):
        return None
    ended = f"had ended as {lifecycle.state_name(before.state)}"
    return finding(
        Invariant.END,
        entry.task,
        f"Event {entry.event.sequence} ({entry.kind}) follows although the task {ended}"
        f"{' and its content was removed' if expired else ''}.",
        *((before.stream_sequence,) if isinstance(before, Track) else ()),
        entry.stream_sequence,
    )
