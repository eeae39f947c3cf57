"""How people and programs answer a task that waits for them."""

import asyncio

import pytest
from google.protobuf import struct_pb2

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskSignal, TaskWaiting
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from meshkit import identity
from meshkit.clock import SystemClock
from meshkit.errors import (
    Forbidden,
    InvalidField,
    MeshError,
    RequestIdReused,
    TaskNotFound,
    TaskStateError,
    TooLarge,
)
from meshkit.identity import Identity
from services.coordinator.coordinator_mesh import Mesh
from services.coordinator.signals import Signals
from services.coordinator.waiting_mesh import (
    begin_wait,
    events,
    for_approval,
    for_children,
    for_input,
    for_time,
    kinds,
)
from tasklog.partitions import Partitions
from tasklog.task_log import Entry, TaskLog

pytest_plugins = ["meshtest.fixtures", "services.coordinator.coordinator_mesh"]

APPROVE = TaskSignal(approval=TaskSignal.Approval(comment="fine"))
REJECT = TaskSignal(rejection=TaskSignal.Rejection(reason="too dear"))
ANSWER = TaskSignal(input=TaskInput(text="the blue one"))


async def send(mesh: Mesh, name: str, signal: TaskSignal, request_id: str = "") -> Task:
    """The task after the signal."""
    request = pb.SignalTaskRequest(name=name, signal=signal, request_id=request_id)
    return (await mesh.tasks.SignalTask(request, timeout=60)).task


@pytest.mark.parametrize(
    ("waiting", "signal"),
    [(for_approval(), APPROVE), (for_approval(), REJECT), (for_input(), ANSWER)],
    ids=["approval", "rejection", "input"],
)
async def test_a_waiting_task_goes_on_with_what_it_waits_for(
    mesh: Mesh, waiting: TaskWaiting, signal: TaskSignal
) -> None:
    """It is queued again, and its log has the signal and its sender as authenticated."""
    task = await mesh.submit()
    await begin_wait(mesh, task, waiting)
    sent = TaskSignal(sender="somebody else")
    sent.MergeFrom(signal)
    after = await send(mesh, task.name, sent, "s1")
    assert after.state == task_pb2.TASK_STATE_QUEUED
    assert not after.HasField("wait")
    resumed = (await events(mesh, task.name))[-1].resumed
    assert resumed.request_id == "s1"
    assert resumed.signal.sender == "service:test"
    resumed.signal.ClearField("sender")
    assert resumed.signal == signal


async def test_the_same_request_id_is_the_same_signal(mesh: Mesh) -> None:
    """A repeat adds nothing, even while the task waits for the next approval."""
    task = await mesh.submit()
    await begin_wait(mesh, task, for_approval())
    await send(mesh, task.name, APPROVE, "s1")
    await begin_wait(mesh, task, for_approval())
    again = await send(mesh, task.name, APPROVE, "s1")
    assert again.state == task_pb2.TASK_STATE_WAITING
    assert (await kinds(mesh, task.name)).count("resumed") == 1
    other = await send(mesh, task.name, APPROVE, "s2")
    assert other.state == task_pb2.TASK_STATE_QUEUED


async def test_a_request_id_may_not_come_with_another_signal(mesh: Mesh) -> None:
    """Nobody is told that their refusal was taken where it was not."""
    task = await mesh.submit()
    await begin_wait(mesh, task, for_approval())
    await send(mesh, task.name, APPROVE, "s1")
    await begin_wait(mesh, task, for_approval())
    with pytest.raises(RequestIdReused) as refused:
        await send(mesh, task.name, REJECT, "s1")
    assert refused.value.message == (
        f"request_id 's1' sent {task.name!r} another signal. Use a new request_id for a new signal."
    )
    assert (await events(mesh, task.name))[-1].HasField("waiting")


class Overtaken(TaskLog):
    """A log in which the task is rejected, and asks about the next call, before the first append.

    As where the broker hears of a signal late.
    """

    mesh: Mesh
    is_overtaken = False

    async def append(self, tenant: str, task_id: str, event: TaskEvent, *, after: int) -> Entry:
        if not self.is_overtaken:
            self.is_overtaken = True
            task = Task(name=event.task)
            await send(self.mesh, event.task, REJECT)
            await begin_wait(self.mesh, task, for_approval())
        return await super().append(tenant, task_id, event, after=after)


async def test_an_approval_that_comes_late_is_not_taken_for_the_next_call(mesh: Mesh) -> None:
    """Nobody has agreed to that one."""
    log = Overtaken(mesh.bus, Partitions())
    log.mesh = mesh
    task = await mesh.submit()
    await begin_wait(mesh, task, for_approval())
    signals = Signals(log, SystemClock(), writer="coordinator/test")
    with pytest.raises(TaskStateError) as refused:
        await signals.send("acme", task.name.rpartition("/")[2], APPROVE, "s1")
    assert refused.value.message == (
        f"{task.name} waits for approval of its call of 'refund' by now, at last_sequence 6;"
        " the signal is about 3. Look at it again, then decide."
    )
    assert (await events(mesh, task.name))[-1].HasField("waiting")


async def test_of_many_signals_at_once_one_wins(mesh: Mesh) -> None:
    """The others are told that the task no longer waits."""
    task = await mesh.submit()
    await begin_wait(mesh, task, for_approval())
    signals = [APPROVE, REJECT] * 8
    outcomes = await asyncio.gather(
        *(send(mesh, task.name, signal, f"s{i}") for i, signal in enumerate(signals)),
        return_exceptions=True,
    )
    won = [each for each in outcomes if isinstance(each, Task)]
    lost = [each for each in outcomes if isinstance(each, TaskStateError)]
    assert (len(won), len(lost)) == (1, 15)
    assert {each.message for each in lost} == {f"{task.name} does not wait: it is QUEUED."}
    assert (await kinds(mesh, task.name)).count("resumed") == 1


