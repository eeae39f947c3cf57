"""Long tasks are taken over with a few reads, and cost what they are long."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from io import StringIO

import pytest

from agentmesh.common.v1 import conversation_pb2
from agentmesh.common.v1.conversation_pb2 import BlobRef, Message
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.snapshot_pb2 import TaskSnapshot
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshkit import log as lines
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from meshkit.errors import CorruptData, QueueFull
from meshtest.eventually import eventually
from services.executor import conversation
from services.executor.executor_bench import Bench
from services.executor.history import Histories
from services.executor.journal import History, Journal
from services.executor.snapshots import SEGMENT_EVENTS
from services.executor.snapshots_jetstream import JetStreamSnapshots
from tasklog import claim_check, fold, subjects
from tasklog.partitions import WHOLE, Partitions
from tasklog.task_log import Entry, TaskLog

pytest_plugins = ["meshtest.fixtures", "services.executor.executor_bench"]


class _CountedLog(TaskLog):
    """Counts the messages that were read."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus, Partitions())
        self.messages = 0

    async def last(self, tenant: str, task_id: str) -> Entry | None:
        self.messages += 1
        return await super().last(tenant, task_id)

    async def read(
        self,
        tenant: str,
        task_id: str,
        *,
        from_stream_sequence: int = 1,
        batch: int = 256,
        lenient: bool = False,
    ) -> AsyncGenerator[Entry]:
        async for entry in super().read(
            tenant,
            task_id,
            from_stream_sequence=from_stream_sequence,
            batch=batch,
            lenient=lenient,
        ):
            self.messages += 1
            yield entry


class _CountedSnapshots(JetStreamSnapshots):
    """Counts the segments that were read; writes none where it is told so."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus)
        self.segments = 0
        self.is_full = False
        self.is_broken = False

    async def get(self, tenant: str, task_id: str, reference: BlobRef) -> list[Entry]:
        self.segments += 1
        return await super().get(tenant, task_id, reference)

    async def put(self, tenant: str, task_id: str, entries: Sequence[Entry]) -> BlobRef:
        if self.is_full:
            raise QueueFull("The disk is full.")
        if self.is_broken:
            raise ValueError("No message is that large.")
        return await super().put(tenant, task_id, entries)


class _Executor:
    """What of an executor reads and writes histories."""

    def __init__(self, bus: Bus) -> None:
        self.log = _CountedLog(bus)
        self.store = _CountedSnapshots(bus)
        self.lines = StringIO()
        self.histories = Histories(
            log=self.log, store=self.store, lines=lines.get("test", stream=self.lines)
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Writes snapshots for as long as the block lasts."""
        await self.store.prepare()
        running = asyncio.create_task(self.histories.run())
        yield
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    async def start(self, task_id: str) -> Journal:
        """Takes the task."""
        journal = Journal(
            log=self.log,
            clock=SystemClock(),
            writer="executor/x",
            history=await self.histories.read("acme", task_id),
            grown=self.histories.grown,
            is_last_attempt=False,
        )
        event = journal.event()
        event.started.SetInParent()
        await journal.append(event)
        return journal


async def _steps(journal: Journal, count: int) -> None:
    """Appends model steps of a kilobyte; every sixteenth is too large for an event."""
    for number in range(count):
        event = journal.event()
        event.model_called.step = journal.status.steps + 1
        size = 70_000 if number % 16 == 0 else 1_000
        event.model_called.message.CopyFrom(
            conversation.text_message(
                conversation_pb2.ROLE_ASSISTANT, f"{journal.status.steps}" + "x" * size
            )
        )
        await journal.append(event)


async def _covered(executor: _Executor, task_id: str, events: int) -> TaskSnapshot:
    """The snapshot, once it has all whole segments of that many events."""

    async def enough() -> TaskSnapshot | None:
        snapshot, _ = await executor.store.load("acme", task_id)
        last = snapshot.segments[-1].last_sequence if snapshot.segments else 0
        return snapshot if events - last < SEGMENT_EVENTS else None

    snapshot = await eventually(enough)
    assert snapshot is not None
    return snapshot


def _said(events: list[TaskEvent]) -> list[Message]:
    """What models said."""
    return [event.model_called.message for event in events if event.HasField("model_called")]


def _assert_same(history: History, events: list[TaskEvent]) -> None:
    """The history says what the log says."""
    found = [entry.event for entry in history.entries]
    assert [event.sequence for event in found] == [event.sequence for event in events]
    assert _said(found) == _said(events)
    assert found[0].submitted == events[0].submitted


