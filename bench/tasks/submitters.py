"""The ways in which a client gives the mesh a task and learns of its end."""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Any, Final, Protocol

import grpc

from agentmesh.common.v1 import batch_pb2
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from agentmesh.coordinator.v1.task_pb2 import TASK_STATE_SUCCEEDED, Task, TaskInput, TaskState
from bench.tasks.load import Client, Lane
from meshkit import batch
from meshkit.coalesce import Coalescer
from meshkit.constants import TENANT_KEY
from meshkit.errors import MeshError, from_rpc_error
from tasklog import subjects

_MAX_ITEMS: Final = 256
_LANES: Final = {name: lane for lane, name in subjects.LANES.items()}
# What a task is asked, in bytes: that of the published comparisons.
_INPUT: Final = "Do what the stub model says. ".ljust(200, "i")


class TaskEndedOtherwise(Exception):
    """A task ended, and not well; the text says how."""


class Submitter(Protocol):
    """Gives the mesh a task, and waits for its result."""

    async def submit(self, tenant: str, agent: str) -> None:
        """Returns when the task has succeeded. Raises MeshError and TaskEndedOtherwise."""
        ...


def submitter(
    channel: grpc.aio.Channel, client: Client, *, task_seconds: float, lane: Lane
) -> Submitter:
    """The way that `client` names. `task_seconds`: how long a task may take."""
    stub = CoordinatorServiceStub(channel)
    if client == "batch":
        return BatchSubmitter(stub, task_seconds, lane)
    return RunSubmitter(stub, task_seconds, lane, result_only=client == "run")


class RunSubmitter:
    """RunTask: a call for each task, which answers when it has ended."""

    def __init__(
        self, stub: CoordinatorServiceStub, task_seconds: float, lane: Lane, *, result_only: bool
    ) -> None:
        self._run: Final[Any] = stub.RunTask
        self._task_seconds: Final = task_seconds
        self._lane: Final[Lane] = lane
        self._result_only: Final = result_only

    async def submit(self, tenant: str, agent: str) -> None:
        """As Submitter."""
        request = pb.RunTaskRequest(
            parent=f"tenants/{tenant}",
            task=_task(tenant, agent, self._lane),
            result_only=self._result_only,
        )
        updates: AsyncIterable[pb.RunTaskResponse] = self._run(
            request, timeout=self._task_seconds, metadata=((TENANT_KEY, tenant),)
        )
        last = None
        try:
            async for update in updates:
                last = update
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        if last is None or last.task.state != TASK_STATE_SUCCEEDED:
            raise TaskEndedOtherwise(_told(last.task if last else Task()))


class BatchSubmitter:
    """BatchSubmitTasks for those that come at the same time, and a watcher for each."""

    def __init__(self, stub: CoordinatorServiceStub, task_seconds: float, lane: Lane) -> None:
        self._batch: Final[Any] = stub.BatchSubmitTasks
        self._watch: Final[Any] = stub.WatchTask
        self._task_seconds: Final = task_seconds
        self._lane: Final[Lane] = lane
        self._by_tenant: Final[
            dict[str, Coalescer[pb.BatchSubmitTasksItem, pb.SubmitTaskResponse]]
        ] = {}

    async def submit(self, tenant: str, agent: str) -> None:
        """As Submitter."""
        task = await self._accepted(tenant, agent)
        # The first event, the submission, is known.
        request = pb.WatchTaskRequest(name=task.name, after_sequence=1)
        updates: AsyncIterable[pb.WatchTaskResponse] = self._watch(
            request, timeout=self._task_seconds, metadata=((TENANT_KEY, tenant),)
        )
        last = None
        try:
            async for update in updates:
                last = update
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        if last is None or last.event.status.state != TASK_STATE_SUCCEEDED:
            raise TaskEndedOtherwise(_told(Task(state=last.event.status.state) if last else Task()))

    async def _accepted(self, tenant: str, agent: str) -> Task:
        item = item_of(tenant, agent, timeout_seconds=self._task_seconds, lane=self._lane)
        return (await self._coalescer(tenant).call(item)).task

    def _coalescer(self, tenant: str) -> Coalescer[pb.BatchSubmitTasksItem, pb.SubmitTaskResponse]:
        found = self._by_tenant.get(tenant)
        if found is None:

            def send(
                items: Sequence[tuple[int, pb.BatchSubmitTasksItem]],
            ) -> AsyncIterator[tuple[int, pb.SubmitTaskResponse | MeshError]]:
                return batch.exchange(items, lambda those: self._send(tenant, those))

            found = self._by_tenant[tenant] = Coalescer(send, max_items=_MAX_ITEMS)
        return found

    async def _send(
        self, tenant: str, items: Sequence[pb.BatchSubmitTasksItem]
    ) -> AsyncIterator[pb.BatchSubmitTasksResponse]:
        answers = self._batch(
            pb.BatchSubmitTasksRequest(items=items),
            timeout=self._task_seconds,
            metadata=((TENANT_KEY, tenant),),
        )
        try:
            async for answer in answers:
                yield answer
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error


def item_of(
    tenant: str, agent: str, *, timeout_seconds: float, index: int = 0, lane: Lane = "standard"
) -> pb.BatchSubmitTasksItem:
    """A task as an item of BatchSubmitTasks."""
    context = batch_pb2.ItemContext(index=index, tenant=tenant)
    context.timeout.FromMilliseconds(round(timeout_seconds * 1000))
    request = pb.SubmitTaskRequest(parent=f"tenants/{tenant}", task=_task(tenant, agent, lane))
    return pb.BatchSubmitTasksItem(context=context, request=request)


def _task(tenant: str, agent: str, lane: Lane) -> Task:
    return Task(
        agent=f"tenants/{tenant}/agents/{agent}",
        input=TaskInput(text=_INPUT),
        lane=_LANES[lane],
    )


def _told(task: Task) -> str:
    state = TaskState.Name(task.state).removeprefix("TASK_STATE_")
    return f"task ended {state}: {task.error.message}" if task.error.message else f"task {state}"
