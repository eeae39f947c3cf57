"""Events reach the read model, whatever else is in the log and whatever fails."""

import asyncio
import io
import sqlite3
from collections.abc import AsyncIterator, Sequence

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskStatus
from meshkit import log
from meshkit.bus import Bus
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from services.coordinator.projector import Projector, fits
from services.coordinator.task_row import Recorded
from tasklog import lifecycle, subjects
from tasklog.partitions import WHOLE, Partitions
from tasklog.task_log import TaskLog

pytest_plugins = ["meshtest.fixtures"]


class _Sink:
    """Keeps what it is given, unless it is told to fail."""

    def __init__(self) -> None:
        self.entries: list[Recorded] = []
        self.failures_left = 0
        self.position = 0

    async def apply(self, entries: Sequence[Recorded], *, position: int) -> None:
        if self.failures_left:
            self.failures_left -= 1
            raise sqlite3.OperationalError("disk I/O error")
        self.entries += entries
        self.position = max(self.position, position)


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """The stream of tasks is there."""
    async with await Bus.connect(nats_server.url, name="test") as bus:
        await TaskLog(bus, Partitions()).prepare()
        yield bus


async def _submit(bus: Bus, task_id: str, text: str = "hello") -> int:
    event = lifecycle.new_event(subjects.task_name("acme", task_id), "test")
    event.submitted.task.input.text = text
    status = TaskStatus(lane=tier_pb2.LANE_STANDARD)
    status.create_time.GetCurrentTime()
    lifecycle.advance(status, event, sequence=1, time=status.create_time.ToDatetime())
    return (
        await TaskLog(bus, Partitions()).append("acme", task_id, event, after=0)
    ).stream_sequence


def _projector(bus: Bus, sink: _Sink, journal: io.StringIO) -> Projector:
    return Projector(bus, sink, log.get("test", stream=journal), identity="copy")


async def test_it_has_passed_what_is_written_and_nothing_else(bus: Bus) -> None:
    """Even before it has begun it can be asked; who waits goes on when the event is written."""
    sink = _Sink()
    projector = _projector(bus, sink, io.StringIO())
    first = await _submit(bus, "t1")
    assert not await projector.has_passed(WHOLE.stream, first)
    waiting = asyncio.create_task(projector.wait_for(first))
    run = asyncio.create_task(projector.run())
    await asyncio.wait_for(waiting, 5)
    assert [entry.stream_sequence for entry in sink.entries] == [first]
    assert await projector.has_passed(WHOLE.stream, first)
    assert not await projector.has_passed(WHOLE.stream, first + 1)
    run.cancel()


async def test_large_content_counts_into_the_size(bus: Bus) -> None:
    """What the log refers to takes room as well."""
    sink = _Sink()
    run = asyncio.create_task(_projector(bus, sink, io.StringIO()).run())
    await _submit(bus, "t1", "x" * 70_000)
    await eventually(lambda: sink.entries)
    assert 70_000 < sink.entries[0].size_bytes < 71_000
    run.cancel()


async def test_what_is_no_event_is_passed_over(bus: Bus) -> None:
    """Bytes, and an event under another task's subject, are logged; the next event arrives."""
    foreign = TaskEvent(task="tenants/other/tasks/t1").SerializeToString()
    for number, payload in enumerate((b"\xff", foreign)):
        await bus.append(f"task.acme.bad{number}.log", payload, expected_last=0)
    sequence = await _submit(bus, "t1")
    sink, journal = _Sink(), io.StringIO()
    projector = _projector(bus, sink, journal)
    run = asyncio.create_task(projector.run())
    await asyncio.wait_for(projector.wait_for(sequence), 5)
    assert [entry.event.task for entry in sink.entries] == ["tenants/acme/tasks/t1"]
    assert journal.getvalue().count("projection.unreadable") == 2
    run.cancel()


async def test_what_cannot_be_written_comes_again(bus: Bus) -> None:
    """The position stays before it until then, though later events are written meanwhile."""
    sink, heard = _Sink(), list[int]()
    projector = _projector(bus, sink, io.StringIO())
    projector.on_applied(lambda: heard.append(len(sink.entries)))
    sink.failures_left = 1
    run = asyncio.create_task(projector.run())
    first = await _submit(bus, "t1")
    await eventually(lambda: not sink.failures_left)
    second = await _submit(bus, "t2")
    await eventually(lambda: heard == [1])
    assert not await projector.has_passed(WHOLE.stream, first)
    assert not await projector.has_passed(WHOLE.stream, second)
    await asyncio.wait_for(projector.wait_for(second), 15)
    assert [entry.stream_sequence for entry in sink.entries] == [second, first]
    run.cancel()


async def _carried(bus: Bus, sink: _Sink, sequence: int) -> None:
    """Has everything up to there in the copy, and the copy closed."""
    projector = _projector(bus, sink, io.StringIO())
    run = asyncio.create_task(projector.run())
    await asyncio.wait_for(projector.wait_for(sequence), 5)
    run.cancel()


async def test_a_copy_fits_that_has_what_was_carried_into_it(bus: Bus) -> None:
    """Also before anything was, and where the last message was no event."""
    assert await fits(bus, "copy", 0)
    await _submit(bus, "t1")
    assert await fits(bus, "copy", 0)
    last = await bus.append("task.acme.bad.log", b"\xff", expected_last=0)
    sink = _Sink()
    await _carried(bus, sink, last)
    assert await fits(bus, "copy", sink.position)
    await _submit(bus, "t2")
    assert await fits(bus, "copy", sink.position)


async def test_a_copy_that_lost_what_was_acknowledged_does_not_fit(bus: Bus) -> None:
    """The broker would not bring it again; a copy that begins anew gets everything."""
    await _submit(bus, "t1")
    second = await _submit(bus, "t2")
    await _carried(bus, _Sink(), second)
    assert not await fits(bus, "copy", second - 1)


async def test_a_copy_of_what_the_broker_lost_does_not_fit(bus: Bus) -> None:
    """Whether the sequences are still to come or were given to others, or it begins anew."""
    last = await _submit(bus, "t1")
    await _carried(bus, _Sink(), last)
    assert not await fits(bus, "copy", last + 1)
    assert not await fits(bus, "unknown", last)


async def test_a_new_copy_fits_a_log_that_lost_its_beginning(bus: Bus) -> None:
    """What retention removed was never to be carried into it."""
    await _submit(bus, "t1")
    await _submit(bus, "t2")
    await bus.purge(WHOLE.stream, WHOLE.scope("acme", "t1"))
    assert await fits(bus, "copy", 0)
    assert await fits(bus, "copy", 0)
