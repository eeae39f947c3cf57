"""What a reader who is slow, or has stopped, costs the coordinator, and what it misses."""

import ctypes
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit.bus import Subscription
from meshtest.eventually import eventually
from services.coordinator.coordinator_mesh import Mesh
from tasklog import lifecycle, subjects
from tasklog.partitions import WHOLE

pytest_plugins = ["meshtest.fixtures", "services.coordinator.coordinator_mesh"]

_EVENTS = 2_000
_EVENT_BYTES = 24 * 1024
# The flow is 47 MiB; what is held of it must not grow with it. gRPC alone holds 8 to 13 on both
# sides, by how wide it finds its windows.
_BOUND_BYTES = 15 * 1024 * 1024


class _Mallinfo2(ctypes.Structure):
    """What glibc says of its heaps; all fields are sizes or counts."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


class Held:
    """The memory in use by this process, in which both coordinator and reader live.

    Messages, parsed or not, and what gRPC keeps to send or has received are all
    allocated by the C library.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        if not hasattr(library, "mallinfo2"):
            pytest.skip("the C library has no mallinfo2")
        self._mallinfo2: Any = library.mallinfo2
        self._mallinfo2.restype = _Mallinfo2
        self._before = self._now()

    def bytes(self) -> int:
        """How much has been added."""
        return self._now() - self._before

    def _now(self) -> int:
        gc.collect()
        info = self._mallinfo2()
        return int(info.uordblks + info.hblkhd)


async def _flow(mesh: Mesh, task: Task, events: int = _EVENTS, *, completed: bool = True) -> None:
    """Appends as an executor would that does not care who watches."""
    task_id = task.name.rpartition("/")[2]
    last = await mesh.log.last("acme", task_id)
    assert last is not None
    status, sequence, stream_sequence = last.event.status, last.event.sequence, last.stream_sequence
    for number in range(events):
        event = lifecycle.new_event(task.name, "executor/test")
        if status.state == task_pb2.TASK_STATE_QUEUED:
            event.started.SetInParent()
        elif completed and number == events - 1:
            event.completed.output.text = "done"
        else:
            event.model_called.message.parts.add(text="x" * _EVENT_BYTES)
        sequence += 1
        lifecycle.advance(
            status,
            event,
            sequence=sequence,
            time=last.event.time.ToDatetime(),
            state=task_pb2.TASK_STATE_SUCCEEDED if event.HasField("completed") else None,
        )
        entry = await mesh.log.append("acme", task_id, event, after=stream_sequence)
        status, stream_sequence = entry.event.status, entry.stream_sequence


async def _sequences(updates: AsyncIterator[Any]) -> list[int]:
    return [update.event.sequence async for update in updates if update.HasField("event")]


@pytest.mark.parametrize("include_deltas", [False, True])
async def test_a_reader_that_stops_holds_little_and_misses_nothing(
    mesh: Mesh, include_deltas: bool
) -> None:
    """Thousands of events flow past; when it goes on it gets each of them once."""
    task = await mesh.submit()
    held = Held()
    call = mesh.tasks.WatchTask(
        pb.WatchTaskRequest(name=task.name, include_deltas=include_deltas), timeout=120
    )
    updates = aiter(call)
    assert (await anext(updates)).event.sequence == 1
    await _flow(mesh, task)
    assert held.bytes() < _BOUND_BYTES
    assert await _sequences(updates) == [*range(2, _EVENTS + 2)]


async def test_a_reader_that_stops_within_a_long_log_holds_a_page(mesh: Mesh) -> None:
    """What was recorded before it came stays in the log until it reads on."""
    task = await mesh.submit()
    await _flow(mesh, task)
    held = Held()
    call = mesh.tasks.WatchTask(pb.WatchTaskRequest(name=task.name), timeout=120)
    updates = aiter(call)
    assert (await anext(updates)).event.sequence == 1
    info = await mesh.bus.stream_info(WHOLE.stream)
    assert info is not None
    assert info["state"]["bytes"] > 3 * _BOUND_BYTES
    assert held.bytes() < _BOUND_BYTES
    assert await _sequences(updates) == [*range(2, _EVENTS + 2)]


async def test_a_reader_that_stops_and_goes_on_again_and_again_misses_nothing(mesh: Mesh) -> None:
    """Between the log and what is new it changes as often as it must."""
    task = await mesh.submit()
    call = mesh.tasks.WatchTask(pb.WatchTaskRequest(name=task.name), timeout=60)
    updates = aiter(call)
    seen = [(await anext(updates)).event.sequence]
    # More than is held for it, each time.
    for rounds in range(5):
        await _flow(mesh, task, 200, completed=rounds == 4)
        while seen[-1] < 1 + 200 * (rounds + 1):
            seen.append((await anext(updates)).event.sequence)
    assert seen == [*range(1, 1_002)]
    assert await _sequences(updates) == []


async def test_words_that_nobody_reads_are_left_out(mesh: Mesh) -> None:
    """They are bounded by themselves, and the events that follow are all there."""
    task = await mesh.submit()
    task_id = task.name.rpartition("/")[2]
    held = Held()
    call = mesh.tasks.WatchTask(
        pb.WatchTaskRequest(name=task.name, include_deltas=True), timeout=60
    )
    updates = aiter(call)
    await anext(updates)
    words = pb.TextDelta(step=1, attempt=1, text="y" * 4_096).SerializeToString()
    for number in range(10_000):
        await mesh.bus.signal(subjects.deltas("acme", task_id), words)
        if number % 50 == 0:
            # A round trip: what was sent before has arrived.
            await mesh.log.last("acme", task_id)
    await mesh.execute(task, "started", "completed")
    assert held.bytes() < _BOUND_BYTES
    assert await _sequences(updates) == [2, 3]


async def test_a_reader_that_leaves_costs_nothing_more(mesh: Mesh) -> None:
    """Its subscriptions end with it, even while there is more to send than it reads."""
    task = await mesh.submit()
    before = _subscriptions()
    for include_deltas in (False, True):
        call = mesh.tasks.WatchTask(
            pb.WatchTaskRequest(name=task.name, include_deltas=include_deltas), timeout=60
        )
        await anext(aiter(call))
        assert _subscriptions() > before
        await _flow(mesh, task, 200, completed=False)
        call.cancel()
        await eventually(lambda: _subscriptions() <= before)


def _subscriptions() -> int:
    gc.collect()
    return sum(isinstance(each, Subscription) for each in gc.get_objects())
