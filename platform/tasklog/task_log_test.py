"""Tests for task_log.py: a replica that is behind is not taken for loss."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.common.v1.conversation_pb2 import BlobRef
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskStatus
from meshkit.bus import Bus, StoredMessage
from meshkit.errors import CorruptData
from meshtest.clock import FakeClock
from tasklog import lifecycle
from tasklog.partitions import Partitions
from tasklog.task_log import TaskLog

pytest_plugins = ["meshtest.fixtures"]

LARGE = "x" * 100_000


class Behind(Bus):
    """A broker of which the replica that answers first has no large content yet."""

    looks = 0
    # How many looks find nothing.
    late = 1
    # How long ago everything was stored, beside the time that it was.
    age = timedelta()

    async def get_blob(self, owner: str, reference: BlobRef) -> bytes:
        self.looks += 1
        if self.looks <= self.late:
            raise CorruptData(f"There is no content of {owner} with digest {reference.digest}.")
        return await super().get_blob(owner, reference)

    async def read(
        self, stream: str, subject_filter: str, *, start_sequence: int = 1, batch: int = 256
    ) -> AsyncGenerator[StoredMessage]:
        async for each in super().read(
            stream, subject_filter, start_sequence=start_sequence, batch=batch
        ):
            yield replace(each, time=each.time - self.age)


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Behind]:
    """A broker with one task, whose input is large."""
    async with await Behind.connect(nats_url, name="test") as bus:
        log = TaskLog(bus, Partitions())
        await log.prepare()
        event = lifecycle.new_event("tenants/acme/tasks/t1", "test")
        event.submitted.task.input.text = LARGE
        status = TaskStatus(lane=tier_pb2.LANE_STANDARD)
        lifecycle.advance(status, event, sequence=1, time=FakeClock().now())
        await log.append("acme", "t1", event, after=0)
        yield bus


async def _input(log: TaskLog, *, lenient: bool = False) -> str:
    events: list[TaskEvent] = [
        entry.event async for entry in log.read("acme", "t1", lenient=lenient)
    ]
    return events[0].submitted.task.input.text


async def test_content_that_a_replica_does_not_show_yet_is_looked_for_once_more(
    bus: Behind,
) -> None:
    """An executor would give the task up, and a parent take its child for failed."""
    assert await _input(TaskLog(bus, Partitions())) == LARGE
    assert bus.looks == 2


async def test_content_that_is_gone_is_looked_for_twice_and_no_third_time(bus: Behind) -> None:
    """Then it is lost."""
    bus.late = 3
    with pytest.raises(CorruptData, match=r"There is no content of acme\.t1"):
        await _input(TaskLog(bus, Partitions()))
    assert bus.looks == 2


async def test_content_of_long_ago_is_looked_for_once(bus: Behind) -> None:
    """No replica is so far behind, and a family may have lost that of a hundred children."""
    bus.age = timedelta(minutes=2)
    with pytest.raises(CorruptData):
        await _input(TaskLog(bus, Partitions()))
    assert bus.looks == 1


async def test_who_can_do_without_content_does_not_wait_for_it(bus: Behind) -> None:
    """Hundreds of references that are lost are shown at once."""
    assert not await _input(TaskLog(bus, Partitions()), lenient=True)
    assert bus.looks == 1
