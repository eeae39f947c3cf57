"""Executors on a real broker, with models and tools that follow a script; only for tests."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agentmesh.common.v1 import conversation_pb2, tier_pb2
from agentmesh.common.v1.conversation_pb2 import ToolCall, ToolResult
from agentmesh.coordinator.v1 import task_event_pb2
from agentmesh.coordinator.v1.queue_service_pb2 import QueuePolicy
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskStatus
from agentmesh.coordinator.v1.task_pb2 import Task
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from agentmesh.tool.v1 import tool_pb2
from agentmesh.tool.v1 import tool_service_pb2 as tool
from meshkit.bus import Bus
from meshtest.eventually import eventually
from meshtest.hosting import hosting
from meshtest.proxy import FaultProxy
from meshtest.scripted import (
    ScriptedMemory,
    ScriptedReasoning,
    ScriptedTools,
    calls,
    registrations,
    says,
)
from services.executor.main import build
from services.executor.settings import ExecutorSettings
from tasklog import fold, lifecycle, subjects
from tasklog.partitions import Partitions
from tasklog.policy import built_in
from tasklog.policy_store import PolicyStore
from tasklog.queues import Queues
from tasklog.subjects import Queue
from tasklog.task_log import TaskLog

CALL = ToolCall(call_id="c1", tool="effect")


@dataclass
class Bench:
    """One broker, scripted services, and executors that come and go."""

    nats_url: str
    folder: Path
    log: TaskLog
    bus: Bus
    policies: PolicyStore
    queues: Queues
    models: ScriptedReasoning
    tools: ScriptedTools
    memory: ScriptedMemory

    async def submit(
        self,
        *,
        tenant: str = "acme",
        lane: tier_pb2.Lane = tier_pb2.LANE_STANDARD,
        priority: int = 0,
        seconds: float = 600,
        session: str = "",
        agent: task_event_pb2.AgentSpec | None = None,
        budget_micros: int = 0,
        text: str = "do it",
    ) -> str:
        """Writes what the coordinator would; the task's id."""
        self._count = getattr(self, "_count", 0) + 1
        task_id = f"t{self._count}"
        now = datetime.now(UTC)
        task = Task(
            name=subjects.task_name(tenant, task_id),
            tenant=tenant,
            lane=lane,
            session=session,
            budget_micros=budget_micros,
        )
        task.input.text = text
        task.create_time.FromDatetime(now)
        status = TaskStatus(lane=lane, priority=priority)
        status.create_time.FromDatetime(now)
        status.time_limit.FromTimedelta(timedelta(seconds=seconds))
        status.deadline.FromDatetime(now + timedelta(seconds=seconds))
        event = lifecycle.new_event(task.name, "coordinator/test")
        event.submitted.task.CopyFrom(task)
        event.submitted.agent.CopyFrom(
            agent
            or task_event_pb2.AgentSpec(
                name="tenants/acme/agents/a@1",
                instructions="Be brief.",
                max_steps=8,
                use_session_memory=True,
            )
        )
        lifecycle.advance(status, event, sequence=1, time=now)
        await self.queues.ensure(Queue(tenant, lane, priority))
        await self.log.append(tenant, task_id, event, after=0)
        return task_id

    @asynccontextmanager
    async def executor(self) -> AsyncGenerator[None]:
        """An executor, for as long as the block lasts."""
        async with hosting(
            [lambda resources: build(resources, ExecutorSettings())],
            data_dir=self.folder,
            nats_url=self.nats_url,
            beside=registrations(self.models, self.tools, self.memory),
        ):
            yield

    @asynccontextmanager
    async def dying_executor(self) -> AsyncGenerator[None]:
        """An executor that is cut off from everything at the end of the block, as if killed."""
        async with (
            self.proxy() as proxy,
            hosting(
                [lambda resources: build(resources, ExecutorSettings())],
                data_dir=self.folder,
                nats_url=self.url_by(proxy),
                beside=registrations(self.models, self.tools, self.memory),
            ),
        ):
            yield
            proxy.refuse = True
            proxy.cut()

    def proxy(self) -> FaultProxy:
        """What may stand before the broker; see `url_by`."""
        port = urlsplit(self.nats_url).port
        assert port is not None
        return FaultProxy(port)

    def url_by(self, proxy: FaultProxy) -> str:
        """Where clients connect by way of `proxy`."""
        port = urlsplit(self.nats_url).port
        return self.nats_url.replace(f":{port}", f":{proxy.port}")

    async def request_cancel(self, task_id: str, reason: str) -> None:
        """Writes what the coordinator would."""
        last = await self.log.last("acme", task_id)
        assert last is not None
        event = lifecycle.new_event(last.event.task, "coordinator/test")
        event.cancel_requested.reason = reason
        lifecycle.advance(
            last.event.status, event, sequence=last.event.sequence + 1, time=datetime.now(UTC)
        )
        await self.log.append("acme", task_id, event, after=last.stream_sequence)

    async def events(self, task_id: str) -> list[TaskEvent]:
        """The task's log."""
        return [entry.event async for entry in self.log.read("acme", task_id)]

    async def ended(self, task_id: str, timeout_seconds: float = 60) -> Task:
        """The task, once it has ended; its log replays without a fault."""

        async def terminal() -> bool:
            last = await self.log.last("acme", task_id)
            return last is not None and last.event.status.state in lifecycle.TERMINAL

        await eventually(terminal, timeout_seconds)
        fold.replay(await self.events(task_id))
        return await self.log.task("acme", task_id)


@pytest.fixture
async def bench(nats_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    """A model that asks for the tool once and then answers, and a tool that works."""

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        """Asks for the tool once, then answers."""
        if request.messages[-1].role == conversation_pb2.ROLE_TOOL:
            return says("done: " + request.messages[-1].tool_result.text)
        return calls(CALL)

    async def execute(request: tool.ExecuteToolRequest) -> ToolResult:
        return ToolResult(call_id=request.call.call_id, tool="effect", text="effect happened")

    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(await Bus.connect(nats_url, name="bench"))
        log = TaskLog(bus, Partitions())
        await log.prepare()
        policies = PolicyStore(bus)
        await policies.prepare()
        await policies.set(impatient())
        yield Bench(
            nats_url,
            tmp_path,
            log,
            bus,
            policies,
            Queues(bus, Partitions(), policies),
            ScriptedReasoning(answer),  # pyright: ignore[reportAbstractUsage]
            ScriptedTools(  # pyright: ignore[reportAbstractUsage]
                execute, tool_pb2.EFFECT_IDEMPOTENT
            ),
            ScriptedMemory(),  # pyright: ignore[reportAbstractUsage]
        )


def impatient() -> QueuePolicy:
    """The built-in policy, with hardly a pause between attempts."""
    policy = built_in()
    for lane in policy.lanes:
        lane.retry_base.FromMilliseconds(10)
    return policy


def kinds(events: list[TaskEvent]) -> list[str]:
    """What happened, in order."""
    return [event.WhichOneof("kind") or "" for event in events]
