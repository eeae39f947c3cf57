"""Which of a schedule's times it is about now."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from agentmesh.coordinator.v1 import schedule_service_pb2 as pb

# Later than that, a time was missed.
GRACE: Final = timedelta(minutes=1)
# How many missed times are made up for at most.
MAX_RUNS: Final = 100


class Times(Protocol):
    """The times of a schedule."""

    def latest(
        self, first: datetime, now: datetime, *, limit: int
    ) -> tuple[list[datetime], int]: ...


@dataclass(frozen=True, slots=True)
class Turn:
    """One time of a schedule, which has come."""

    time: datetime
    # False where it was missed, and is left out.
    runs: bool
    # How many times before it were missed, and are left out.
    missed: int


def turn(
    times: Times,
    due: datetime,
    now: datetime,
    policy: pb.MissedRunPolicy,
    *,
    refused: datetime | None,
) -> Turn:
    """What to do at `now` about the times since `due`.

    Args:
        times: All times of the schedule.
        due: The first one that nothing was done about; not after `now`.
        now: The time.
        policy: What happens to missed times.
        refused: The time whose task was refused last; it came in time.
    """
    if policy == pb.MISSED_RUN_POLICY_RUN_ALL:
        found, missed = times.latest(due, now, limit=MAX_RUNS)
        return Turn(found[0], runs=True, missed=missed)
    (last,), missed = times.latest(due, now, limit=1)
    runs = policy != pb.MISSED_RUN_POLICY_SKIP or now - last < GRACE or last == refused
    return Turn(last, runs=runs, missed=missed)
