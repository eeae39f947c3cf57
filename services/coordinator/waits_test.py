"""When a wait ends by itself, whoever looks, and however often."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import (
    ChildResult,
    TaskEvent,
    TaskSignal,
    TaskStatus,
    TaskWaiting,
)
from meshkit.bus import Bus
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from services.coordinator.coordinator_mesh import Mesh, coordinator
from services.coordinator.waiting_mesh import (
    append,
    begin_wait,
    events,
    expiring,
    for_approval,
    for_children,
    for_input,
    for_time,
    get,
    kinds,
    reaches,
)
from services.coordinator.waits import Standing, Waits
from tasklog import lifecycle
from tasklog.partitions import WHOLE, Partitions
from tasklog.task_log import Entry, TaskLog

pytest_plugins = ["meshtest.fixtures", "services.coordinator.coordinator_mesh"]

TASK = "tenants/acme/tasks/t1"


class NoChildren:
    """The family of a task that has none."""

    async def standing(self, tenant: str, waiting: TaskWaiting, *, submit: bool) -> Standing:
        raise AssertionError

    async def any_open(self, tenant: str, waiting: TaskWaiting) -> bool:
        raise AssertionError

    async def cancel(self, tenant: str, waiting: TaskWaiting, reason: str) -> None:
        raise AssertionError


@pytest.fixture
async def log(nats_url: str) -> AsyncIterator[TaskLog]:
    """A real log in which the task t1 runs since the clock's beginning."""
    async with await Bus.connect(nats_url, name="test") as bus:
        log = TaskLog(bus, Partitions())
        await log.prepare()
        submitted = TaskEvent(task=TASK)
        submitted.submitted.task.name = TASK
        status, after = TaskStatus(lane=tier_pb2.LANE_STANDARD), 0
        for sequence, event in enumerate((submitted, TaskEvent(task=TASK, started={})), start=1):
            lifecycle.advance(status, event, sequence=sequence, time=FakeClock().now())
            after = (await log.append("acme", "t1", event, after=after)).stream_sequence
            status = event.status
        yield log


async def happens(log: TaskLog, clock: FakeClock, event: TaskEvent) -> Entry:
    """The next event of t1, now."""
    last = await log.last("acme", "t1")
    assert last is not None
    event.task = TASK
    lifecycle.advance(last.event.status, event, sequence=last.event.sequence + 1, time=clock.now())
    return await log.append("acme", "t1", event, after=last.stream_sequence)


async def wait(log: TaskLog, clock: FakeClock, waiting: TaskWaiting) -> Entry:
    """The wait of t1, which begins now."""
    return await happens(log, clock, TaskEvent(waiting=waiting))


def timer(until: datetime) -> TaskWaiting:
    """A wait for a point in time."""
    waiting = TaskWaiting()
    waiting.wait.until.FromDatetime(until)
    return waiting


async def last_kind(log: TaskLog) -> str | None:
    """What happened to t1 last."""
    last = await log.last("acme", "t1")
    assert last is not None
    return last.event.WhichOneof("kind")


async def test_a_timer_never_fires_early(log: TaskLog, clock: FakeClock) -> None:
    """However often it is looked at before, it asks to be looked at when it is due."""
    waits = Waits(log, NoChildren(), clock, writer="coordinator/test")
    due = clock.now() + timedelta(days=3)
    entry = await wait(log, clock, timer(due))
    for seconds in (0, 86_400, 2 * 86_400 - 0.001):
        await clock.advance(seconds)
        assert await waits.attend("acme", "t1", entry) == due
        assert await last_kind(log) == "waiting"
    await clock.advance(0.001)
    assert await waits.attend("acme", "t1", entry) is None
    last = await log.last("acme", "t1")
    assert last is not None
    assert last.event.status.state == task_pb2.TASK_STATE_QUEUED
    assert last.event.writer == "coordinator/test"
    assert not last.event.resumed.expired
    assert last.event.time.ToDatetime(tzinfo=UTC) == due


