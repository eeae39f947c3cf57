"""A tool call is recorded once."""

from audit.entry import Entry
from audit.finding import Finding, Invariant, finding
from audit.track import Track


def check(track: Track, entry: Entry) -> list[Finding]:
    """A call under a key that the task's log has already; `track` remembers the key."""
    called = entry.event.tool_called
    if entry.kind != "tool_called" or not called.idempotency_key:
        return []
    if track.note_call(called.idempotency_key) or called.replayed:
        return []
    return [
        finding(
            Invariant.EFFECT,
            entry.task,
            f"Event {entry.event.sequence} records the tool call {called.idempotency_key} again,"
            " as a call of its own.",
            entry.stream_sequence,
        )
    ]
