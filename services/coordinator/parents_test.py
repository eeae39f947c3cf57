"""Which tasks a client may submit as children of others, and how they are stopped with them."""

import asyncio

import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit import batch, identity
from meshkit.errors import Forbidden, InvalidField, TaskStateError
from meshkit.identity import Identity
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from services.coordinator.child_limit import MAX_CHILDREN
from services.coordinator.coordinator_mesh import Mesh
from services.coordinator.parents import Parents
from services.coordinator.waiting_mesh import append, events, get, kinds, reaches
from tasklog.partitions import WHOLE

pytest_plugins = ["meshtest.fixtures", "services.coordinator.coordinator_mesh"]


async def cancel(mesh: Mesh, task: Task) -> None:
    """Cancels the task as a client does."""
    await mesh.tasks.CancelTask(pb.CancelTaskRequest(name=task.name), timeout=60)


async def listed(mesh: Mesh, count: int) -> None:
    """Returns once the read model has so many tasks."""

    async def check() -> bool:
        request = pb.ListTasksRequest(parent="tenants/acme", page_size=1000)
        return len((await mesh.tasks.ListTasks(request, timeout=60)).tasks) == count

    await eventually(check)


async def test_a_child_knows_its_parent_and_how_deep_it_stands(mesh: Mesh) -> None:
    """The depth is the mesh's word, whatever the client says."""
    parent = await mesh.submit()
    assert parent.depth == 0
    child = await mesh.submit(parent_task=parent.name, depth=4)
    assert (child.parent_task, child.depth) == (parent.name, 1)
    assert (await get(mesh, child.name)).depth == 1


async def test_a_child_ends_when_its_parent_is_cancelled(mesh: Mesh) -> None:
    """With its own children, whichever state they are in."""
    parent = await mesh.submit()
    child = await mesh.submit(parent_task=parent.name)
    grandchild = await mesh.submit(parent_task=child.name)
    runs, ended = [await mesh.submit(parent_task=child.name) for _ in range(2)]
    await mesh.execute(runs, "started")
    await mesh.execute(ended, "started", "completed")
    await cancel(mesh, parent)
    await reaches(mesh, child.name, "CANCELLED")
    await reaches(mesh, grandchild.name, "CANCELLED")

    async def asked() -> bool:
        return (await kinds(mesh, runs.name))[-1] == "cancel_requested"

    await eventually(asked)
    assert (await get(mesh, ended.name)).state == task_pb2.TASK_STATE_SUCCEEDED
    reason = (await events(mesh, child.name))[-1].cancelled.reason
    assert reason == f"Its parent {parent.name} was cancelled."


async def test_a_running_parent_takes_its_children_along(mesh: Mesh) -> None:
    """As soon as the cancel is asked for, not only when its executor has noticed."""
    parent = await mesh.submit()
    child = await mesh.submit(parent_task=parent.name)
    await mesh.execute(parent, "started")
    await cancel(mesh, parent)
    await reaches(mesh, child.name, "CANCELLED")
    assert (await get(mesh, parent.name)).state == task_pb2.TASK_STATE_RUNNING


async def test_a_damaged_parent_does_not_keep_a_cancel_from_its_grandchildren(mesh: Mesh) -> None:
    """The end of the child cannot be told to its parent; the cancel goes down all the same."""
    parent = await mesh.submit()
    child = await mesh.submit(parent_task=parent.name)
    grandchild = await mesh.submit(parent_task=child.name)
    task_id = parent.name.rpartition("/")[2]
    last = await mesh.log.last("acme", task_id)
    assert last is not None
    await mesh.bus.append(
        f"task.acme.{task_id}.event",
        b"\xff\xff",
        expected_last=last.stream_sequence,
        scope=WHOLE.scope("acme", task_id),
    )
    await cancel(mesh, child)
    await reaches(mesh, grandchild.name, "CANCELLED")


async def test_the_end_of_a_parent_alone_stops_no_child(mesh: Mesh) -> None:
    """Only a cancel goes down."""
    parent = await mesh.submit()
    child = await mesh.submit(parent_task=parent.name)
    await mesh.execute(parent, "started", "completed")
    other = await mesh.submit()
    await cancel(mesh, other)
    await listed(mesh, 3)
    assert (await get(mesh, child.name)).state == task_pb2.TASK_STATE_QUEUED


async def test_a_child_submitted_during_the_cancel_is_stopped_too(mesh: Mesh) -> None:
    """Whatever the order, no open child is left of a cancelled parent."""
    parents = [await mesh.submit() for _ in range(8)]

    async def submit(parent: Task) -> str:
        try:
            return (await mesh.submit(parent_task=parent.name)).name
        except TaskStateError:
            return ""

    answers = await asyncio.gather(
        *(submit(parent) for parent in parents for _ in range(4)),
        *(cancel(mesh, parent) for parent in parents),
        *(submit(parent) for parent in parents for _ in range(4)),
    )
    for name in filter(None, answers):
        await reaches(mesh, name, "CANCELLED")