@pytest.mark.parametrize("waiting", [for_approval(), for_input()], ids=["approval", "input"])
async def test_a_wait_for_a_person_expires(
    log: TaskLog, clock: FakeClock, waiting: TaskWaiting
) -> None:
    """At its time the task goes on with nothing."""
    waits = Waits(log, NoChildren(), clock, writer="coordinator/test")
    due = clock.now() + timedelta(hours=2)
    waiting.wait.expire_time.FromDatetime(due)
    entry = await wait(log, clock, waiting)
    assert await waits.attend("acme", "t1", entry) == due
    await clock.advance(7200)
    assert await waits.attend("acme", "t1", entry) is None
    last = await log.last("acme", "t1")
    assert last is not None
    assert last.event.resumed.expired
    assert not last.event.resumed.HasField("signal")


async def test_a_wait_without_an_end_is_left_to_signals(log: TaskLog, clock: FakeClock) -> None:
    """Nobody has to look at it again."""
    waits = Waits(log, NoChildren(), clock, writer="coordinator/test")
    assert await waits.attend("acme", "t1", await wait(log, clock, for_input())) is None
    assert await last_kind(log) == "waiting"


async def test_a_wait_that_is_over_is_left_alone(log: TaskLog, clock: FakeClock) -> None:
    """A late delivery of an earlier wait does not end the present one."""
    waits = Waits(log, NoChildren(), clock, writer="coordinator/test")
    first = await wait(log, clock, timer(clock.now()))
    assert await waits.attend("acme", "t1", first) is None
    await happens(log, clock, TaskEvent(started={}))
    await wait(log, clock, timer(clock.now() + timedelta(hours=1)))
    await clock.advance(60)
    assert await waits.attend("acme", "t1", first) is None
    assert await last_kind(log) == "waiting"


async def test_many_who_look_at_once_end_a_wait_once(log: TaskLog, clock: FakeClock) -> None:
    """Who loses looks again, and finds nothing to do."""
    entry = await wait(log, clock, timer(clock.now()))
    several = [Waits(log, NoChildren(), clock, writer=f"coordinator/{i}") for i in range(6)]
    for again in await asyncio.gather(*(each.attend("acme", "t1", entry) for each in several)):
        assert again in (None, clock.now())
    found = [each.event.WhichOneof("kind") async for each in log.read("acme", "t1")]
    assert found == ["submitted", "started", "waiting", "resumed"]


async def test_the_time_limit_does_not_count_the_wait(log: TaskLog, clock: FakeClock) -> None:
    """The deadline moves by as long as the task waited."""
    entry = await wait(log, clock, timer(clock.now() + timedelta(hours=5)))
    await clock.advance(5 * 3600)
    before = entry.event.status.deadline.ToDatetime()
    waits = Waits(log, NoChildren(), clock, writer="coordinator/test")
    await waits.attend("acme", "t1", entry)
    last = await log.last("acme", "t1")
    assert last is not None
    assert last.event.status.deadline.ToDatetime() - before == timedelta(hours=5)


class Behind:
    """A log of which one read is answered by a replica that has no more than `entries`."""

    def __init__(self, log: TaskLog, *entries: Entry) -> None:
        self._log = log
        self._entries = entries
        self._stale = True

    async def append(self, tenant: str, task_id: str, event: TaskEvent, *, after: int) -> Entry:
        return await self._log.append(tenant, task_id, event, after=after)

    async def last(self, tenant: str, task_id: str) -> Entry | None:
        if self._stale:
            self._stale = False
            return self._entries[-1] if self._entries else None
        return await self._log.last(tenant, task_id)

    def read(self, tenant: str, task_id: str, *, from_stream_sequence: int) -> AsyncIterator[Entry]:
        return self._log.read(tenant, task_id, from_stream_sequence=from_stream_sequence)


@pytest.mark.parametrize("empty", [True, False], ids=["no task", "an earlier event"])
async def test_a_replica_that_is_behind_does_not_end_a_timer(
    log: TaskLog, clock: FakeClock, empty: bool
) -> None:
    """What it does not have yet is looked at again a second later."""
    before = await log.last("acme", "t1")
    assert before is not None
    entry = await wait(log, clock, timer(clock.now()))
    behind = Behind(log) if empty else Behind(log, before)
    waits = Waits(behind, NoChildren(), clock, writer="coordinator/test")
    assert await waits.attend("acme", "t1", entry) == clock.now() + timedelta(seconds=1)
    assert await last_kind(log) == "waiting"
    assert await waits.attend("acme", "t1", entry) is None
    assert await last_kind(log) == "resumed"


