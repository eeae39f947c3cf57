"""A tool call is recorded once."""

from audit.entry import Entry
from audit.finding import Finding, Invariant, finding
from audit.track import Track


def check(track: Track, entry: Entry) -> list[Finding]:
    """A call under a key that the task's log has already; `track` remembers the key."""
    called = entry.event.tool_called
    if entry.kind != "tool_called" or not called.idempotency_key:
        return []
    key = hash(called.idempotency_key)
    if key not in track.tool_keys or called.replayed:
        track.tool_keys.add(key)
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
