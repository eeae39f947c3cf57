"""Events reach the read model, whatever else is in the log and whatever fails."""

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskStatus
from meshkit import log
from meshkit.bus import Bus
from meshkit.errors import DependencyUnavailable
from meshkit.ids import RandomIds
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from services.coordinator.projector import task_projector
from services.coordinator.read_model import TaskFilter
from services.coordinator.read_model_file import SqliteFiles
from services.coordinator.read_model_sql import SqlReadModel
from services.coordinator.read_model_writer import ReadModelWriter
from services.coordinator.task_row import Recorded
from sqlstore.carrier import fits
from sqlstore.positions import BEGINNING, Moved, Place
from sqlstore.projector import Projector
from tasklog import lifecycle, subjects
from tasklog.formats import EventFormats
from tasklog.partitions import WHOLE, Partitions
from tasklog.task_log import TaskLog

pytest_plugins = ["meshtest.fixtures"]


class _Copy:
    """Keeps what it is given, unless it is told to fail."""

    def __init__(self) -> None:
        self.entries: list[Recorded] = []
        self.place = BEGINNING
        self.failures_left = 0
        self.resigned = 0
        # Whether somebody else writes the next batch first.
        self.is_stolen = False

    async def lead(self) -> None:
        """At once."""

    async def resign(self) -> None:
        """There is nobody else."""
        self.resigned += 1

    async def places(self) -> Mapping[str, Place]:
        return {WHOLE.stream: self.place}

    async def apply(
        self, entries: Sequence[Recorded], *, stream: str, before: Place, after: Place
    ) -> None:
        if self.failures_left:
            self.failures_left -= 1
            raise DependencyUnavailable("The disk is full.")
        if self.is_stolen:
            self.is_stolen, self.place = False, after
        if before != self.place:
            raise Moved
        self.entries += entries
        self.place = after

    async def clear(self, stream: str) -> None:
        self.entries.clear()
        self.place = BEGINNING


class _LateCopy(_Copy):
    """Somebody else is always quicker."""

    looks = 0

    async def places(self) -> Mapping[str, Place]:
        self.looks += 1
        return {}

    async def apply(
        self, entries: Sequence[Recorded], *, stream: str, before: Place, after: Place
    ) -> None:
        raise Moved


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


def _projector(bus: Bus, copy: _Copy, journal: io.StringIO) -> Projector[Recorded]:
    return task_projector(bus, copy, log.get("test", stream=journal), partitions=Partitions().all)


@asynccontextmanager
async def _projecting(projector: Projector[Recorded]) -> AsyncGenerator[None]:
    run = asyncio.create_task(projector.run())
    try:
        yield
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


async def test_it_has_passed_what_is_written_and_nothing_else(bus: Bus) -> None:
    """Even before it has begun it can be asked; who waits goes on when the event is written."""
    copy = _Copy()
    projector = _projector(bus, copy, io.StringIO())
    first = await _submit(bus, "t1")
    assert not await projector.has_passed(WHOLE.stream, first)
    async with _projecting(projector), asyncio.timeout(60):
        await projector.wait_for(WHOLE.stream, first)
        assert [entry.stream_sequence for entry in copy.entries] == [first]
        assert await projector.has_passed(WHOLE.stream, first)
        assert not await projector.has_passed(WHOLE.stream, first + 1)


