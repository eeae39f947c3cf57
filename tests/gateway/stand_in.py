"""Services with the real contracts that do as the name of the task says."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

from agentmesh.access.v1 import access_service_pb2_grpc
from agentmesh.coordinator.v1 import (
    agent_service_pb2_grpc,
    coordinator_service_pb2,
    coordinator_service_pb2_grpc,
    queue_service_pb2_grpc,
    read_model_service_pb2_grpc,
    schedule_service_pb2_grpc,
    task_event_pb2,
    task_pb2,
)
from agentmesh.governor.v1 import cost_governor_service_pb2_grpc
from agentmesh.memory.v1 import memory_service_pb2_grpc
from agentmesh.reasoning.v1 import reasoning_service_pb2_grpc
from agentmesh.tool.v1 import tool_service_pb2_grpc
from meshkit import deadline, identity, trace
from meshkit.errors import DependencyUnavailable, InvalidField, TaskNotFound
from meshkit.server import Registration

# Ids of tasks with a behaviour; all others are just answered.
DIES = "dies"
HANGS = "hangs"
WAITS = "waits"
UNAVAILABLE = "unavailable"
MISSING = "missing"

# Typed as abstract, though what is not overridden answers UNIMPLEMENTED.
_Servicer: Any = coordinator_service_pb2_grpc.CoordinatorServiceServicer


class StandInCoordinator(_Servicer):
    """Answers tasks that say, in their labels, how the call arrived."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        # Calls by method, those included that were never answered.
        self.calls: dict[str, int] = {}
        # For which calls of WAITS wait.
        self.go_on = asyncio.Event()

    def forget(self) -> None:
        """Is as it was before the first call."""
        self.calls.clear()
        self.go_on.clear()

    async def GetTask(self, request: Any, context: Any) -> Any:
        """Any task, after what its id asks for."""
        await self._behave("GetTask", request.name)
        return coordinator_service_pb2.GetTaskResponse(task=self._task(request.name, context))

    async def SubmitTask(self, request: Any, context: Any) -> Any:
        """The task as given, named after its request."""
        if request.task.agent == "nobody":
            raise InvalidField("task.agent", "must name an agent")
        name = f"{request.parent}/tasks/{request.request_id or 'new'}"
        await self._behave("SubmitTask", name)
        task = self._task(name, context)
        task.input.text = request.task.input.text
        return coordinator_service_pb2.SubmitTaskResponse(task=task)

    async def RunTask(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """The task, an event and a piece of text."""
        name = f"{request.parent}/tasks/{request.request_id or 'new'}"
        await self._behave("RunTask", name)
        response = coordinator_service_pb2.RunTaskResponse
        yield response(task=self._task(name, context))
        yield response(event=task_event_pb2.TaskEvent(sequence=7))
        yield response(delta=coordinator_service_pb2.TextDelta(step=1, text="spoken"))

    def _task(self, name: str, context: Any) -> Any:
        span = trace.current()
        headers = [key for key, _ in context.invocation_metadata()]
        return task_pb2.Task(
            name=name,
            tenant=identity.current().tenant,
            labels={
                "instance": self._instance,
                "caller": identity.current().caller,
                "role": identity.current().role.value,
                "trace_id": span.trace_id if span else "",
                "remaining_seconds": f"{deadline.remaining_seconds() or 0:.3f}",
                "headers": " ".join(sorted(headers)),
                "calls": " ".join(f"{method}={n}" for method, n in sorted(self.calls.items())),
            },
        )

    async def _behave(self, method: str, name: str) -> None:
        self.calls[method] = self.calls.get(method, 0) + 1
        match name.rpartition("/")[2]:
            case "dies":
                os._exit(1)
            case "hangs":
                await asyncio.Event().wait()
            case "waits":
                await self.go_on.wait()
            case "unavailable":
                raise DependencyUnavailable("Not today.")
            case "missing":
                raise TaskNotFound(f"There is no task {name!r}.")
            case _:
                pass


def registrations(coordinator: StandInCoordinator) -> Sequence[Registration]:
    """Every service of the mesh; all but the coordinator are not implemented."""
    # The types of generated code call the servicers abstract; they answer UNIMPLEMENTED.
    agents: Any = agent_service_pb2_grpc
    queues: Any = queue_service_pb2_grpc
    read_models: Any = read_model_service_pb2_grpc
    schedules: Any = schedule_service_pb2_grpc
    access: Any = access_service_pb2_grpc
    reasoning: Any = reasoning_service_pb2_grpc
    memory: Any = memory_service_pb2_grpc
    tool: Any = tool_service_pb2_grpc
    governor: Any = cost_governor_service_pb2_grpc
    return [
        Registration(
            "agentmesh.coordinator.v1.CoordinatorService",
            coordinator_service_pb2_grpc.add_CoordinatorServiceServicer_to_server,
            coordinator,
        ),
        Registration(
            "agentmesh.coordinator.v1.AgentService",
            agents.add_AgentServiceServicer_to_server,
            agents.AgentServiceServicer(),
        ),
        Registration(
            "agentmesh.coordinator.v1.QueueService",
            queues.add_QueueServiceServicer_to_server,
            queues.QueueServiceServicer(),
        ),
        Registration(
            "agentmesh.coordinator.v1.ReadModelService",
            read_models.add_ReadModelServiceServicer_to_server,
            read_models.ReadModelServiceServicer(),
        ),
        Registration(
            "agentmesh.coordinator.v1.ScheduleService",
            schedules.add_ScheduleServiceServicer_to_server,
            schedules.ScheduleServiceServicer(),
        ),
        Registration(
            "agentmesh.access.v1.AccessService",
            access.add_AccessServiceServicer_to_server,
            access.AccessServiceServicer(),
        ),
        Registration(
            "agentmesh.reasoning.v1.ReasoningService",
            reasoning.add_ReasoningServiceServicer_to_server,
            reasoning.ReasoningServiceServicer(),
        ),
        Registration(
            "agentmesh.memory.v1.MemoryService",
            memory.add_MemoryServiceServicer_to_server,
            memory.MemoryServiceServicer(),
        ),
        Registration(
            "agentmesh.tool.v1.ToolService",
            tool.add_ToolServiceServicer_to_server,
            tool.ToolServiceServicer(),
        ),
        Registration(
            "agentmesh.governor.v1.CostGovernorService",
            governor.add_CostGovernorServiceServicer_to_server,
            governor.CostGovernorServiceServicer(),
        ),
    ]