async def _grown(bench: Bench, steps: int) -> tuple[_Executor, str]:
    """A task of that many steps whose executor has written its snapshot, and is gone."""
    executor = _Executor(bench.bus)
    async with executor.running():
        task_id = await bench.submit()
        await _steps(await executor.start(task_id), steps)
        snapshot = await _covered(executor, task_id, steps + 2)
        await eventually(lambda: _keeps_only(bench, task_id, snapshot))
    return executor, task_id


async def _keeps_only(bench: Bench, task_id: str, snapshot: TaskSnapshot) -> bool:
    """Whether the object store has what the log and the snapshot refer to, and no more."""
    owner = subjects.owner("acme", task_id)
    kept = {
        subject.split(".")[-2]
        for subject in await bench.bus.subjects("OBJ_blobs", f"$O.blobs.C.{owner}.>")
    }
    named = {segment.events.digest for segment in snapshot.segments}
    async for entry in bench.log.read_stored("acme", task_id):
        named |= {reference.digest for reference in claim_check.references(entry.event)}
    return kept == named


@pytest.mark.parametrize("steps", [100, 500])
async def test_resuming_reads_as_little_of_a_long_task_as_of_a_short_one(
    bench: Bench, steps: int
) -> None:
    """The last event, at most 63 messages of the log and 7 segments; and everything is there."""
    _, task_id = await _grown(bench, steps)
    another = _Executor(bench.bus)
    history = await another.histories.read("acme", task_id)
    assert another.log.messages <= 1 + SEGMENT_EVENTS
    assert 1 <= another.store.segments <= 7
    _assert_same(history, await bench.events(task_id))
    assert len(history.entries) == steps + 2


async def test_what_is_stored_grows_as_the_task_does(bench: Bench) -> None:
    """Twice the steps take at most 2.2 times the bytes: log, large content and snapshots."""
    sizes: list[int] = []
    for steps in (128, 256, 512):
        before = await _bytes(bench)
        await _grown(bench, steps)
        sizes.append(await _bytes(bench) - before)
    assert all(second / first <= 2.2 for first, second in itertools.pairwise(sizes))
    # Each byte of a step lies in the log or beside it, and once more in a segment.
    content = 512 * 1_000 + 512 // 16 * 69_000
    assert sizes[-1] <= 2.5 * content


async def test_large_content_is_stored_once_whatever_segments_there_are(bench: Bench) -> None:
    """Segments refer to it as the log does, and who resumes the task has it."""
    executor = _Executor(bench.bus)
    async with executor.running():
        task_id = await bench.submit()
        journal = await executor.start(task_id)
        for number in range(SEGMENT_EVENTS):
            event = journal.event()
            event.tool_called.step = journal.status.steps + 1
            event.tool_called.result.text = f"{number}" + "x" * (1_000_000 if number < 8 else 0)
            await journal.append(event)
        snapshot = await _covered(executor, task_id, SEGMENT_EVENTS + 2)
    assert [segment.events.size_bytes < 50_000 for segment in snapshot.segments] == [True]
    another = _Executor(bench.bus)
    history = await another.histories.read("acme", task_id)
    assert another.store.segments == 1
    _assert_same(history, await bench.events(task_id))


async def _bytes(bench: Bench) -> int:
    """What all streams hold."""
    total = 0
    for stream in (WHOLE.stream, subjects.SNAPSHOTS, "OBJ_blobs"):
        info = await bench.bus.stream_info(stream)
        total += int(info["state"]["bytes"]) if info else 0
    return total


async def test_merged_segments_leave_nothing_behind(bench: Bench) -> None:
    """Eight segments become one, and their content goes."""
    executor, task_id = await _grown(bench, 510)
    snapshot, _ = await executor.store.load("acme", task_id)
    assert [
        (each.first_sequence, each.last_sequence, each.level) for each in snapshot.segments
    ] == [(1, 512, 1)]
    assert await _keeps_only(bench, task_id, snapshot)


async def test_a_long_task_goes_on_from_its_snapshot(bench: Bench) -> None:
    """A second executor adds to what the first one wrote, and a third one reads both."""
    _, task_id = await _grown(bench, 100)
    second = _Executor(bench.bus)
    async with second.running():
        await _steps(await second.start(task_id), 100)
        await _covered(second, task_id, 203)
    third = _Executor(bench.bus)
    history = await third.histories.read("acme", task_id)
    fold.replay(entry.event for entry in history.entries)
    assert len(history.entries) == 203
    assert third.log.messages <= 1 + SEGMENT_EVENTS


_Damage = Callable[[Bench, str, TaskSnapshot], Awaitable[None]]


