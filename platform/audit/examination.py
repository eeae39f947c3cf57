"""What all comparisons of the log with a store have in common."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from audit.entry import Entry
from audit.finding import Finding, TaskKey
from audit.histories import Histories
from audit.track import Track


class TaskLogs(Protocol):
    """The logs of single tasks as they stand now, which may be later than what was read."""

    async def of_task(self, task: TaskKey, *, after: int = 0) -> list[Entry]:
        """The task's events after a stream sequence; none where there is no such task."""
        ...

    async def owners(self, task_id: str) -> Sequence[TaskKey]:
        """The tasks of any tenant that have this id."""
        ...


class Examination(Protocol):
    """Compares the log with what stands elsewhere.

    The log is read first, then the store, and then once more the logs of those
    tasks where the two do not agree: what is written meanwhile is no finding.
    """

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of events that it wants to see."""
        ...

    def see(self, entry: Entry, before: Track | None) -> None:
        """Notes an event of a task, which was as `before`; None where that is not known."""
        ...

    async def catch_up(self) -> list[Finding]:
        """Looks up what was noted, if that is a good deal by now."""
        ...

    async def finish(self, histories: Histories) -> list[Finding]:
        """Does what is left once the log is read."""
        ...

    def counts(self) -> Mapping[str, int]:
        """What was looked at."""
        ...

    def remarks(self) -> Sequence[str]:
        """What is allowed and worth knowing."""
        ...
