"""Has real services go through what tasks go through, for the log and the stores that are left."""

import asyncio
import dataclasses
import importlib
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from agentmesh.common.v1 import tier_pb2, usage_pb2
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from agentmesh.coordinator.v1.task_event_pb2 import ChildResult, TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from agentmesh.governor.v1.usage_record_pb2 import UsageRecords
from audit import usage_jetstream
from meshkit import identity, redis_store
from meshkit.bus import Bus
from meshkit.errors import DependencyUnavailable
from meshkit.identity import Identity
from meshtest.eventually import eventually
from meshtest.hosting import Build, hosting
from meshtest.nats_server import NatsServer
from meshtest.proxy import FaultProxy
from meshtest.redis_server import RedisServer
from meshtest.scripted import ScriptedMemory, registrations
from services.tool.calculator import CalculatorTool
from services.tool.tool import Answer, Effect, Invocation, ToolSpec
from tasklog import lifecycle
from tasklog.partitions import WHOLE, Partitions
from tasklog.task_log import TaskLog

TENANT: Final = "acme"
# Names of the tasks that a test looks at.
PLAIN: Final = "plain"
LARGE: Final = "large"
CANCELLED: Final = "cancelled"
TAKEN_OVER: Final = "taken-over"
APPROVED: Final = "approved"
WAITING: Final = "waiting"
QUEUED: Final = "queued"
PARENT: Final = "parent"
CHILD: Final = "child"

_REACHED_WITHIN_SECONDS: Final = 60
_PRICES: Final = Path("services/governor/prices.yaml")
_FREE: Final = "  offline: {input: 0, output: 0,"
_PRICED: Final = "  offline: {input: 1000000, output: 1000000,"


class Effects(CalculatorTool):
    """The calculator as a tool that must not be called twice, and that a test can hold up."""

    def __init__(self) -> None:
        super().__init__()
        self.reached: Final = asyncio.Event()
        self.released: Final = asyncio.Event()
        self._faults: Final = ["1 * 404", "2 * 404"]

    async def is_reached(self) -> None:
        """Returns when a call waits."""
        async with asyncio.timeout(_REACHED_WITHIN_SECONDS):
            await self.reached.wait()

    @property
    def spec(self) -> ToolSpec:
        """The calculator's, but that it changes something."""
        return dataclasses.replace(super().spec, effect=Effect.UNSAFE)

    async def execute(self, invocation: Invocation) -> Answer:
        """Fails the first time at 404; waits at 505."""
        expression = str(invocation.arguments["expression"])
        if expression in self._faults:
            self._faults.remove(expression)
            raise DependencyUnavailable("Nobody knows whether it was done.")
        if "505" in expression:
            self.reached.set()
            await self.released.wait()
        return await super().execute(invocation)


class RealMesh:
    """All services in this process, on real servers."""

    def __init__(self, folder: Path, nats: NatsServer, redis: RedisServer) -> None:
        self._folder: Final = folder
        self._nats: Final = nats
        self._redis: Final = redis
        self.effects = Effects()
        self._prices: Final = folder / "prices.yaml"
        text = _PRICES.read_text("utf-8")
        assert _FREE in text, "else nothing would cost anything"
        self._prices.write_text(text.replace(_FREE, _PRICED), "utf-8")

    @asynccontextmanager
    async def running(self, *, nats_port: int = 0) -> AsyncGenerator[CoordinatorServiceStub]:
        """Everything, for as long as the block lasts; by another way to NATS where one is given."""
        builds = [self._build(name) for name in ("governor", "reasoning", "tool")]
        builds += [self._build(name) for name in ("coordinator", "executor")]
        url = f"nats://127.0.0.1:{nats_port}" if nats_port else self._nats.url
        memory = ScriptedMemory()  # pyright: ignore[reportAbstractUsage]
        with pytest.MonkeyPatch.context() as patch:
            tool: Any = importlib.import_module("services.tool.main")
            patch.setattr(tool, "CalculatorTool", lambda: self.effects)
            async with hosting(
                builds,
                data_dir=self._folder,
                nats_url=url,
                redis_url=self._redis.url,
                beside=registrations(memory),
            ) as channels:
                with identity.use(Identity(TENANT, "user:test")):
                    yield CoordinatorServiceStub(channels.get("coordinator"))

    def _build(self, name: str) -> Build:
        root: Any = importlib.import_module(f"services.{name}.main")
        settings: Any = importlib.import_module(f"services.{name}.settings")
        section = getattr(settings, f"{name.capitalize()}Settings")
        priced = {"price_book": self._prices} if name in ("governor", "reasoning") else {}
        return lambda resources: root.build(resources, section(**priced))


