"""What the log refers to in the object store is there, and is what it was."""

from collections.abc import Sequence
from typing import NamedTuple

from audit.content import references
from audit.entry import Entry
from audit.finding import Finding, Invariant, TaskKey, finding


class Reference(NamedTuple):
    """Content of a task outside its log."""

    task: TaskKey
    digest: str
    size_bytes: int
    stream_sequence: int


def references_of(entry: Entry) -> list[Reference]:
    """What the event keeps outside the log."""
    return [
        Reference(entry.task, each.digest, each.size_bytes, entry.stream_sequence)
        for each in references(entry)
    ]


def judge(reference: Reference, log: Sequence[Entry]) -> list[Finding]:
    """What is to be said of content that was not found, or not whole.

    `log`: the task's log as it is by now. Retention removes content, and says so first.
    """
    if not log or log[-1].kind == "expired":
        return []
    return [
        finding(
            Invariant.CONTENT,
            reference.task,
            f"The content {reference.digest[:16]}... of {reference.size_bytes} bytes is missing"
            " or damaged.",
            reference.stream_sequence,
        )
    ]
