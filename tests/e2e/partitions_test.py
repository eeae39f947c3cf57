"""A mesh whose task log is cut into four: nobody who uses it can tell."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf import json_format

from agentmesh.common.v1 import tier_pb2
from agentmesh.common.v1.conversation_pb2 import ROLE_TOOL, ROLE_USER, ToolCall
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import schedule_service_pb2, task_pb2
from agentmesh.coordinator.v1.agent_service_pb2 import CreateAgentRequest
from agentmesh.coordinator.v1.agent_service_pb2_grpc import AgentServiceStub
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from agentmesh.coordinator.v1.schedule_service_pb2 import Schedule
from agentmesh.coordinator.v1.schedule_service_pb2_grpc import ScheduleServiceStub
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec, TaskSignal
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from audit import api as audit
from audit.api import Invariant
from meshkit import identity, redis_store
from meshkit.bus import Bus
from meshkit.client import Channels
from meshkit.config import ConfigError
from meshkit.errors import Internal
from meshkit.identity import Identity
from meshtest.clock import RunningClock
from meshtest.eventually import eventually
from meshtest.hosting import hosting
from meshtest.nats_server import NatsServer
from meshtest.redis_server import RedisServer
from meshtest.scripted import (
    ScriptedGovernor,
    ScriptedMemory,
    ScriptedReasoning,
    calls,
    registrations,
    says,
)
from services.coordinator.main import build as build_coordinator
from services.coordinator.settings import CoordinatorSettings
from services.executor.main import build as build_executor
from services.executor.settings import ExecutorSettings
from services.tool.main import build as build_tool
from services.tool.settings import ToolSettings
from tasklog import fold, lifecycle
from tasklog.partitions import WHOLE, Partitions
from tasklog.policy import built_in
from tasklog.policy_store import PolicyStore
from tests.audit.later_clock import LaterClock

pytest_plugins = ["meshtest.fixtures"]

_COUNT: Final = 4
_PARTITIONS: Final = Partitions(_COUNT)
# One in each partition, and another one in the last.
_TENANTS: Final = ("north", "delta", "gamma", "acme", "alpha")
# What the model does for a task, by its text.
_CALLS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "calculate": ("calculator", {"expression": "6 * 7"}),
    "ask": ("ask_person", {"question": "Which?"}),
    "wait": ("wait", {"seconds": 0.2}),
    "delegate": ("delegate", {"tasks": [{"text": "one"}, {"text": "other"}]}),
}
_WITHIN_SECONDS: Final = 60.0
# Where a machine is so slow that the first minute is missed, the next one must do.
_MINUTE_SECONDS: Final = 120.0


class _Model:
    """Calls the tool that the task is named after, and says what came of it."""

    def __init__(self) -> None:
        self.is_ill = True

    async def answer(self, request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        """The next message; it costs nothing."""
        (asked,) = (each for each in request.messages if each.role == ROLE_USER)
        text = asked.parts[0].text
        if text == "fail" and self.is_ill:
            raise Internal("The model is ill.")
        name, arguments = _CALLS.get(text, ("", {}))
        if request.messages[-1].role == ROLE_TOOL or not name:
            answer = says(f"{text} is done")
        else:
            call = ToolCall(call_id="c1", tool=name)
            json_format.ParseDict(arguments, call.arguments)
            answer = calls(call)
        answer.usage.cost_micros = 0
        return answer


class _User:
    """A user of one tenant."""

    def __init__(self, channels: Channels, tenant: str) -> None:
        self.tenant: Final = tenant
        channel = channels.get("coordinator")
        self.tasks: Final = CoordinatorServiceStub(channel)
        self.schedules: Final = ScheduleServiceStub(channel)
        self.agents: Final = AgentServiceStub(channel)

    @property
    def parent(self) -> str:
        """The tenant's name."""
        return f"tenants/{self.tenant}"

    async def submit(self, text: str, lane: tier_pb2.Lane = tier_pb2.LANE_STANDARD) -> str:
        """The name of a task that was accepted."""
        task = Task(input=TaskInput(text=text), lane=lane, agent=f"{self.parent}/agents/all")
        request = pb.SubmitTaskRequest(parent=self.parent, task=task)
        return (await self.tasks.SubmitTask(request, timeout=10)).task.name

    async def reaches(self, name: str, state: task_pb2.TaskState) -> Task:
        """The task, once it is in that state."""

        async def task() -> Task | None:
            found = (await self.tasks.GetTask(pb.GetTaskRequest(name=name), timeout=10)).task
            assert found.state == state or found.state not in lifecycle.TERMINAL, found
            return found if found.state == state else None

        found = await eventually(task, _WITHIN_SECONDS)
        assert found is not None
        return found

    async def ends(self, name: str) -> Task:
        """The task, once it has succeeded."""
        return await self.reaches(name, task_pb2.TASK_STATE_SUCCEEDED)

    async def watch(self, name: str) -> list[int]:
        """The numbers of a task's events, to its end."""
        request = pb.WatchTaskRequest(name=name)
        return [
            update.event.sequence
            async for update in self.tasks.WatchTask(request, timeout=_WITHIN_SECONDS)
            if update.HasField("event")
        ]

    async def log(self, name: str) -> list[str]:
        """What happened to a task; its log replays."""
        request = pb.ListTaskEventsRequest(name=name, page_size=1000)
        events = (await self.tasks.ListTaskEvents(request, timeout=10)).events
        fold.replay(events)
        return [event.WhichOneof("kind") or "" for event in events]

    async def listed(self) -> set[str]:
        """The names of all tasks of the tenant."""
        request = pb.ListTasksRequest(parent=self.parent, page_size=1000)
        return {each.name for each in (await self.tasks.ListTasks(request, timeout=10)).tasks}

    async def letters(self) -> set[str]:
        """The names of the tenant's dead letters."""
        request = pb.ListDeadLettersRequest(parent=self.parent)
        found = await self.tasks.ListDeadLetters(request, timeout=10)
        return {each.task.name for each in found.dead_letters}

    async def schedule(self) -> str:
        """The name of a schedule that runs each minute."""
        request = schedule_service_pb2.CreateScheduleRequest(
            parent=self.parent,
            schedule_id="minutely",
            schedule=Schedule(cron="* * * * *", task=Task(input=TaskInput(text="tidy up"))),
        )
        return (await self.schedules.CreateSchedule(request, timeout=10)).schedule.name

    async def scheduled(self, name: str) -> str:
        """The name of the task that a schedule has submitted; it will submit no other."""

        async def ran() -> str:
            request = schedule_service_pb2.GetScheduleRequest(name=name)
            return (await self.schedules.GetSchedule(request, timeout=10)).schedule.last_task

        task = await eventually(ran, _MINUTE_SECONDS)
        request = schedule_service_pb2.DeleteScheduleRequest(name=name)
        await self.schedules.DeleteSchedule(request, timeout=10)
        return task


