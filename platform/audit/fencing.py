"""Only the executor that started a task writes its steps."""

from typing import Final

from audit.entry import Entry
from audit.finding import Finding, Invariant, finding

# What only the owner of a task writes. Others may end it: a cancel, a dead letter.
_OWNERS: Final = frozenset(
    {
        "model_called",
        "tool_intended",
        "tool_called",
        "degraded",
        "waiting",
        "retried",
        "completed",
    }
)


def check(starter: str, entry: Entry) -> list[Finding]:
    """A step by somebody else than `starter`, whom nobody saw where it is empty."""
    writer = entry.event.writer
    if not starter or entry.kind not in _OWNERS or writer == starter:
        return []
    return [
        finding(
            Invariant.FENCING,
            entry.task,
            f"Event {entry.event.sequence} ({entry.kind}) was written by {writer or 'nobody'},"
            f" although {starter} had started the task.",
            entry.stream_sequence,
        )
    ]
