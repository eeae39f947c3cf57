"""People who answer what tasks ask, and who follow tasks that they run."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.agent_service_pb2 import CreateAgentRequest
from agentmesh.coordinator.v1.agent_service_pb2_grpc import AgentServiceStub
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec, TaskSignal
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from meshkit.client import Channels
from meshkit.errors import MeshError, is_retryable
from meshtest.eventually import eventually

T = TypeVar("T")

# Of whom no load lists the tasks.
TENANT: Final = "delta"
_PATIENCE_SECONDS: Final = 60.0


class People:
    """Tasks that ask people, and who follows others to their end, whatever breaks off."""

    def __init__(self, channels: Channels) -> None:
        self._tasks: Final = CoordinatorServiceStub(channels.get("gateway"))
        self._agents: Final = AgentServiceStub(channels.get("gateway"))
        # What came of each task that was run and followed.
        self.runs: Final[list[Task]] = []
        self.broken_off: Final[list[MeshError]] = []

    async def employ(self) -> None:
        """Creates the agent that asks."""
        spec = AgentSpec(instructions="Ask.", tools=["ask_person"])
        await self._agents.CreateAgent(
            CreateAgentRequest(parent=f"tenants/{TENANT}", agent_id="asker", spec=spec), timeout=20
        )

    async def ask(self, count: int) -> Sequence[str]:
        """The names of tasks that wait for an answer."""
        names = [await self._asked(number) for number in range(count)]
        for name in names:
            await self.reaches(name, task_pb2.TASK_STATE_WAITING)
        return names

    async def _asked(self, number: int) -> str:
        task = Task(
            input=TaskInput(text="Ask me which colour the logo should have."),
            agent=f"tenants/{TENANT}/agents/asker",
        )
        request = pb.SubmitTaskRequest(
            parent=f"tenants/{TENANT}", task=task, request_id=f"ask-{number}"
        )
        return (await self._tasks.SubmitTask(request, timeout=20)).task.name

    async def answer(self, name: str) -> None:
        """Answers a task that waits; it ends with the answer."""
        signal = TaskSignal(input=TaskInput(text="blue"))
        request = pb.SignalTaskRequest(name=name, signal=signal, request_id=f"answer-{name}")
        await self._repeated(lambda: self._tasks.SignalTask(request, timeout=20))
        task = await self.reaches(name, task_pb2.TASK_STATE_SUCCEEDED)
        assert task.output.text == "“Which colour the logo should have?” was answered: blue."

    async def reaches(self, name: str, state: task_pb2.TaskState) -> Task:
        """The task in that state."""

        async def there() -> Task:
            request = pb.GetTaskRequest(name=name)
            answer = await self._repeated(lambda: self._tasks.GetTask(request, timeout=20))
            assert answer.task.state == state, answer.task
            return answer.task

        return await eventually(there, _PATIENCE_SECONDS)

    async def _repeated(self, call: Callable[[], Awaitable[T]]) -> T:
        """The answer to a call that may be made again where it failed by what passes."""
        for _ in range(3):
            try:
                return await call()
            except MeshError as error:
                if not is_retryable(error):
                    raise
                self.broken_off.append(error)
                await asyncio.sleep(error.retry_after_seconds or 0.25)
        return await call()

    async def run_tasks(self, enough: asyncio.Event) -> None:
        """Runs one task after the other with the words of its model, until it is enough."""
        number = 0
        while not enough.is_set():
            number += 1
            request = pb.RunTaskRequest(
                parent=f"tenants/{TENANT}",
                task=Task(input=TaskInput(text=f"What is {number} * 3?")),
                request_id=f"run-{number}",
            )
            self.runs.append(await self._repeated(partial(self._run, request)))

    async def _run(self, request: pb.RunTaskRequest) -> Task:
        task = Task()
        async for update in self._tasks.RunTask(request, timeout=_PATIENCE_SECONDS):
            if update.HasField("task"):
                task = update.task
        return task
