"""Following a task over broken connections, against a real server."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2_grpc
from agentmesh.coordinator.v1.coordinator_service_pb2 import (
    GetTaskRequest,
    GetTaskResponse,
    RunTaskRequest,
    RunTaskResponse,
    WatchTaskRequest,
    WatchTaskResponse,
)
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task, TaskState
from cli import follow
from cli.gateway import Gateway
from cli.task_state import good
from meshkit import errors, identity
from meshkit.server import Registration
from meshtest.serving import serving

_NAME = "tenants/default/tasks/t1"


def _event(sequence: int, *, last: bool = False) -> TaskEvent:
    event = TaskEvent(sequence=sequence, task=_NAME)
    event.status.state = TaskState.TASK_STATE_SUCCEEDED if last else TaskState.TASK_STATE_RUNNING
    return event


class _Coordinator(coordinator_service_pb2_grpc.CoordinatorServiceServicer):
    """A task of five events whose streams break after each one."""

    def __init__(self) -> None:
        self.watched_after: list[int] = []

    async def RunTask(
        self, request: RunTaskRequest, context: Any
    ) -> AsyncIterator[RunTaskResponse]:
        if not request.task.input.text:
            raise errors.InvalidField("task.input", "is empty")
        yield RunTaskResponse(task=Task(name=_NAME, state=TaskState.TASK_STATE_QUEUED))
        yield RunTaskResponse(event=_event(1))
        raise errors.ShuttingDown("The server goes.")

    async def WatchTask(
        self, request: WatchTaskRequest, context: Any
    ) -> AsyncIterator[WatchTaskResponse]:
        if request.name != _NAME:
            raise errors.TaskNotFound(f"There is no task {request.name}.")
        self.watched_after.append(request.after_sequence)
        following = request.after_sequence + 1
        yield WatchTaskResponse(event=_event(following, last=following == 5))
        if following < 5:
            raise errors.DependencyUnavailable("NATS is away.")

    async def GetTask(self, request: GetTaskRequest, context: Any) -> GetTaskResponse:
        return GetTaskResponse(
            task=Task(name=_NAME, state=TaskState.TASK_STATE_SUCCEEDED, last_sequence=5)
        )


@pytest.fixture
async def coordinator() -> _Coordinator:
    servicer: Any = _Coordinator  # the RPCs that it lacks answer UNIMPLEMENTED
    return servicer()


@pytest.fixture
async def gateway(coordinator: _Coordinator) -> AsyncIterator[Gateway]:
    add: Callable[..., None] = coordinator_service_pb2_grpc.add_CoordinatorServiceServicer_to_server
    registration = Registration("agentmesh.coordinator.v1.CoordinatorService", add, coordinator)
    async with serving([registration], caller="user:cli") as channels:
        with identity.use(identity.Identity("default", "user:cli")):
            yield Gateway(channels, "test")


async def test_a_broken_watch_goes_on_after_the_last_event(
    gateway: Gateway, coordinator: _Coordinator
) -> None:
    """Every event comes once and in order, however often the stream breaks."""
    seen = [
        each.sequence async for each in follow.watch(gateway, _NAME) if isinstance(each, TaskEvent)
    ]
    assert seen == [1, 2, 3, 4, 5]
    assert coordinator.watched_after == [0, 1, 2, 3, 4]


async def test_watch_begins_where_it_is_told(gateway: Gateway, coordinator: _Coordinator) -> None:
    """Events up to the given one are not sent again."""
    seen = [
        each.sequence
        async for each in follow.watch(gateway, _NAME, after_sequence=3)
        if isinstance(each, TaskEvent)
    ]
    assert seen == [4, 5]


async def test_a_broken_run_ends_with_the_task(gateway: Gateway, coordinator: _Coordinator) -> None:
    """A run whose stream breaks is followed to its end: task, events, ended task."""
    request = RunTaskRequest(parent="tenants/default")
    request.task.input.text = "go"
    updates = [each async for each in follow.run(gateway, request)]
    assert [each.sequence for each in updates if isinstance(each, TaskEvent)] == [1, 2, 3, 4, 5]
    first, last = updates[0], updates[-1]
    assert isinstance(first, Task)
    assert first.state == TaskState.TASK_STATE_QUEUED
    assert isinstance(last, Task)
    assert good(last)


async def test_a_refused_run_is_raised(gateway: Gateway) -> None:
    """What the coordinator refuses is the caller's to know, and is not tried again."""
    with pytest.raises(errors.InvalidField, match=r"^task\.input: is empty$"):
        async for _ in follow.run(gateway, RunTaskRequest(parent="tenants/default")):
            pass


async def test_an_unknown_task_is_raised(gateway: Gateway) -> None:
    """Watching a task that is not there fails at once."""
    with pytest.raises(errors.TaskNotFound, match=r"^There is no task tenants/default/tasks/x\.$"):
        async for _ in follow.watch(gateway, "tenants/default/tasks/x"):
            pass
