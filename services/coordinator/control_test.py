"""How a cancel goes down where what the coordinator reads is behind."""

from collections.abc import Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import cast

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskStatus
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit.bus import Delivery
from meshkit.errors import TaskNotFound
from meshtest.clock import FakeClock
from services.coordinator.control import Control
from tasklog import lifecycle
from tasklog.task_log import Entry


class NoWaits:
    """Nobody waits for the task."""

    async def attend(self, tenant: str, task_id: str, wait: Entry) -> datetime | None:
        raise AssertionError

    async def child_ended(
        self, tenant: str, parent_id: str, child: str, *, first: bool
    ) -> datetime | None:
        raise AssertionError


class OneChild:
    """A list that is complete, and has one child that its log does not show at first."""

    def __init__(self, late_looks: int) -> None:
        self._late_looks = late_looks
        self.cancelled: list[str] = []

    async def has_passed(self, stream: str, stream_sequence: int) -> bool:
        return True

    async def open_children(self, tenant: str, task_id: str) -> Sequence[str]:
        return [] if self.cancelled else ["child"]

    async def cancel(self, tenant: str, task_id: str, reason: str) -> Task:
        if self._late_looks:
            self._late_looks -= 1
            raise TaskNotFound(f"There is no task {task_id!r}.")
        self.cancelled.append(task_id)
        return Task()


def delivery(count: int) -> Delivery:
    """The cancel of the parent, as it is delivered for the `count`th time."""
    event = lifecycle.new_event("tenants/acme/tasks/t1", "test")
    event.cancelled.SetInParent()
    status = TaskStatus(lane=tier_pb2.LANE_STANDARD, state=task_pb2.TASK_STATE_QUEUED)
    lifecycle.advance(status, event, sequence=2, time=FakeClock().now())
    made = SimpleNamespace(
        payload=event.SerializeToString(),
        subject="task.acme.t1.control",
        stream="TASKS",
        sequence=2,
        delivery_count=count,
    )
    return cast(Delivery, made)


def control(child: OneChild, clock: FakeClock) -> Control:
    """What acts on the cancel."""
    return Control(waits=NoWaits(), canceller=child, children=child, projection=child, clock=clock)


async def test_a_child_that_a_replica_does_not_show_yet_is_stopped_later() -> None:
    """It is listed, so it is there."""
    child, clock = OneChild(late_looks=1), FakeClock()
    acts = control(child, clock)
    again = await acts.attend(delivery(1))
    assert again is not None
    assert again > clock.now()
    assert await acts.attend(delivery(2)) is None
    assert child.cancelled == ["child"]


async def test_a_child_whose_log_is_lost_is_not_looked_for_for_ever() -> None:
    """The cancel is done with in the end."""
    acts = control(OneChild(late_looks=1_000), FakeClock())
    looks = 1
    while await acts.attend(delivery(looks)) is not None:
        looks += 1
    assert looks == 11
