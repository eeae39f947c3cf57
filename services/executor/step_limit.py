"""The time that one step of a task may take: more than a call, less than the task."""

from datetime import timedelta
from types import TracebackType
from typing import Final

from meshkit import deadline
from meshkit.errors import DeadlineExceeded
from services.executor.journal import Journal
from services.executor.policies import Policies

STEP: Final = "step"
# Calls give up a little before the limit that they were given, to have time to say so.
_RESERVE_SECONDS: Final = 0.1


def wait_limit(policies: Policies, journal: Journal) -> timedelta:
    """The longest that the task may wait for anybody."""
    return policies.current.lane(journal.status.lane).wait_limit.ToTimedelta()


class step_limit:  # noqa: N801 - it reads as a statement, like asyncio's timeout
    """Inside the block calls have as long as a step of the task's lane may take.

    Raises:
        DeadlineExceeded: A call ran out of time; metadata `limit` is `step` where
            it was the step's time, and not the call's own.
    """

    __slots__ = ("_journal", "_limit", "_seconds")

    def __init__(self, policies: Policies, journal: Journal) -> None:
        limit = policies.current.lane(journal.status.lane).step_time_limit
        self._seconds: Final = limit.seconds + limit.nanos / 1e9
        self._journal: Final = journal
        self._limit: Final = deadline.limit(self._seconds)

    def __enter__(self) -> None:
        self._limit.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if (
                isinstance(error, DeadlineExceeded)
                and (deadline.remaining_seconds() or 0.0) <= _RESERVE_SECONDS
            ):
                raise DeadlineExceeded(
                    f"Step {self._journal.status.steps + 1} was not done within"
                    f" {self._seconds:g} s: {error}",
                    metadata={"limit": STEP},
                ) from error
        finally:
            self._limit.__exit__(kind, error, trace)


def is_of_step(error: BaseException) -> bool:
    """Whether it was a step that ran out of time."""
    return isinstance(error, DeadlineExceeded) and error.metadata.get("limit") == STEP