async def test_many_repeats_at_once_are_one_signal(mesh: Mesh) -> None:
    """Each is answered with the task that goes on."""
    task = await mesh.submit()
    await begin_wait(mesh, task, for_input())
    outcomes = await asyncio.gather(*(send(mesh, task.name, ANSWER, "s1") for _ in range(8)))
    assert {each.state for each in outcomes} == {task_pb2.TASK_STATE_QUEUED}
    assert (await kinds(mesh, task.name)).count("resumed") == 1


async def test_a_signal_of_the_wrong_kind_is_told_what_the_task_waits_for(mesh: Mesh) -> None:
    """And the task waits on."""
    parent = await mesh.submit()
    cases = [
        (for_approval(), ANSWER, "waits for approval of its call of 'refund'. Send an approval or"
         " a rejection, not input."),
        (for_input(), APPROVE, "waits for an answer to its question. Send input, not an approval."),
        (for_children(parent, "a", "b"), REJECT, "waits for its 2 child tasks. No signal ends"
         " that; cancelling the task does."),
    ]  # fmt: skip
    for waiting, signal, message in cases:
        task = await mesh.submit()
        await begin_wait(mesh, task, waiting)
        with pytest.raises(TaskStateError) as refused:
            await send(mesh, task.name, signal)
        assert refused.value.message == f"{task.name} {message}"
        assert refused.value.metadata == {"state": "WAITING"}
        assert (await events(mesh, task.name))[-1].HasField("waiting")


async def test_a_timer_takes_no_signal(mesh: Mesh) -> None:
    """The refusal says until when the task waits."""
    task = await mesh.submit()
    waiting = for_time(3600)
    await begin_wait(mesh, task, waiting)
    with pytest.raises(TaskStateError) as refused:
        await send(mesh, task.name, APPROVE)
    until = waiting.wait.until.ToJsonString()
    assert refused.value.message == (
        f"{task.name} waits until {until}. No signal ends that; cancelling the task does."
    )


async def test_only_a_waiting_task_takes_signals(mesh: Mesh) -> None:
    """Others are TASK_STATE, and one that does not exist is TASK_NOT_FOUND."""
    task = await mesh.submit()
    for kind, how_it_stands in [
        ("", "does not wait: it is QUEUED."),
        ("started", "does not wait: it is RUNNING."),
        ("completed", "has ended: it is SUCCEEDED."),
    ]:
        await mesh.execute(task, *([kind] if kind else []))
        with pytest.raises(TaskStateError) as refused:
            await send(mesh, task.name, APPROVE, "s1")
        assert refused.value.message == f"{task.name} {how_it_stands}"
    with pytest.raises(TaskNotFound, match=r"There is no task .*nobody"):
        await send(mesh, "tenants/acme/tasks/nobody", APPROVE)
    with identity.use(Identity("other", "user:test")), pytest.raises(Forbidden):
        await send(mesh, task.name, APPROVE)


LONG = "x" * 4097
MALFORMED = [
    (TaskSignal(), "signal: must have one of approval, rejection and input"),
    (TaskSignal(sender="me"), "signal: must have one of approval, rejection and input"),
    (
        TaskSignal(approval=TaskSignal.Approval(comment=LONG)),
        "signal.approval.comment: must be at most 4,096 characters, not 4,097",
    ),
    (
        TaskSignal(rejection=TaskSignal.Rejection(reason=LONG)),
        "signal.rejection.reason: must be at most 4,096 characters, not 4,097",
    ),
    (
        TaskSignal(rejection=TaskSignal.Rejection(reason="a\x00b")),
        "signal.rejection.reason: must not contain NUL characters",
    ),
    (
        TaskSignal(input=TaskInput(text=" ")),
        "signal.input: must have text or data: it is the answer to the agent",
    ),
    (
        TaskSignal(input=TaskInput(text="a\x00b")),
        "signal.input.text: must not contain NUL characters",
    ),
]


@pytest.mark.parametrize(("signal", "message"), MALFORMED, ids=[each[1][:40] for each in MALFORMED])
async def test_a_malformed_signal_is_refused(mesh: Mesh, signal: TaskSignal, message: str) -> None:
    """The field is named."""
    task = await mesh.submit()
    await begin_wait(mesh, task, for_input())
    with pytest.raises(InvalidField) as refused:
        await send(mesh, task.name, signal)
    assert refused.value.message == message


async def test_a_large_answer_is_refused_and_the_largest_is_taken(mesh: Mesh) -> None:
    """The limit is 64 KiB, and TOO_LARGE names it."""
    task = await mesh.submit()
    await begin_wait(mesh, task, for_input())
    with pytest.raises(TooLarge) as refused:
        await send(mesh, task.name, TaskSignal(input=TaskInput(text="x" * (64 << 10))))
    assert refused.value.metadata == {"limit_bytes": "65536", "size_bytes": "65540"}
    data = struct_pb2.Struct()
    data["colour"] = "blue"
    largest = TaskSignal(input=TaskInput(text="x" * 65_000, data=data))
    assert (await send(mesh, task.name, largest)).state == task_pb2.TASK_STATE_QUEUED
    assert (await events(mesh, task.name))[-1].resumed.signal.input == largest.input


async def test_a_request_id_may_not_be_endless(mesh: Mesh) -> None:
    """It has at most 128 characters."""
    task = await mesh.submit()
    with pytest.raises(MeshError, match="request_id: must be at most 128 characters"):
        await send(mesh, task.name, APPROVE, "x" * 129)