async def test_every_stream_of_the_log_is_carried(nats_server: NatsServer, tmp_path: Path) -> None:
    """Each from its own place, by a consumer of its own."""
    partitions = Partitions(4)
    async with await Bus.connect(nats_server.url, name="test") as bus:
        task_log = TaskLog(bus, partitions)
        await task_log.prepare()
        sequences: list[tuple[str, int]] = []
        for tenant in ("acme", "globex", "initech", "umbrella"):
            event = lifecycle.new_event(subjects.task_name(tenant, "t1"), "test")
            event.submitted.task.name = event.task
            event.status.create_time.GetCurrentTime()
            event.status.lane, event.sequence = tier_pb2.LANE_STANDARD, 1
            entry = await task_log.append(tenant, "t1", event, after=0)
            sequences.append((partitions.of(tenant).stream, entry.stream_sequence))
        assert len({stream for stream, _ in sequences}) > 1
        files = await SqliteFiles.open(tmp_path / "read_model", RandomIds())
        journal = log.get("test", stream=io.StringIO())
        projector = task_projector(bus, ReadModelWriter(files), journal, partitions=partitions.all)
        async with _projecting(projector), asyncio.timeout(60):
            for stream, sequence in sequences:
                await projector.wait_for(stream, sequence)
        model = SqlReadModel(files)
        for tenant in ("acme", "globex", "initech", "umbrella"):
            page = await model.list(TaskFilter(tenant), position=None, limit=10)
            assert [task.name for task in page.tasks] == [subjects.task_name(tenant, "t1")]
        await files.close()


async def test_large_content_counts_into_the_size(bus: Bus) -> None:
    """What the log refers to takes room as well."""
    copy = _Copy()
    async with _projecting(_projector(bus, copy, io.StringIO())):
        await _submit(bus, "t1", "x" * 70_000)
        await eventually(lambda: copy.entries)
    assert 70_000 < copy.entries[0].size_bytes < 71_000


