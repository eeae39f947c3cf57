"""What each policy makes of the times that have come."""

from datetime import UTC, datetime, timedelta

import pytest

from agentmesh.coordinator.v1 import schedule_service_pb2 as pb
from services.coordinator.cron_times import CronTimes
from services.coordinator.schedule_turn import Turn, turn

HOURLY = CronTimes("0 * * * *", "")
DUE = datetime(2026, 1, 1, 10, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
SKIP, RUN_LAST, RUN_ALL = (
    pb.MISSED_RUN_POLICY_SKIP,
    pb.MISSED_RUN_POLICY_RUN_LAST,
    pb.MISSED_RUN_POLICY_RUN_ALL,
)


@pytest.mark.parametrize("policy", [pb.MISSED_RUN_POLICY_UNSPECIFIED, SKIP, RUN_LAST, RUN_ALL])
@pytest.mark.parametrize("late", [timedelta(), timedelta(seconds=59.9)])
def test_a_time_that_has_just_come_runs_under_every_policy(
    policy: pb.MissedRunPolicy, late: timedelta
) -> None:
    """Up to a minute late."""
    assert turn(HOURLY, DUE, DUE + late, policy, refused=None) == Turn(DUE, runs=True, missed=0)


@pytest.mark.parametrize("policy", [pb.MISSED_RUN_POLICY_UNSPECIFIED, RUN_LAST])
def test_the_last_missed_time_is_made_up_for(policy: pb.MissedRunPolicy) -> None:
    """At once, and those before are counted."""
    now = DUE + 5 * HOUR + 30 * MINUTE
    assert turn(HOURLY, DUE, now, policy, refused=None) == Turn(DUE + 5 * HOUR, runs=True, missed=5)


def test_missed_times_can_be_left_out() -> None:
    """All of them; but the one that has just come is not one of them."""
    missed = turn(HOURLY, DUE, DUE + 2 * HOUR + MINUTE, SKIP, refused=None)
    assert missed == Turn(DUE + 2 * HOUR, runs=False, missed=2)
    in_time = turn(HOURLY, DUE, DUE + 2 * HOUR, SKIP, refused=None)
    assert in_time == Turn(DUE + 2 * HOUR, runs=True, missed=2)


def test_a_refused_time_is_not_a_missed_one() -> None:
    """It came in time, and is tried until the next one."""
    now = DUE + 30 * MINUTE
    assert turn(HOURLY, DUE, now, SKIP, refused=DUE).runs
    assert not turn(HOURLY, DUE, now + HOUR, SKIP, refused=DUE).runs


def test_all_missed_times_can_be_made_up_for() -> None:
    """One after another, from the oldest."""
    now = DUE + 3 * HOUR + 30 * MINUTE
    assert turn(HOURLY, DUE, now, RUN_ALL, refused=None) == Turn(DUE, runs=True, missed=0)


def test_no_more_than_a_hundred_are() -> None:
    """The last ones."""
    now = DUE + 250 * HOUR
    assert turn(HOURLY, DUE, now, RUN_ALL, refused=None) == Turn(
        DUE + 151 * HOUR, runs=True, missed=151
    )
