"""When a message that comes too early is looked at again."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshkit.bus import Delivery
from meshkit.errors import CorruptData
from meshtest.clock import FakeClock
from services.executor.claim import Claims, NotYet
from services.executor.journal import History
from tasklog.partitions import WHOLE
from tasklog.policy import built_in, policy_of
from tasklog.queues import CLAIM_SECONDS
from tasklog.task_log import Entry


@dataclass(frozen=True)
class _Policies:
    current = policy_of(built_in())


@dataclass(frozen=True)
class _Delivery:
    """The message of an attempt that failed."""

    event: TaskEvent
    sequence: int = 3
    delivery_count: int = 1

    @property
    def subject(self) -> str:
        return WHOLE.of_event("acme", "t1", self.event)

    @property
    def payload(self) -> bytes:
        return self.event.SerializeToString()


class _LostContent:
    """Histories that cannot be read."""

    async def read(self, tenant: str, task_id: str) -> History:
        raise CorruptData("There is no content.")

    def grown(self, history: History) -> None:
        raise AssertionError


@dataclass(frozen=True)
class _LogBehind:
    """A log as a replica shows it that has not heard of the message; nothing is written to it."""

    shown: Entry | None

    async def last_readable(self, tenant: str, task_id: str) -> Entry | None:
        return self.shown


@pytest.mark.parametrize("is_shown", [True, False])
async def test_a_message_is_not_settled_by_what_stood_before_it(is_shown: bool) -> None:
    """A task that was made runnable again would be forgotten, since it waited before."""
    clock = FakeClock()
    waiting, resumed = TaskEvent(sequence=2, waiting={}), TaskEvent(sequence=3, resumed={})
    waiting.status.state = task_pb2.TASK_STATE_WAITING
    resumed.status.lane = tier_pb2.LANE_STANDARD
    claims = Claims(
        log=cast(Any, _LogBehind(Entry(waiting, 2) if is_shown else None)),
        histories=_LostContent(),
        clock=clock,
        writer="x",
        policies=_Policies(),
    )
    claimed = await claims.claim(cast(Delivery, _Delivery(resumed)))
    assert claimed == NotYet(clock.now() + timedelta(seconds=CLAIM_SECONDS))


@pytest.mark.parametrize(("pause_seconds", "looks_after"), [(5, 5), (60, 60), (3600, 60)])
async def test_a_message_is_put_off_for_a_minute_at_most(
    pause_seconds: int, looks_after: int
) -> None:
    """The clock that said when and the one that reads it may differ; nothing is read or held."""
    clock = FakeClock()
    event = TaskEvent(sequence=3)
    event.status.lane = tier_pb2.LANE_STANDARD
    event.retried.not_before.FromDatetime(clock.now() + timedelta(seconds=pause_seconds))
    nothing = cast(Any, None)
    claims = Claims(log=nothing, histories=nothing, clock=clock, writer="x", policies=_Policies())
    claimed = await claims.claim(cast(Delivery, _Delivery(event)))
    assert claimed == NotYet(clock.now() + timedelta(seconds=looks_after))