@asynccontextmanager
async def _mesh(
    nats: NatsServer, redis: RedisServer, folder: Path, model: _Model, partitions: int | None
) -> AsyncGenerator[list[_User]]:
    """Coordinator, executor and tools; its users, one of each tenant."""
    # A schedule that runs each minute runs soon after the mesh is up.
    clock = RunningClock(datetime.now(UTC).replace(second=55, microsecond=0))
    async with hosting(
        [
            lambda resources: build_tool(resources, ToolSettings()),
            lambda resources: build_coordinator(resources, CoordinatorSettings()),
            lambda resources: build_executor(resources, ExecutorSettings()),
        ],
        data_dir=folder,
        nats_url=nats.url,
        redis_url=redis.url,
        beside=registrations(
            ScriptedReasoning(model.answer),  # pyright: ignore[reportAbstractUsage]
            ScriptedMemory(),  # pyright: ignore[reportAbstractUsage]
            ScriptedGovernor(),  # pyright: ignore[reportAbstractUsage]
        ),
        clock=clock,
        task_partitions=partitions,
    ) as channels:
        yield [_User(channels, tenant) for tenant in _TENANTS]


async def _live(user: _User) -> set[str]:
    """Does all that a user may want of a mesh with a model that is ill; the tasks' names."""
    schedule = await user.schedule()
    spec = AgentSpec(instructions="Do it.", tools=["calculator", "ask_person", "wait", "delegate"])
    request = CreateAgentRequest(parent=user.parent, agent_id="all", spec=spec)
    await user.agents.CreateAgent(request, timeout=10)
    dead = await user.submit("fail", tier_pb2.LANE_BATCH)
    scheduled = await user.scheduled(schedule)
    plain = await user.submit("calculate")
    assert await user.watch(plain) == [1, 2, 3, 4, 5]
    assert await user.log(plain) == [
        *("submitted", "started", "model_called", "tool_called", "completed")
    ]
    waited, delegated = await user.submit("wait"), await user.submit("delegate")
    asked, cancelled = await user.submit("ask"), await user.submit("ask")
    for each in (asked, cancelled):
        await user.reaches(each, task_pb2.TASK_STATE_WAITING)
    signal = TaskSignal(input=TaskInput(text="that"))
    await user.tasks.SignalTask(pb.SignalTaskRequest(name=asked, signal=signal), timeout=10)
    await user.tasks.CancelTask(pb.CancelTaskRequest(name=cancelled), timeout=10)
    await user.reaches(cancelled, task_pb2.TASK_STATE_CANCELLED)
    for each in (waited, delegated, asked, scheduled):
        await user.ends(each)
    await user.reaches(dead, task_pb2.TASK_STATE_DEAD_LETTERED)
    return {dead, plain, waited, delegated, asked, cancelled, scheduled}