class TwoEnded:
    """Two children that have ended; the first who asks is told of an open one."""

    def __init__(self) -> None:
        self._stale = True

    async def standing(self, tenant: str, waiting: TaskWaiting, *, submit: bool) -> Standing:
        return Standing(
            [
                ChildResult(task=child.name, state=task_pb2.TASK_STATE_SUCCEEDED)
                for child in waiting.children
            ]
        )

    async def any_open(self, tenant: str, waiting: TaskWaiting) -> bool:
        stale, self._stale = self._stale, False
        return stale

    async def cancel(self, tenant: str, waiting: TaskWaiting, reason: str) -> None:
        raise AssertionError


async def test_an_end_that_a_replica_does_not_show_yet_is_looked_for_once_more(
    log: TaskLog, clock: FakeClock
) -> None:
    """Two children that end at once do not leave their parent asleep."""
    waiting = for_children(task_pb2.Task(name=TASK, tenant="acme"), "a", "b")
    await wait(log, clock, waiting)
    waits = Waits(log, TwoEnded(), clock, writer="coordinator/test")
    child = waiting.children[0].name
    again = await waits.child_ended("acme", "t1", child, first=True)
    assert again == clock.now() + timedelta(seconds=1)
    assert await last_kind(log) == "waiting"
    assert await waits.child_ended("acme", "t1", child, first=False) is None
    assert await last_kind(log) == "resumed"


class CancelledMeanwhile(NoChildren):
    """One child has ended, and the parent is cancelled while the other is submitted.

    Everybody else has acted on the cancel by then, and found no child to be stopped.
    """

    def __init__(self, log: TaskLog, clock: FakeClock) -> None:
        self._log = log
        self._clock = clock
        self.stopped: list[str] = []

    async def standing(self, tenant: str, waiting: TaskWaiting, *, submit: bool) -> Standing:
        await happens(self._log, self._clock, TaskEvent(cancelled={}))
        states = (task_pb2.TASK_STATE_SUCCEEDED, task_pb2.TASK_STATE_QUEUED)
        names = waiting.wait.children.tasks
        return Standing([ChildResult(task=n, state=s) for n, s in zip(names, states, strict=True)])

    async def any_open(self, tenant: str, waiting: TaskWaiting) -> bool:
        return False

    async def cancel(self, tenant: str, waiting: TaskWaiting, reason: str) -> None:
        self.stopped += waiting.wait.children.tasks


async def test_a_child_that_is_submitted_while_its_parent_is_cancelled_is_stopped(
    log: TaskLog, clock: FakeClock
) -> None:
    """Also by whoever only looked since another child had ended."""
    family = CancelledMeanwhile(log, clock)
    waits = Waits(log, family, clock, writer="coordinator/test")
    waiting = for_children(task_pb2.Task(name=TASK, tenant="acme"), "a", "b")
    await wait(log, clock, waiting)
    ended, submitted = waiting.wait.children.tasks
    assert await waits.child_ended("acme", "t1", ended, first=True) is None
    assert submitted in family.stopped
    assert await last_kind(log) == "cancelled"


async def test_a_timer_ends_on_time(mesh: Mesh) -> None:
    """Not before, and long before anybody would look again, by the real clock and broker."""
    task = await mesh.submit()
    waiting = for_time(0.4)
    await begin_wait(mesh, task, waiting)
    await reaches(mesh, task.name, "QUEUED")
    late = (await events(mesh, task.name))[-1].time.ToDatetime() - waiting.wait.until.ToDatetime()
    assert timedelta() <= late < timedelta(minutes=1)


async def test_a_signal_beats_the_end_of_the_wait(mesh: Mesh) -> None:
    """A task that went on with an answer does not go on again when the wait runs out."""
    task = await mesh.submit()
    await begin_wait(mesh, task, expiring(for_input(), 5.0))
    signal = TaskSignal(input=task_pb2.TaskInput(text="blue"))
    await mesh.tasks.SignalTask(pb.SignalTaskRequest(name=task.name, signal=signal), timeout=60)
    await eventually(lambda: _control_is_empty(mesh))
    assert await kinds(mesh, task.name) == ["submitted", "started", "waiting", "resumed"]