async def live_through_everything(
    folder: Path, nats: NatsServer, redis: RedisServer
) -> dict[str, Task]:
    """Runs tasks of every kind, and stops the mesh; the tasks by the names above."""
    mesh = RealMesh(folder, nats, redis)
    tasks: dict[str, Task] = {}
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(FaultProxy(nats.port))
        async with mesh.running(nats_port=proxy.port) as calls:
            for number in range(3):
                tasks[f"{PLAIN}-{number}"] = await _submit(calls, f"What is {number} * 17?")
            tasks[LARGE] = await _submit(calls, f"What is 2 * 3? {'Think. ' * 12_000}")
            tasks[APPROVED] = await _submit(calls, "What is 1 * 404?")
            for name in (f"{PLAIN}-{number}" for number in range(3)):
                await _reaches(calls, tasks[name], task_pb2.TASK_STATE_SUCCEEDED)
            await _reaches(calls, tasks[LARGE], task_pb2.TASK_STATE_SUCCEEDED)
            await _reaches(calls, tasks[APPROVED], task_pb2.TASK_STATE_WAITING)
            await _approve(calls, tasks[APPROVED])
            await _reaches(calls, tasks[APPROVED], task_pb2.TASK_STATE_SUCCEEDED)
            tasks[CANCELLED] = await _submit(calls, "What is 1 * 505?")
            await mesh.effects.is_reached()
            await calls.CancelTask(pb.CancelTaskRequest(name=tasks[CANCELLED].name), timeout=5)
            await _reaches(calls, tasks[CANCELLED], task_pb2.TASK_STATE_CANCELLED)
            mesh.effects.reached.clear()
            tasks[TAKEN_OVER] = await _submit(calls, "What is 2 * 505?")
            await mesh.effects.is_reached()
            # The executor is cut off between the effect and its record.
            proxy.refuse = True
            proxy.cut()
            mesh.effects.released.set()
            done = f"tool:{{{TENANT}}}:call:{task_id(tasks[TAKEN_OVER])}/1/*"
            await _finished(redis, done)
        async with mesh.running() as calls:
            await _reaches(calls, tasks[TAKEN_OVER], task_pb2.TASK_STATE_SUCCEEDED)
            tasks[WAITING] = await _submit(calls, "What is 2 * 404?")
            await _reaches(calls, tasks[WAITING], task_pb2.TASK_STATE_WAITING)
            await _settled(nats, redis)
    async with await Bus.connect(nats.url, name="played") as bus:
        await _play_a_family(TaskLog(bus, Partitions()), tasks)
        tasks[QUEUED] = await _play(TaskLog(bus, Partitions()), QUEUED, "submitted")
    return tasks


def task_id(task: Task) -> str:
    """The last part of its name."""
    return task.name.rpartition("/")[2]


async def _submit(calls: CoordinatorServiceStub, text: str) -> Task:
    request = pb.SubmitTaskRequest(
        parent=f"tenants/{TENANT}", task=Task(input=TaskInput(text=text)), request_id=text[:30]
    )
    return (await calls.SubmitTask(request, timeout=5)).task


async def _approve(calls: CoordinatorServiceStub, task: Task) -> None:
    request = pb.SignalTaskRequest(name=task.name, request_id="approval")
    request.signal.approval.SetInParent()
    await calls.SignalTask(request, timeout=5)


async def _reaches(calls: CoordinatorServiceStub, task: Task, state: task_pb2.TaskState) -> None:
    async def there() -> bool:
        found = (await calls.GetTask(pb.GetTaskRequest(name=task.name), timeout=5)).task
        assert found.state == state, found
        return True

    await eventually(there, 20)


async def _finished(redis: RedisServer, pattern: str) -> None:
    client: Any = redis_store.connect(redis.url)

    async def there() -> bool:
        names = [name async for name in client.scan_iter(match=pattern)]
        return [await client.hget(name, "state") for name in names] == [b"finished"]

    await eventually(there, 10)
    await client.aclose()


