"""What follows from an attempt that failed: another one, the end, or the dead letters."""

import random
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from agentmesh.coordinator.v1.task_pb2 import TaskNote
from meshkit.clock import Clock
from meshkit.errors import CorruptData, Internal, MeshError, is_retryable, to_status
from services.executor import attempts
from services.executor.budget_wait import is_put_off, note_of
from services.executor.ending import finish_partial
from services.executor.journal import Journal
from services.executor.policies import Policies
from services.executor.step_limit import is_of_step
from tasklog.policy import LanePolicy


class Consequence(Enum):
    """What an error leads to."""

    # Another attempt may succeed; after the last one the task is a dead letter.
    RETRY = "retry"
    # Nobody can go on, but an operator may mend it.
    DEAD_LETTER = "dead letter"
    # It would come again each time: too large, not valid, not allowed, no money.
    FAIL = "fail"


def consequence(error: MeshError) -> Consequence:
    """What an error of this class leads to."""
    if is_retryable(error) or is_of_step(error) or isinstance(error, Internal):
        return Consequence.RETRY
    if isinstance(error, CorruptData):
        return Consequence.DEAD_LETTER
    return Consequence.FAIL


@dataclass(frozen=True, slots=True)
class Failures:
    """Records failed attempts."""

    policies: Policies
    clock: Clock
    jitter: random.Random

    async def record(self, journal: Journal, error: MeshError) -> None:
        """Records that the present attempt ended with `error`, and what follows.

        Raises:
            Fenced, CancelRequestedError: As Journal.append.
        """
        lane = self.policies.current.lane(journal.status.lane)
        attempt = attempts.counted(journal.events)
        follows = consequence(error)
        event = journal.event()
        if follows is Consequence.FAIL:
            event.failed.error.CopyFrom(to_status(error))
        elif follows is Consequence.DEAD_LETTER or attempt >= lane.max_attempts:
            event.dead_lettered.error.CopyFrom(to_status(error))
        else:
            pause_seconds = max(
                _backoff_seconds(attempt, lane, self.jitter), error.retry_after_seconds or 0.0
            )
            # Compared in seconds: a service may ask for longer than there are dates.
            left_seconds = _seconds_left(journal, self.clock)
            if pause_seconds >= left_seconds:
                await finish_partial(journal, _no_time_left(journal, pause_seconds, error))
                return
            event.retried.error.CopyFrom(to_status(error))
            event.retried.not_before.FromDatetime(
                self.clock.now() + timedelta(seconds=pause_seconds)
            )
        await journal.append(event, notes=[note_of(error)] if is_put_off(error) else ())


def _seconds_left(journal: Journal, clock: Clock) -> float:
    return journal.status.deadline.ToMicroseconds() / 1e6 - clock.now().timestamp()


def _no_time_left(journal: Journal, pause_seconds: float, error: MeshError) -> TaskNote:
    status = journal.status
    allowed_seconds = status.time_limit.ToNanoseconds() / 1e9
    return TaskNote(
        code="TIME_LIMIT",
        text=f"Stopped after {status.steps} steps; what follows from them is missing. The next"
        f" attempt had to wait {round(pause_seconds, 1):g} s, longer than the time limit of"
        f" {allowed_seconds:g} s leaves: {error}",
    )


def _backoff_seconds(attempt: int, lane: LanePolicy, jitter: random.Random) -> float:
    """Exponential with full jitter (Brooker, "Exponential Backoff and Jitter", AWS, 2015)."""
    ceiling = lane.retry_base.ToNanoseconds() / 1e9 * 2 ** (attempt - 1)
    return jitter.uniform(0, min(ceiling, lane.retry_max.ToNanoseconds() / 1e9))