async def _control_is_empty(mesh: Mesh) -> bool:
    info = await mesh.bus.consumer_info(WHOLE.stream, "control")
    return not info["num_pending"] and not info["num_ack_pending"]


async def test_a_wait_ends_although_the_broker_forgot_its_timer(
    nats_server: NatsServer, mesh: Mesh
) -> None:
    """A restarted broker delivers at once; the coordinator looks, and waits on."""
    task = await mesh.submit()
    waiting = for_time(2.0)
    await begin_wait(mesh, task, waiting)
    nats_server.restart()
    await reaches(mesh, task.name, "QUEUED")
    resumed = (await events(mesh, task.name))[-1]
    assert resumed.time.ToDatetime() >= waiting.wait.until.ToDatetime()


async def test_what_came_due_while_no_coordinator_ran_is_done_when_one_starts(
    nats_url: str, tmp_path: Path
) -> None:
    """Timers, cancels of parents and ends of children alike."""
    async with coordinator(nats_url, tmp_path / "a") as mesh:
        timed = await mesh.submit()
        parent, cancelled = await mesh.submit(), await mesh.submit()
        family, doomed = for_children(parent, "a"), for_children(cancelled, "b")
        await begin_wait(mesh, parent, family)
        await begin_wait(mesh, cancelled, doomed)
        (child,), (orphan,) = family.wait.children.tasks, doomed.wait.children.tasks
        await reaches(mesh, child, "QUEUED")
        await reaches(mesh, orphan, "QUEUED")
    async with await Bus.connect(nats_url, name="test") as bus:
        mesh.log, mesh.bus = TaskLog(bus, Partitions()), bus
        await append(mesh, timed.name, TaskEvent(started={}))
        await append(mesh, timed.name, TaskEvent(waiting=for_time(0.01)))
        await append(mesh, child, TaskEvent(started={}))
        completed = TaskEvent(completed={})
        await append(mesh, child, completed, task_pb2.TASK_STATE_SUCCEEDED)
        await append(mesh, cancelled.name, TaskEvent(cancelled={}))
    async with coordinator(nats_url, tmp_path / "b") as mesh:
        await reaches(mesh, timed.name, "QUEUED")
        await reaches(mesh, parent.name, "QUEUED")
        await reaches(mesh, orphan, "CANCELLED")


async def test_several_coordinators_do_everything_once(nats_url: str, tmp_path: Path) -> None:
    """Each child is submitted once, and each parent goes on once."""
    async with (
        coordinator(nats_url, tmp_path / "a") as mesh,
        coordinator(nats_url, tmp_path / "b"),
        coordinator(nats_url, tmp_path / "c"),
    ):
        parents = [await mesh.submit() for _ in range(6)]
        children: list[str] = []
        for parent in parents:
            waiting = for_children(parent, "a", "b", "c")
            await begin_wait(mesh, parent, waiting)
            children += waiting.wait.children.tasks
        for child in children:
            await reaches(mesh, child, "QUEUED")
        for kind, state in (("started", None), ("completed", task_pb2.TASK_STATE_SUCCEEDED)):
            for child in children:
                event = TaskEvent()
                getattr(event, kind).SetInParent()
                await append(mesh, child, event, state)
        for parent in parents:
            await reaches(mesh, parent.name, "QUEUED")
            assert (await kinds(mesh, parent.name)).count("resumed") == 1
        for child in children:
            assert await kinds(mesh, child) == ["submitted", "started", "completed"]
        await eventually(lambda: _control_is_empty(mesh))


async def test_what_is_no_event_stops_nothing(mesh: Mesh) -> None:
    """It is put aside, and the next wait is attended to."""
    await mesh.bus.append("task.acme.garbage.control", b"\xff\xff", expected_last=0)
    task = await mesh.submit()
    await begin_wait(mesh, task, for_time(0.05))
    await reaches(mesh, task.name, "QUEUED")
    await eventually(lambda: _control_is_empty(mesh))
    assert (await get(mesh, task.name)).state == task_pb2.TASK_STATE_QUEUED