async def _settled(nats: NatsServer, redis: RedisServer) -> None:
    """Returns when every step with a cost is in the journal of usage, and counted."""
    client: Any = redis_store.connect(redis.url)

    async def there() -> bool:
        async with await Bus.connect(nats.url, name="settled") as bus:
            events = [
                TaskEvent.FromString(message.payload)
                async for message in bus.read(WHOLE.stream, WHOLE.all_events)
            ]
            records = [
                record
                async for message in bus.read(usage_jetstream.STREAM, usage_jetstream.SUBJECT)
                for record in UsageRecords.FromString(message.payload).records
            ]
        paid = sum(1 for event in events if event.usage.cost_micros)
        costs = {record.key: record.usage.cost_micros for record in records}
        assert sum(1 for cost in costs.values() if cost) == paid
        async for counter in client.scan_iter(f"governor:{{spend}}:tenant:{TENANT}:*"):
            assert int(await client.hget(counter, "spent")) == sum(costs.values())
        return True

    await eventually(there, 20)
    await client.aclose()


async def _play_a_family(log: TaskLog, tasks: dict[str, Task]) -> None:
    """A parent that waited for its child, as coordinator and executor write it."""
    name = f"tenants/{TENANT}/tasks/{PARENT}"
    child_name = f"tenants/{TENANT}/tasks/{CHILD}"
    waiting = TaskEvent()
    waiting.waiting.wait.children.tasks.append(child_name)
    await _play(log, PARENT, "submitted", "started", waiting)
    model = TaskEvent()
    model.completed.model_called.step = 1
    tasks[CHILD] = await _play(log, CHILD, "submitted", "started", model, parent=name)
    resumed = TaskEvent()
    resumed.resumed.children.append(
        ChildResult(task=child_name, state=task_pb2.TASK_STATE_SUCCEEDED, usage=_USAGE)
    )
    calls = [TaskEvent(), TaskEvent()]
    for number, call in enumerate(calls):
        call.tool_called.step = number + 1
        call.tool_called.result.tool = "played"
        call.tool_called.idempotency_key = f"{PARENT}/1/call-{number}"
    tasks[PARENT] = await _play(log, PARENT, resumed, "started", *calls, "completed")


# Without cost: nobody has charged for it.
_USAGE: Final = usage_pb2.Usage(input_tokens=7, output_tokens=3, model_calls=1)


async def _play(log: TaskLog, task: str, *kinds: str | TaskEvent, parent: str = "") -> Task:
    """Appends events as their writers would."""
    name = f"tenants/{TENANT}/tasks/{task}"
    for kind in kinds:
        event = TaskEvent()
        if isinstance(kind, TaskEvent):
            event.CopyFrom(kind)
        else:
            getattr(event, kind).SetInParent()
        event.task, event.writer = name, "executor/played"
        last = await log.last(TENANT, task)
        if last is None:
            _accept(event, parent)
        before = event.status if last is None else last.event.status
        sequence = 1 if last is None else last.event.sequence + 1
        if event.HasField("started"):
            event.started.attempt = before.attempt + 1
            event.started.resumed_after = sequence - 1
        uses = event.HasField("resumed") or event.completed.HasField("model_called")
        lifecycle.advance(
            type(before).FromString(before.SerializeToString()),
            event,
            sequence=sequence,
            time=datetime.now(UTC),
            state=task_pb2.TASK_STATE_SUCCEEDED if event.HasField("completed") else None,
            usage=_USAGE if uses else None,
        )
        await log.append(TENANT, task, event, after=0 if last is None else last.stream_sequence)
    return Task(name=name)


def _accept(event: TaskEvent, parent: str) -> None:
    task, status, now = event.submitted.task, event.status, datetime.now(UTC)
    task.name, task.tenant, task.lane = event.task, TENANT, tier_pb2.LANE_STANDARD
    task.parent_task, task.depth = parent, 1 if parent else 0
    status.lane, status.parent_task = task.lane, parent
    status.time_limit.FromTimedelta(timedelta(seconds=120))
    status.create_time.FromDatetime(now)
    status.deadline.FromDatetime(now + timedelta(seconds=120))
