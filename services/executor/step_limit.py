"""The time that one step of a task may take: more than a call, less than the task."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
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


@contextmanager
def step_limit(policies: Policies, journal: Journal) -> Generator[None]:
    """Inside the block calls have as long as a step of the task's lane may take.

    Raises:
        DeadlineExceeded: A call ran out of time; metadata `limit` is `step` where
            it was the step's time, and not the call's own.
    """
    seconds = policies.current.lane(journal.status.lane).step_time_limit.ToNanoseconds() / 1e9
    with deadline.limit(seconds):
        try:
            yield
        except DeadlineExceeded as error:
            if (deadline.remaining_seconds() or 0.0) > _RESERVE_SECONDS:
                raise
            raise DeadlineExceeded(
                f"Step {journal.status.steps + 1} was not done within {seconds:g} s: {error}",
                metadata={"limit": STEP},
            ) from error


def is_of_step(error: BaseException) -> bool:
    """Whether it was a step that ran out of time."""
    return isinstance(error, DeadlineExceeded) and error.metadata.get("limit") == STEP
