"""An answer is for the wait that its sender has seen, and for none that began later."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskSignal
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit.errors import InvalidField, RequestIdReused, TaskStateError
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from services.coordinator.coordinator_mesh import Mesh
from services.coordinator.signals import Signals
from services.coordinator.waiting_mesh import (
    begin_wait,
    events,
    expiring,
    for_approval,
    for_input,
    for_time,
    get,
    kinds,
    reaches,
)
from tasklog.partitions import Partitions
from tasklog.task_log import Entry, TaskLog

pytest_plugins = ["meshtest.fixtures", "services.coordinator.coordinator_mesh"]

REJECT = TaskSignal(rejection=TaskSignal.Rejection(reason="too dear"))


def approval(comment: str = "fine") -> TaskSignal:
    """Somebody agrees."""
    return TaskSignal(approval=TaskSignal.Approval(comment=comment))


async def send(
    mesh: Mesh, name: str, signal: TaskSignal, last_sequence: int, request_id: str = ""
) -> Task:
    """The task after a signal of somebody who has seen so much of it."""
    request = pb.SignalTaskRequest(
        name=name, signal=signal, request_id=request_id, last_sequence=last_sequence
    )
    return (await mesh.tasks.SignalTask(request, timeout=60)).task


async def asks(mesh: Mesh, task: Task, tool: str = "refund") -> int:
    """The task waits for approval of a call; the sequence that a person is shown with it."""
    await begin_wait(mesh, task, for_approval(tool))
    return (await get(mesh, task.name)).last_sequence


async def test_who_has_seen_the_wait_answers_it(mesh: Mesh) -> None:
    """The sequence is what GetTask shows beside the call."""
    task = await mesh.submit()
    seen = await asks(mesh, task)
    assert (await send(mesh, task.name, approval(), seen)).state == task_pb2.TASK_STATE_QUEUED


async def answered(mesh: Mesh, task: Task, seen: int) -> None:
    """Somebody else answers."""
    await send(mesh, task.name, REJECT, seen)


async def timed_out(mesh: Mesh, task: Task, seen: int) -> None:
    """The wait ends by itself."""
    await reaches(mesh, task.name, "QUEUED")


@pytest.mark.parametrize("ends", [answered, timed_out])
async def test_a_click_is_not_taken_for_the_next_call(
    mesh: Mesh, ends: Callable[[Mesh, Task, int], Awaitable[None]]
) -> None:
    """Whatever ended the wait: the refusal says what the task waits for now; nothing is written."""
    task = await mesh.submit()
    waiting = for_approval("refund")
    await begin_wait(mesh, task, expiring(waiting, 0.5) if ends is timed_out else waiting)
    seen = (await get(mesh, task.name)).last_sequence
    await ends(mesh, task, seen)
    for how_it_stands in ("QUEUED", "RUNNING"):
        with pytest.raises(TaskStateError) as refused:
            await send(mesh, task.name, approval(), seen)
        assert refused.value.message == f"{task.name} does not wait: it is {how_it_stands}."
        if how_it_stands == "QUEUED":
            await mesh.execute(task, "started")
    now = await asks(mesh, task, "pay_out")
    before = await events(mesh, task.name)
    with pytest.raises(TaskStateError) as refused:
        await send(mesh, task.name, approval(), seen)
    assert refused.value.message == (
        f"{task.name} waits for approval of its call of 'pay_out' by now, at last_sequence {now};"
        f" the signal is about {seen}. Look at it again, then decide."
    )
    assert refused.value.metadata == {"state": "WAITING"}
    assert await events(mesh, task.name) == before
    assert (await send(mesh, task.name, approval(), now)).state == task_pb2.TASK_STATE_QUEUED


async def test_an_answer_is_not_taken_for_the_next_question(mesh: Mesh) -> None:
    """Nor for a time: each kind of wait is named."""
    for waiting, what in [
        (for_input(), "for an answer to its question"),
        (for_time(3600), "until"),
    ]:
        task = await mesh.submit()
        await begin_wait(mesh, task, for_input("Whom to pay?"))
        seen = (await get(mesh, task.name)).last_sequence
        answer = TaskSignal(input={"text": "ann"})
        await send(mesh, task.name, answer, seen)
        await begin_wait(mesh, task, waiting)
        with pytest.raises(TaskStateError, match=rf"waits {what} .*the signal is about {seen}\. "):
            await send(mesh, task.name, answer, seen)


async def test_who_has_not_seen_the_wait_does_not_answer_it(mesh: Mesh) -> None:
    """What is sent to a task that still runs is for no wait at all."""
    task = await mesh.submit()
    await mesh.execute(task, "started")
    seen = (await get(mesh, task.name)).last_sequence
    await asks(mesh, task)
    with pytest.raises(TaskStateError, match="Look at it again, then decide"):
        await send(mesh, task.name, approval(), seen)


async def test_of_two_who_approve_the_same_call_one_wins(mesh: Mesh) -> None:
    """The other approves nothing, even where the task asks again at once."""
    task = await mesh.submit()
    seen = await asks(mesh, task, "refund")
    both = await asyncio.gather(
        *(send(mesh, task.name, approval(), seen, request_id) for request_id in ("ann", "bob")),
        return_exceptions=True,
    )
    (winner,) = [each for each in both if isinstance(each, Task)]
    (loser,) = [each for each in both if isinstance(each, TaskStateError)]
    assert winner.state == task_pb2.TASK_STATE_QUEUED
    assert loser.message == f"{task.name} does not wait: it is QUEUED."
    await asks(mesh, task, "pay_out")
    # Of the two requests the one that won is a repeat now.
    again = await asyncio.gather(
        *(send(mesh, task.name, approval(), seen, request_id) for request_id in ("ann", "bob")),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in again) == ["Task", "TaskStateError"]
    assert (await kinds(mesh, task.name)).count("resumed") == 1


async def test_a_request_id_is_about_one_wait(mesh: Mesh) -> None:
    """A repeat adds nothing, and who sends it about the next call is told that it is not taken."""
    task = await mesh.submit()
    seen = await asks(mesh, task, "refund")
    await send(mesh, task.name, approval(), seen, "s1")
    now = await asks(mesh, task, "pay_out")
    assert (await send(mesh, task.name, approval(), seen, "s1")).last_sequence == now
    with pytest.raises(RequestIdReused) as refused:
        await send(mesh, task.name, approval(), now, "s1")
    assert refused.value.message == (
        f"request_id 's1' sent {task.name!r} another signal. Use a new request_id for a new signal."
    )
    assert (await kinds(mesh, task.name)).count("resumed") == 1


async def test_approvers_beside_a_task_that_asks_again_and_again(mesh: Mesh) -> None:
    """Each call is approved by who saw it, whenever the executor records its next wait."""
    task = await mesh.submit()
    rounds = 20
    is_over = asyncio.Event()

    async def approver(*, is_slow: bool) -> None:
        shown = Task()
        while not is_over.is_set():
            before, shown = shown, await get(mesh, task.name)
            about = before if is_slow else shown
            tool = about.wait.approval.call.tool
            if tool:
                with suppress(TaskStateError):
                    await send(mesh, task.name, approval(tool), about.last_sequence)

    async def executor() -> None:
        for number in range(rounds):
            await begin_wait(mesh, task, for_approval(f"tool-{number}"))
            await reaches(mesh, task.name, "QUEUED")
        is_over.set()

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        group.create_task(executor())
        for is_slow in (False, True, True):
            group.create_task(approver(is_slow=is_slow))
    waits = ""
    approved = 0
    for event in await events(mesh, task.name):
        waits = event.waiting.wait.approval.call.tool or waits
        if event.HasField("resumed"):
            approved += 1
            assert event.resumed.signal.approval.comment == waits
    assert approved == rounds


class _Behind(TaskLog):
    """A log whose last event a replica answers first that does not have the wait yet."""

    behind: Entry | None = None

    async def last(self, tenant: str, task_id: str) -> Entry | None:
        behind, self.behind = self.behind, None
        return behind or await super().last(tenant, task_id)


async def test_a_replica_that_is_behind_refuses_nobody_who_saw_more(mesh: Mesh) -> None:
    """It is asked again when it has caught up."""
    task = await mesh.submit()
    task_id = task.name.rpartition("/")[2]
    await mesh.execute(task, "started")
    behind = await mesh.log.last("acme", task_id)
    seen = await asks(mesh, task)
    clock = FakeClock()
    log = _Behind(mesh.bus, Partitions())
    log.behind = behind
    signals = Signals(log, clock, writer="coordinator/test")
    sending = asyncio.create_task(
        signals.send("acme", task_id, approval(), "s1", last_sequence=seen)
    )
    await eventually(lambda: clock.sleeping == 1)
    assert (await kinds(mesh, task.name))[-1] == "waiting"
    await clock.advance(1)
    assert (await sending).state == task_pb2.TASK_STATE_QUEUED


async def test_an_event_that_there_is_not_has_been_seen_by_nobody(mesh: Mesh) -> None:
    """The field is named, and the task waits on."""
    task = await mesh.submit()
    seen = await asks(mesh, task)
    for last_sequence, what_is_right in [
        (-1, "must not be negative"),
        (seen + 1, f"must be at most {seen}, the task's last event"),
    ]:
        with pytest.raises(InvalidField) as refused:
            await send(mesh, task.name, approval(), last_sequence)
        assert refused.value.message == f"last_sequence: {what_is_right}"
    assert (await kinds(mesh, task.name))[-1] == "waiting"