async def _calculate(user: _User) -> None:
    await user.ends(await user.submit("calculate"))


async def _redrive(user: _User) -> None:
    """Puts the tenant's only dead letter back."""

    async def letters() -> set[str]:
        return await user.letters()

    (dead,) = await eventually(letters, _WITHIN_SECONDS)
    await user.tasks.RedriveDeadLetter(pb.RedriveDeadLetterRequest(name=dead), timeout=10)
    await user.ends(dead)


async def _as(user: _User, work: Any) -> Any:
    with identity.use(Identity(user.tenant, "user:test")):
        return await work(user)


async def _all(users: list[_User], work: Any) -> list[Any]:
    """What `work` gives for each user, all at once."""
    return list(await asyncio.gather(*(_as(user, work) for user in users)))


async def _prepared(nats: NatsServer) -> None:
    """In the lane batch the first failure is the last."""
    policy = built_in()
    (batch,) = (each for each in policy.lanes if each.lane == tier_pb2.LANE_BATCH)
    batch.max_attempts = 1
    async with await Bus.connect(nats.url, name="test") as bus:
        store = PolicyStore(bus)
        await store.prepare()
        await store.set(policy)


async def test_every_tenant_has_a_whole_mesh_in_its_partition(
    nats_server: NatsServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Tasks, watches, waits, children, schedules, cancels, lists and dead letters; and the audit.

    A restart finds it all again, and one with another number of partitions is refused.
    """
    assert {_PARTITIONS.of(tenant) for tenant in _TENANTS} == set(_PARTITIONS.all)
    await _prepared(nats_server)
    model = _Model()
    servers = (nats_server, redis_server)
    async with _mesh(*servers, tmp_path, model, _COUNT) as users:
        submitted: list[set[str]] = await _all(users, _live)
        model.is_ill = False
        await _all(users, _redrive)

        async def listed() -> bool:
            # The two that each parent had submitted are in the list, too.
            found: list[set[str]] = await _all(users, _User.listed)
            return all(
                names <= all_names and len(all_names) == len(names) + 2
                for names, all_names in zip(submitted, found, strict=True)
            )

        await eventually(listed, _WITHIN_SECONDS)
    redis = redis_store.connect(redis_server.url)
    async with await Bus.connect(nats_server.url, name="test") as bus, aclosing(redis):
        assert await bus.stream_info(WHOLE.stream) is None
        for partition in _PARTITIONS.all:
            info = await bus.stream_info(partition.stream)
            assert info is not None
            assert info["state"]["messages"] > 0
        report = await audit.run(bus, redis, clock=LaterClock())
        assert report.findings == ()
        tasks = 9 * len(_TENANTS)
        assert report.tasks == {"SUCCEEDED": tasks - len(_TENANTS), "CANCELLED": len(_TENANTS)}
        assert set(report.horizons) == {each.stream for each in _PARTITIONS.all}
        of_one = await audit.run(bus, redis, tenant="gamma", clock=LaterClock())
        assert (of_one.findings, sum(of_one.tasks.values())) == ((), 9)
    with pytest.raises(ConfigError, match=r"^task_partitions: .* has 4 of them, .* not 2: set 4"):
        async with _mesh(*servers, tmp_path, model, 2):
            pass
    async with _mesh(*servers, tmp_path, model, None) as users:
        for user, names in zip(users, submitted, strict=True):
            found: set[str] = await _as(user, _User.listed)
            assert names <= found
        await _all(users, _calculate)


async def test_what_stands_in_a_wrong_partition_is_found(
    nats_server: NatsServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Nobody will run a submission there; nobody will miss one but the audit."""
    async with _mesh(nats_server, redis_server, tmp_path, _Model(), _COUNT):
        pass
    redis = redis_store.connect(redis_server.url)
    home, other = _PARTITIONS.of("acme"), _PARTITIONS.of("gamma")
    event = lifecycle.new_event("tenants/acme/tasks/t1", "coordinator/x")
    event.sequence = 1
    event.submitted.task.name, event.submitted.task.tenant = event.task, "acme"
    event.status.lane = event.submitted.task.lane = tier_pb2.LANE_STANDARD
    async with await Bus.connect(nats_server.url, name="test") as bus, aclosing(redis):
        subject = other.of_event("acme", "t1", event)
        sequence = await bus.append(subject, event.SerializeToString(), expected_last=0)
        for tenant in ("", "acme"):
            report = await audit.run(bus, redis, tenant=tenant, clock=LaterClock())
            (found,) = report.findings
            assert (found.invariant, found.tenant, found.task_id) == (Invariant.LOST, "acme", "t1")
            assert (found.stream, found.stream_sequences) == (other.stream, (sequence,))
            assert found.sentence == (
                f"Event 1 (submitted) stands in {other.stream}, where nobody looks for tasks of"
                f" acme: those are in {home.stream}."
            )
        assert (await audit.run(bus, redis, tenant="gamma", clock=LaterClock())).findings == ()


async def test_a_partition_that_is_gone_is_found(
    nats_server: NatsServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """With it went every task of its tenants."""
    async with _mesh(nats_server, redis_server, tmp_path, _Model(), _COUNT):
        pass
    redis = redis_store.connect(redis_server.url)
    async with await Bus.connect(nats_server.url, name="test") as bus, aclosing(redis):
        await bus._link.ask_json(  # pyright: ignore[reportPrivateUsage]
            "$JS.API.STREAM.DELETE.TASKS-2", {}
        )
        report = await audit.run(bus, redis, clock=LaterClock())
    assert [(each.invariant, each.stream, each.sentence) for each in report.findings] == [
        (
            Invariant.LOST,
            "TASKS-2",
            "There is no stream TASKS-2: the tasks of its tenants are gone.",
        )
    ]
