"""Many tasks in one call."""

import asyncio

import pytest
from google.protobuf.duration_pb2 import Duration

from agentmesh.common.v1.batch_pb2 import ItemContext
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from meshkit import identity
from meshkit.constants import BATCH_TENANT
from meshkit.errors import (
    AgentNotFound,
    Forbidden,
    InvalidField,
    MeshError,
    RequestIdReused,
    TooLarge,
    from_status,
)
from meshkit.identity import Identity
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from services.coordinator.coordinator_mesh import Mesh
from tasklog.partitions import WHOLE

pytest_plugins = ["meshtest.fixtures", "services.coordinator.coordinator_mesh"]


def _item(
    index: int,
    task: Task | None = None,
    *,
    request_id: str = "",
    tenant: str = "acme",
    seconds: int = 20,
) -> pb.BatchSubmitTasksItem:
    return pb.BatchSubmitTasksItem(
        context=ItemContext(index=index, tenant=tenant, timeout=Duration(seconds=seconds)),
        request=pb.SubmitTaskRequest(
            parent=f"tenants/{tenant}",
            task=task or Task(input=TaskInput(text=f"task {index}")),
            request_id=request_id,
        ),
    )


async def _submit(mesh: Mesh, *items: pb.BatchSubmitTasksItem) -> dict[int, Task | MeshError]:
    """What became of each item, by its index; each is answered once."""
    found: dict[int, Task | MeshError] = {}
    call = mesh.tasks.BatchSubmitTasks(pb.BatchSubmitTasksRequest(items=items), timeout=60)
    async for answers in call:
        for result in answers.results:
            assert result.index not in found
            found[result.index] = (
                from_status(result.error) if result.HasField("error") else result.response.task
            )
    return found


async def test_every_item_is_a_task(mesh: Mesh) -> None:
    """A thousand are accepted in one call, each stored with its own input."""
    found = await _submit(mesh, *(_item(index) for index in range(1_000)))
    assert sorted(found) == [*range(1_000)]
    names = {task.name for task in found.values() if isinstance(task, Task)}
    assert len(names) == 1_000
    info = await mesh.bus.stream_info(WHOLE.stream)
    assert info is not None
    assert info["state"]["messages"] == 1_000
    last = found[999]
    assert isinstance(last, Task)
    stored = await mesh.tasks.GetTask(pb.GetTaskRequest(name=last.name), timeout=60)
    assert stored.task == last
    assert stored.task.input.text == "task 999"


async def test_each_item_is_refused_by_itself(mesh: Mesh) -> None:
    """What is wrong with one says so there, and the others are accepted."""
    await mesh.submit("once", request_id="taken")
    found = await _submit(
        mesh,
        _item(0),
        _item(1, Task(input=TaskInput(text="x"), priority=-1)),
        _item(2, Task(input=TaskInput(text="x"), agent="ghost")),
        _item(3, request_id="taken"),
        _item(4, tenant="other"),
        _item(5, seconds=0),
        _item(6, Task(input=TaskInput(text="x" * (1 << 20)))),
        _item(7),
    )
    assert {index: type(answer) for index, answer in found.items()} == {
        0: Task,
        1: InvalidField,
        2: AgentNotFound,
        3: RequestIdReused,
        4: Forbidden,
        5: InvalidField,
        6: TooLarge,
        7: Task,
    }
    assert str(found[1]) == "task.priority: must be from 0 to 9"
    assert str(found[5]) == "context.timeout: must be over zero"


async def test_a_repeated_batch_is_the_same_tasks(mesh: Mesh) -> None:
    """By each item's request_id, whichever of them were accepted before."""
    first = await _submit(mesh, *(_item(index, request_id=f"r{index}") for index in range(5)))
    again = await _submit(mesh, *(_item(index, request_id=f"r{index}") for index in range(10)))
    assert {index: again[index] for index in range(5)} == first
    assert all(isinstance(task, Task) for task in again.values())
    info = await mesh.bus.stream_info(WHOLE.stream)
    assert info is not None
    assert info["state"]["messages"] == 10


async def test_the_same_request_id_twice_in_a_batch_is_one_task(mesh: Mesh) -> None:
    """Both items are answered with it."""
    task = Task(input=TaskInput(text="once"))
    found = await _submit(mesh, _item(0, task, request_id="r"), _item(1, task, request_id="r"))
    assert found[0] == found[1]


async def test_a_batch_may_carry_the_tasks_of_many_tenants(mesh: Mesh) -> None:
    """Where a service sends it: each item acts for its own tenant."""
    with identity.use(Identity(BATCH_TENANT, "service:batch")):
        found = await _submit(mesh, _item(0), _item(1, tenant="other"))
    assert {task.tenant for task in found.values() if isinstance(task, Task)} == {"acme", "other"}


async def test_a_batch_over_the_limit_is_refused_whole(mesh: Mesh) -> None:
    """With 1,001 items nothing is accepted."""
    with pytest.raises(TooLarge) as caught:
        await _submit(mesh, *(_item(index) for index in range(1_001)))
    assert str(caught.value) == "A batch of 1001 items is over the limit of 1000."
    assert caught.value.metadata == {"limit_items": "1000", "size_items": "1001"}
    assert await mesh.bus.last(WHOLE.stream, WHOLE.all_events) is None


async def test_an_empty_batch_is_answered(mesh: Mesh) -> None:
    """With nothing."""
    assert await _submit(mesh) == {}


async def test_a_batch_that_breaks_is_repeated_without_harm(
    mesh: Mesh, nats_server: NatsServer
) -> None:
    """The broker dies in the midst: after a repeat each item is one task, and none is lost."""
    items = [_item(index, request_id=f"r{index}", seconds=3) for index in range(500)]
    breaking = asyncio.create_task(_submit(mesh, *items))
    await eventually(lambda: mesh.bus.last(WHOLE.stream, WHOLE.all_events))
    nats_server.kill()
    answered = {
        index: answer for index, answer in (await breaking).items() if isinstance(answer, Task)
    }
    assert len(answered) < len(items)
    nats_server.start()
    repeated = await _submit(mesh, *(_item(index, request_id=f"r{index}") for index in range(500)))
    assert {index: repeated[index] for index in answered} == answered
    assert {task.state if isinstance(task, Task) else type(task) for task in repeated.values()} == {
        task_pb2.TASK_STATE_QUEUED
    }
    info = await mesh.bus.stream_info(WHOLE.stream)
    assert info is not None
    assert info["state"]["num_subjects"] == info["state"]["messages"] == 500