async def test_a_child_whose_parent_was_cancelled_meanwhile_is_answered_as_cancelled(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look after the append finds what the gate could not see."""
    parent = await mesh.submit()
    check = Parents.check

    async def then_cancel(self: Parents, task: Task) -> None:
        await check(self, task)
        await append(mesh, parent.name, TaskEvent(cancelled={}))

    monkeypatch.setattr(Parents, "check", then_cancel)
    child = await mesh.submit(parent_task=parent.name)
    assert child.state == task_pb2.TASK_STATE_CANCELLED


async def test_a_parent_must_be_an_open_task_of_the_tenant(mesh: Mesh) -> None:
    """Anything else is refused, and nothing is stored."""
    done = await mesh.submit()
    await mesh.execute(done, "started", "completed")
    with pytest.raises(TaskStateError) as ended:
        await mesh.submit(parent_task=done.name)
    assert ended.value.message == (
        f"{done.name} has ended: it is SUCCEEDED. Only an open task can have children."
    )
    assert ended.value.metadata == {"state": "SUCCEEDED"}
    ending = await mesh.submit()
    await mesh.execute(ending, "started")
    await cancel(mesh, ending)
    with pytest.raises(TaskStateError) as stopping:
        await mesh.submit(parent_task=ending.name)
    assert stopping.value.message == (
        f"{ending.name} is being cancelled. Only an open task can have children."
    )
    refusals = {
        "tenants/acme/tasks/nobody": "must be a task that exists, not 'tenants/acme/tasks/nobody'",
        "tenants/other/tasks/t1": "must be a task of tenant 'acme'",
        "t1": "must look like 'tenants/{tenant}/tasks/{task}'",
    }
    for name, message in refusals.items():
        with pytest.raises(InvalidField) as refused:
            await mesh.submit(parent_task=name)
        assert refused.value.message == f"task.parent_task: {message}"
    await listed(mesh, 2)


async def test_a_repeat_is_answered_although_the_parent_has_ended(mesh: Mesh) -> None:
    """What was accepted once stays accepted."""
    parent = await mesh.submit()
    child = await mesh.submit(request_id="c1", parent_task=parent.name)
    await mesh.execute(parent, "started", "completed")
    again = await mesh.submit(request_id="c1", parent_task=parent.name)
    assert again.name == child.name


async def test_children_of_children_end_at_the_fifth(mesh: Mesh) -> None:
    """The refusal says how many tasks stand above the parent."""
    task = await mesh.submit()
    for depth in range(1, 6):
        task = await mesh.submit(parent_task=task.name)
        assert task.depth == depth
    with pytest.raises(InvalidField) as refused:
        await mesh.submit(parent_task=task.name)
    assert refused.value.message == (
        f"task.parent_task: must be a task with fewer than 5 tasks above it; {task.name!r} has 5"
    )


async def test_a_parent_has_at_most_a_hundred_open_children(mesh: Mesh) -> None:
    """One more is refused until one has ended."""
    parent = await mesh.submit()
    first = await mesh.submit(parent_task=parent.name)
    await asyncio.gather(*(mesh.submit(parent_task=parent.name) for _ in range(MAX_CHILDREN - 1)))
    await listed(mesh, 1 + MAX_CHILDREN)
    with pytest.raises(InvalidField) as refused:
        await mesh.submit(parent_task=parent.name)
    assert refused.value.message == (
        "task.parent_task: must be a task with fewer than 100 open children."
        " Wait until some have ended"
    )
    await cancel(mesh, first)

    async def accepted() -> bool:
        try:
            await mesh.submit(parent_task=parent.name)
        except InvalidField:
            return False
        return True

    await eventually(accepted)


async def test_a_batch_does_not_pass_the_limit_of_children_together(mesh: Mesh) -> None:
    """Of three hundred children in one call exactly a hundred are accepted."""
    parent = await mesh.submit()
    request = pb.BatchSubmitTasksRequest()
    for index in range(300):
        item = request.items.add(context=batch.item_context(60, index=index))
        item.request.parent = "tenants/acme"
        item.request.task.parent_task = parent.name
        item.request.task.input.text = "x"
    results = [
        result
        async for answer in mesh.tasks.BatchSubmitTasks(request, timeout=60)
        for result in answer.results
    ]
    assert sum(not result.HasField("error") for result in results) == MAX_CHILDREN
    refused = {result.error.message for result in results if result.HasField("error")}
    assert refused == {
        "task.parent_task: must be a task with fewer than 100 open children."
        " Wait until some have ended"
    }


async def test_another_tenant_cannot_cancel_or_join_a_family(mesh: Mesh) -> None:
    """The parent's name does not help."""
    parent = await mesh.submit()
    with identity.use(Identity("other", "user:test")):
        request = pb.SubmitTaskRequest(
            parent="tenants/other",
            task=Task(input=task_pb2.TaskInput(text="x"), parent_task=parent.name),
        )
        with pytest.raises(InvalidField, match="must be a task of tenant 'other'"):
            await mesh.tasks.SubmitTask(request, timeout=60)
        with pytest.raises(Forbidden):
            await cancel(mesh, parent)


async def test_a_cancel_reaches_the_children_although_the_broker_restarts(
    nats_server: NatsServer, mesh: Mesh
) -> None:
    """What was not acknowledged is delivered again."""
    parent = await mesh.submit()
    children = [await mesh.submit(parent_task=parent.name) for _ in range(5)]
    await append(mesh, parent.name, TaskEvent(cancelled={}))
    nats_server.kill()
    nats_server.start()
    for child in children:
        await reaches(mesh, child.name, "CANCELLED")