async def _without_manifest(bench: Bench, task_id: str, snapshot: TaskSnapshot) -> None:
    await bench.bus.purge(subjects.SNAPSHOTS, subjects.snapshot("acme", task_id))


async def _without_content(bench: Bench, task_id: str, snapshot: TaskSnapshot) -> None:
    owner = subjects.owner("acme", task_id)
    await bench.bus.delete_blob(owner, snapshot.segments[0].events.digest)


async def _with_garbage(bench: Bench, task_id: str, snapshot: TaskSnapshot) -> None:
    subject = subjects.snapshot("acme", task_id)
    await bench.bus.publish(subject, b"\xff\xff", message_id="garbage")


async def _with_a_gap(bench: Bench, task_id: str, snapshot: TaskSnapshot) -> None:
    del snapshot.segments[0]
    subject = subjects.snapshot("acme", task_id)
    await bench.bus.publish(subject, snapshot.SerializeToString(), message_id="gap")


@pytest.mark.parametrize(
    "damage", [_without_manifest, _without_content, _with_garbage, _with_a_gap]
)
async def test_without_a_sound_snapshot_the_log_is_read(bench: Bench, damage: _Damage) -> None:
    """Nothing is lost with a snapshot."""
    executor, task_id = await _grown(bench, 150)
    snapshot, _ = await executor.store.load("acme", task_id)
    await damage(bench, task_id, snapshot)
    another = _Executor(bench.bus)
    history = await another.histories.read("acme", task_id)
    _assert_same(history, await bench.events(task_id))
    assert another.log.messages >= 152


async def test_a_snapshot_that_cannot_be_written_disturbs_nobody(bench: Bench) -> None:
    """The task goes on, a line says so, and the snapshot is there once there is room."""
    executor = _Executor(bench.bus)
    executor.store.is_full = True
    async with executor.running():
        task_id = await bench.submit()
        journal = await executor.start(task_id)
        await _steps(journal, 70)
        await eventually(lambda: "snapshot.unwritten" in executor.lines.getvalue())
        executor.store.is_full = False
        await _steps(journal, 70)
        await _covered(executor, task_id, 142)


async def test_a_fault_in_writing_a_snapshot_is_not_the_end_of_all_others(bench: Bench) -> None:
    """Whatever it is: a line says so, and the next one is written."""
    executor = _Executor(bench.bus)
    executor.store.is_broken = True
    async with executor.running():
        task_id = await bench.submit()
        journal = await executor.start(task_id)
        await _steps(journal, 70)
        await eventually(lambda: "snapshot.crashed" in executor.lines.getvalue())
        executor.store.is_broken = False
        await _steps(journal, 70)
        await _covered(executor, task_id, 142)


async def test_an_executor_that_lost_its_task_does_not_replace_the_snapshot(bench: Bench) -> None:
    """The snapshot of the task's new owner stays."""
    stale, owner = _Executor(bench.bus), _Executor(bench.bus)
    task_id = await bench.submit()
    await stale.store.prepare()
    first = await stale.start(task_id)
    await _steps(first, 70)
    async with owner.running():
        await _steps(await owner.start(task_id), 130)
        before = await _covered(owner, task_id, 203)
    async with stale.running():
        await eventually(lambda: "snapshot.unwritten" in stale.lines.getvalue())
    snapshot, _ = await owner.store.load("acme", task_id)
    assert snapshot == before


async def test_a_short_task_has_no_snapshot(bench: Bench) -> None:
    """Reading it takes one look at its end, and its few messages."""
    executor = _Executor(bench.bus)
    async with executor.running():
        task_id = await bench.submit()
        await _steps(await executor.start(task_id), 20)
    another = _Executor(bench.bus)
    history = await another.histories.read("acme", task_id)
    assert (len(history.entries), another.log.messages) == (22, 23)
    assert await bench.bus.last(subjects.SNAPSHOTS, "snapshot.>") is None


async def test_a_log_with_a_gap_is_not_read_as_one_without(bench: Bench) -> None:
    """It is reported, never run."""
    executor = _Executor(bench.bus)
    task_id = await bench.submit()
    journal = await executor.start(task_id)
    await _steps(journal, 2)
    event = journal.event()
    event.model_called.SetInParent()
    event.sequence = 9
    event.status.CopyFrom(journal.status)
    event.status.state = task_pb2.TASK_STATE_RUNNING
    last = await bench.log.last("acme", task_id)
    assert last is not None
    await bench.log.append("acme", task_id, event, after=last.stream_sequence)
    with pytest.raises(CorruptData) as caught:
        await executor.histories.read("acme", task_id)
    assert str(caught.value) == (
        f"The log of tenants/acme/tasks/{task_id} has event 9 where 5 belongs."
    )