async def test_the_copy_stands_still_where_a_later_version_wrote(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came before is carried; others may lead; and it goes on where it can be read."""
    copy, journal = _Copy(), io.StringIO()
    first = await _submit(bus, "t1")
    monkeypatch.setattr("tasklog.task_log.EVENTS", EventFormats((lambda event: None,), writes=2))
    second = await _submit(bus, "t2")
    async with _projecting(_projector(bus, copy, journal)):
        await eventually(lambda: copy.resigned)
        assert [entry.stream_sequence for entry in copy.entries] == [first]
        assert copy.place.position == first
        assert "is of format 2; this version of Agentmesh reads formats up to 1" in (
            journal.getvalue()
        )
        upgraded = EventFormats((lambda event: None,), writes=2)
        monkeypatch.setattr("services.coordinator.projector.EVENTS", upgraded)
        await eventually(lambda: copy.place.position == second)
    assert [entry.stream_sequence for entry in copy.entries] == [first, second]


async def test_what_is_no_event_is_passed_over(bus: Bus) -> None:
    """Bytes, and an event under another task's subject, are logged; the next event arrives."""
    foreign = TaskEvent(task="tenants/other/tasks/t1").SerializeToString()
    for number, payload in enumerate((b"\xff", foreign)):
        await bus.append(f"task.acme.bad{number}.log", payload, expected_last=0)
    sequence = await _submit(bus, "t1")
    copy, journal = _Copy(), io.StringIO()
    projector = _projector(bus, copy, journal)
    async with _projecting(projector), asyncio.timeout(60):
        await projector.wait_for(WHOLE.stream, sequence)
    assert [entry.event.task for entry in copy.entries] == ["tenants/acme/tasks/t1"]
    assert journal.getvalue().count("projection.unreadable") == 2


async def test_what_cannot_be_written_comes_again(bus: Bus) -> None:
    """In its order, with nothing lost; the failure is logged, and what is written is told."""
    copy, journal, heard = _Copy(), io.StringIO(), list[int]()
    projector = _projector(bus, copy, journal)
    projector.on_applied(lambda: heard.append(len(copy.entries)))
    copy.failures_left = 2
    first = await _submit(bus, "t1")
    async with _projecting(projector), asyncio.timeout(60):
        await eventually(lambda: not copy.failures_left)
        second = await _submit(bus, "t2")
        await projector.wait_for(WHOLE.stream, second)
    assert [entry.stream_sequence for entry in copy.entries] == [first, second]
    assert journal.getvalue().count("The disk is full.") == 2
    assert heard[-1] == 2


async def test_another_writer_is_no_fault(bus: Bus) -> None:
    """It goes on where the copy is by then, and neither repeats nor leaves out an event."""
    copy, journal = _Copy(), io.StringIO()
    projector = _projector(bus, copy, journal)
    first = await _submit(bus, "t1")
    async with _projecting(projector), asyncio.timeout(60):
        await projector.wait_for(WHOLE.stream, first)
        copy.is_stolen = True
        await projector.wait_for(WHOLE.stream, await _submit(bus, "t2"))
        third = await _submit(bus, "t3")
        await projector.wait_for(WHOLE.stream, third)
    assert [entry.stream_sequence for entry in copy.entries] == [first, third]
    assert "projection" not in journal.getvalue()


async def test_who_is_moved_again_and_again_asks_the_broker_seldom(bus: Bus) -> None:
    """A writer that is always late makes a few consumers a second, not one for each batch."""
    copy, journal = _LateCopy(), io.StringIO()
    await _submit(bus, "t1")
    async with _projecting(_projector(bus, copy, journal)):
        await eventually(lambda: copy.looks >= 2)
        looks = copy.looks
        with pytest.raises(AssertionError):
            await eventually(lambda: copy.looks > looks + 5, timeout_seconds=1.0)
    assert "projection" not in journal.getvalue()


@pytest.mark.parametrize("wait", [False, True])
async def test_it_goes_on_after_the_broker_was_away(
    bus: Bus, nats_server: NatsServer, wait: bool
) -> None:
    """Whether it had read anything before or not, everything arrives once and in order."""
    copy = _Copy()
    projector = _projector(bus, copy, io.StringIO())
    sequences = [await _submit(bus, "t1")]
    async with _projecting(projector), asyncio.timeout(60):
        if wait:
            await projector.wait_for(WHOLE.stream, sequences[0])
        nats_server.restart()
        sequences.append(await _submit(bus, "t2"))
        await projector.wait_for(WHOLE.stream, sequences[1])
    assert [entry.stream_sequence for entry in copy.entries] == sequences


async def _place(bus: Bus) -> Place:
    """That of a copy that has everything."""
    info = await bus.stream_info(WHOLE.stream)
    assert info is not None
    copy = _Copy()
    projector = _projector(bus, copy, io.StringIO())
    async with _projecting(projector), asyncio.timeout(60):
        await projector.wait_for(WHOLE.stream, int(info["state"]["last_seq"]))
    return copy.place


async def test_a_log_goes_on_where_its_copy_ends(bus: Bus) -> None:
    """Before anything was carried, after everything was, and when there is more."""
    assert await fits(bus, WHOLE.stream, BEGINNING)
    await _submit(bus, "t1")
    await bus.append("task.acme.bad.log", b"\xff", expected_last=0)
    place = await _place(bus)
    assert await fits(bus, WHOLE.stream, place)
    await _submit(bus, "t2")
    assert await fits(bus, WHOLE.stream, place)


async def test_a_log_that_lost_its_end_does_not_go_on(bus: Bus) -> None:
    """Whether its sequences are still to come, or were given to other events."""
    await _submit(bus, "t1")
    place = await _place(bus)
    assert not await fits(bus, WHOLE.stream, Place(place.position + 1, place.stamp_ns))
    assert not await fits(bus, WHOLE.stream, Place(place.position, place.stamp_ns - 1_000))


async def test_a_log_whose_beginning_is_gone_goes_on(bus: Bus) -> None:
    """What retention removed was carried before, or was never to be."""
    await _submit(bus, "t1")
    place = await _place(bus)
    await _submit(bus, "t2")
    await bus.purge(WHOLE.stream, WHOLE.scope("acme", "t1"))
    assert await fits(bus, WHOLE.stream, place)


async def test_a_copy_of_what_the_broker_lost_is_built_again(bus: Bus) -> None:
    """It forgets what never was, and takes the log from its first message on."""
    sequence = await _submit(bus, "t1")
    copy, journal = _Copy(), io.StringIO()
    copy.place = Place(9, 9)
    projector = _projector(bus, copy, journal)
    async with _projecting(projector), asyncio.timeout(60):
        await eventually(lambda: copy.entries)
    assert [entry.stream_sequence for entry in copy.entries] == [sequence]
    assert "projection.log_lost" in journal.getvalue()
