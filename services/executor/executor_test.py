"""The executor on a real broker, with models and tools that follow a script."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agentmesh.common.v1 import conversation_pb2, tier_pb2
from agentmesh.common.v1.conversation_pb2 import ToolCall, ToolResult
from agentmesh.coordinator.v1 import task_event_pb2, task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskStatus
from agentmesh.coordinator.v1.task_pb2 import Task
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from agentmesh.tool.v1 import tool_pb2
from agentmesh.tool.v1 import tool_service_pb2 as tool
from meshkit.bus import Bus, ConsumerSpec
from meshkit.clock import SystemClock
from meshkit.errors import (
    BudgetExhausted,
    DependencyUnavailable,
    InvalidToolArguments,
    ProviderFailed,
)
from meshtest.eventually import eventually
from meshtest.hosting import hosting
from meshtest.nats_server import NatsServer
from meshtest.proxy import FaultProxy
from meshtest.scripted import (
    ScriptedMemory,
    ScriptedReasoning,
    ScriptedTools,
    calls,
    registrations,
    says,
)
from services.executor.claim import Claims, NotYet
from services.executor.main import build
from services.executor.settings import ExecutorSettings
from tasklog import fold, lifecycle, subjects
from tasklog.task_log import Entry, TaskLog

pytest_plugins = ["meshtest.fixtures"]
_CALL = ToolCall(call_id="c1", tool="effect")
_SETTINGS = ExecutorSettings(claim_seconds=1.0, retry_base_seconds=0.01)


@dataclass
class Bench:
    """One broker, scripted services, and executors that come and go."""

    nats: NatsServer
    folder: Path
    log: TaskLog
    bus: Bus
    models: ScriptedReasoning
    tools: ScriptedTools
    memory: ScriptedMemory

    async def submit(
        self,
        *,
        lane: tier_pb2.Lane = tier_pb2.LANE_STANDARD,
        seconds: float = 60,
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
            name=subjects.task_name("acme", task_id),
            tenant="acme",
            lane=lane,
            session=session,
            budget_micros=budget_micros,
        )
        task.input.text = text
        task.create_time.FromDatetime(now)
        status = TaskStatus(lane=lane)
        status.create_time.FromDatetime(now)
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
        await self.log.append("acme", task_id, event, after=0)
        return task_id

    @asynccontextmanager
    async def executor(self, settings: ExecutorSettings = _SETTINGS) -> AsyncGenerator[None]:
        """An executor, for as long as the block lasts."""
        async with hosting(
            [lambda resources: build(resources, settings)],
            data_dir=self.folder,
            nats_url=self.nats.url,
            beside=registrations(self.models, self.tools, self.memory),
        ):
            yield

    @asynccontextmanager
    async def dying_executor(self) -> AsyncGenerator[None]:
        """An executor that is cut off from everything at the end of the block, as if killed."""
        async with (
            FaultProxy(self.nats.port) as proxy,
            hosting(
                [lambda resources: build(resources, _SETTINGS)],
                data_dir=self.folder,
                nats_url=f"nats://127.0.0.1:{proxy.port}",
                beside=registrations(self.models, self.tools, self.memory),
            ),
        ):
            yield
            proxy.refuse = True
            proxy.cut()

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

    async def ended(self, task_id: str, timeout_seconds: float = 15) -> Task:
        """The task, once it has ended; its log replays without a fault."""

        async def terminal() -> bool:
            last = await self.log.last("acme", task_id)
            return last is not None and last.event.status.state in lifecycle.TERMINAL

        await eventually(terminal, timeout_seconds)
        fold.replay(await self.events(task_id))
        return await self.log.task("acme", task_id)


@pytest.fixture
async def bench(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Bench]:
    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        """Asks for the tool once, then answers."""
        if request.messages[-1].role == conversation_pb2.ROLE_TOOL:
            return says("done: " + request.messages[-1].tool_result.text)
        return calls(_CALL)

    async def execute(request: tool.ExecuteToolRequest) -> ToolResult:
        return ToolResult(call_id=request.call.call_id, tool="effect", text="effect happened")

    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(await Bus.connect(nats_server.url, name="bench"))
        log = TaskLog(bus)
        await log.prepare()
        yield Bench(
            nats_server,
            tmp_path,
            log,
            bus,
            ScriptedReasoning(answer),  # pyright: ignore[reportAbstractUsage]
            ScriptedTools(  # pyright: ignore[reportAbstractUsage]
                execute, tool_pb2.EFFECT_IDEMPOTENT
            ),
            ScriptedMemory(),  # pyright: ignore[reportAbstractUsage]
        )


def _kinds(events: list[TaskEvent]) -> list[str]:
    return [event.WhichOneof("kind") or "" for event in events]


@pytest.mark.parametrize("lane", list(subjects.LANES))
async def test_a_task_runs_step_by_step_to_its_answer(bench: Bench, lane: tier_pb2.Lane) -> None:
    """Model, tool, model: five events, the last with the answer and the sum of the usage."""
    async with bench.executor():
        task_id = await bench.submit(lane=lane)
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert task.output.text == "done: effect happened"
    assert _kinds(await bench.events(task_id)) == [
        "submitted",
        "started",
        "model_called",
        "tool_called",
        "completed",
    ]
    assert (task.steps, task.attempt) == (3, 1)
    assert (task.usage.model_calls, task.usage.tool_calls, task.usage.cost_micros) == (2, 1, 14)
    assert [request.spend_key for request in bench.models.requests] == [
        f"{task_id}/1/2",
        f"{task_id}/3/2",
    ]


async def test_an_effect_that_must_not_repeat_is_announced_first(bench: Bench) -> None:
    """The intent stands in the log before the call."""
    bench.tools.tool.effect = tool_pb2.EFFECT_UNSAFE
    async with bench.executor():
        task_id = await bench.submit()
        await bench.ended(task_id)
    events = await bench.events(task_id)
    assert _kinds(events)[2:5] == ["model_called", "tool_intended", "tool_called"]
    assert events[3].tool_intended.idempotency_key == events[4].tool_called.idempotency_key


async def test_another_executor_goes_on_after_the_last_recorded_step(bench: Bench) -> None:
    """An executor that vanishes while a tool runs loses nothing and repeats no recorded step."""
    reached = asyncio.Event()
    block = asyncio.Event()
    usual = bench.tools.execute

    async def hang(request: tool.ExecuteToolRequest) -> ToolResult:
        if not reached.is_set():
            reached.set()
            await block.wait()
        return await usual(request)

    bench.tools.execute = hang
    async with bench.dying_executor():
        task_id = await bench.submit()
        await asyncio.wait_for(reached.wait(), 10)
    async with bench.executor():
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert task.attempt == 2
    assert _kinds(await bench.events(task_id)) == [
        "submitted",
        "started",
        "model_called",
        "started",
        "tool_called",
        "completed",
    ]
    assert len({request.idempotency_key for request in bench.tools.requests}) == 1


async def test_an_executor_that_lost_its_task_cannot_write(bench: Bench) -> None:
    """Somebody else took the task over: the late result of the first one is dropped."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        reached.set()
        await go_on.wait()
        return says("late")

    bench.models.answer = slow
    async with bench.executor():
        task_id = await bench.submit()
        await asyncio.wait_for(reached.wait(), 10)
        for kind in ("started", "completed"):
            last = await bench.log.last("acme", task_id)
            assert last is not None
            event = lifecycle.new_event(last.event.task, "executor/other")
            getattr(event, kind).SetInParent()
            lifecycle.advance(
                last.event.status,
                event,
                sequence=last.event.sequence + 1,
                time=datetime.now(UTC),
                state=task_pb2.TASK_STATE_SUCCEEDED if kind == "completed" else None,
            )
            await bench.log.append("acme", task_id, event, after=last.stream_sequence)
        go_on.set()

        async def settled() -> bool:
            lane = await bench.bus.consumer_info(subjects.STREAM, "lane-standard")
            return lane["num_ack_pending"] == 0

        await eventually(settled, 10)
    events = await bench.events(task_id)
    assert _kinds(events) == ["submitted", "started", "started", "completed"]
    assert [event.writer for event in events[2:]] == ["executor/other"] * 2


async def test_a_step_that_kills_its_executor_is_tried_twice_and_no_third_time(
    bench: Bench,
) -> None:
    """The task ends in the dead letters, and says in which step."""
    reached = asyncio.Event()

    async def never(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    bench.models.answer = never
    task_id = await bench.submit()
    for _ in range(2):
        reached.clear()
        async with bench.dying_executor():
            await asyncio.wait_for(reached.wait(), 10)
    async with bench.executor():
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_DEAD_LETTERED
    assert task.error.message == "The executor died during step 1, in attempt 2."


async def test_a_passing_fault_is_tried_again(bench: Bench) -> None:
    """A provider that fails once costs an attempt and no more."""
    usual, faults = bench.models.answer, [ProviderFailed("The provider answered 529.")]

    async def flaky(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        if faults:
            raise faults.pop()
        return await usual(request)

    bench.models.answer = flaky
    async with bench.executor():
        task_id = await bench.submit()
        task = await bench.ended(task_id)
    assert (task.state, task.attempt) == (task_pb2.TASK_STATE_SUCCEEDED, 2)
    events = await bench.events(task_id)
    assert _kinds(events)[:4] == ["submitted", "started", "retried", "started"]
    assert events[2].retried.error.message == "The provider answered 529."


async def test_a_lasting_fault_ends_in_the_dead_letters(bench: Bench) -> None:
    """After the lane's attempts, with the last error."""

    async def broken(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        raise ProviderFailed("The provider answered 500.")

    bench.models.answer = broken
    async with bench.executor():
        task_id = await bench.submit()
        task = await bench.ended(task_id)
    assert (task.state, task.attempt) == (task_pb2.TASK_STATE_DEAD_LETTERED, 3)
    assert task.error.message == "The provider answered 500."


async def test_an_error_that_would_come_again_is_not_tried_again(bench: Bench) -> None:
    """A budget that is spent fails the task in its first attempt."""

    async def denied(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        raise BudgetExhausted("The budget is spent.")

    bench.models.answer = denied
    async with bench.executor():
        task_id = await bench.submit()
        task = await bench.ended(task_id)
    assert (task.state, task.attempt) == (task_pb2.TASK_STATE_FAILED, 1)


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (InvalidToolArguments("`x` must be a number."), None),
        (DependencyUnavailable("The memory does not answer."), "TOOL_SKIPPED"),
    ],
)
async def test_a_tool_that_cannot_be_used_does_not_end_the_task(
    bench: Bench, error: Exception, note: str | None
) -> None:
    """The model reads why; what was skipped is noted for the reader."""

    async def fail(request: tool.ExecuteToolRequest) -> ToolResult:
        raise error

    bench.tools.execute = fail
    async with bench.executor():
        task_id = await bench.submit()
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert task.output.text == f"done: {error}"
    assert [each.code for each in task.notes] == ([note] if note else [])


async def test_the_time_limit_gives_the_best_result_so_far(bench: Bench) -> None:
    """PARTIAL, with what the tool found and a note of what is missing."""
    usual = bench.models.answer

    async def slow_end(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        if request.messages[-1].role == conversation_pb2.ROLE_TOOL:
            await asyncio.Event().wait()
        return await usual(request)

    bench.models.answer = slow_end
    async with bench.executor():
        task_id = await bench.submit(seconds=1.5)
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_PARTIAL
    assert task.output.text == "effect happened"
    assert [note.code for note in task.notes] == ["TIME_LIMIT"]
    late = task.end_time.ToDatetime() - task.create_time.ToDatetime()
    assert late < timedelta(seconds=2.5)


async def test_a_task_whose_time_is_over_before_it_starts_is_partial(bench: Bench) -> None:
    """It is not run; it says so."""
    task_id = await bench.submit(seconds=-1)
    async with bench.executor():
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_PARTIAL
    assert bench.models.requests == []


async def test_the_step_limit_ends_a_task_that_goes_round_in_circles(bench: Bench) -> None:
    """PARTIAL after as many steps as the agent allows."""

    async def again(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        return calls(_CALL)

    bench.models.answer = again
    async with bench.executor():
        task_id = await bench.submit()
        task = await bench.ended(task_id)
    assert (task.state, task.steps) == (task_pb2.TASK_STATE_PARTIAL, 8)
    assert task.notes[0].text == "Stopped after 8 steps."


async def test_a_cancel_reaches_a_running_step(bench: Bench) -> None:
    """The step is stopped, and what was used stays counted."""
    reached = asyncio.Event()

    async def hang(request: tool.ExecuteToolRequest) -> ToolResult:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    bench.tools.execute = hang
    async with bench.executor():
        task_id = await bench.submit()
        await asyncio.wait_for(reached.wait(), 10)
        await bench.request_cancel(task_id, "enough")
        await bench.bus.signal(subjects.cancels("acme", task_id), b"")
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_CANCELLED
    events = await bench.events(task_id)
    assert events[-1].cancelled.reason == "enough"
    assert task.usage.cost_micros == 7


async def test_a_cancel_outlives_the_executor_that_should_have_heard_it(bench: Bench) -> None:
    """The next executor ends the task instead of running it."""
    reached = asyncio.Event()

    async def hang(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    bench.models.answer = hang
    async with bench.dying_executor():
        task_id = await bench.submit()
        await asyncio.wait_for(reached.wait(), 10)
    await bench.request_cancel(task_id, "enough")
    async with bench.executor():
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_CANCELLED
    assert (await bench.events(task_id))[-1].cancelled.reason == "enough"
    assert len(bench.models.requests) == 1


async def test_executors_that_are_told_to_stop_cost_no_attempt(bench: Bench) -> None:
    """A task that met five restarts in one step is still run, though its lane allows two."""
    reached, usual = asyncio.Event(), bench.models.answer

    async def hang(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    bench.models.answer = hang
    task_id = await bench.submit(lane=tier_pb2.LANE_INTERACTIVE)
    for _ in range(5):
        reached.clear()
        async with bench.executor():
            await asyncio.wait_for(reached.wait(), 10)
    bench.models.answer = usual
    async with bench.executor():
        task = await bench.ended(task_id)
    assert (task.state, task.attempt) == (task_pb2.TASK_STATE_SUCCEEDED, 6)


async def test_a_message_is_not_settled_by_whoever_lost_the_start(bench: Bench) -> None:
    """A cancel that comes between reading and starting leaves the message for another look."""
    reached = asyncio.Event()

    async def hang(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    bench.models.answer = hang
    async with bench.dying_executor():
        task_id = await bench.submit()
        await asyncio.wait_for(reached.wait(), 10)

    class Interrupted(TaskLog):
        async def append(self, tenant: str, task_id: str, event: TaskEvent, *, after: int) -> Entry:
            if event.WhichOneof("kind") == "started":
                await bench.request_cancel(task_id, "now")
            return await super().append(tenant, task_id, event, after=after)

    claims = Claims(
        log=Interrupted(bench.bus), clock=SystemClock(), writer="executor/x", settings=_SETTINGS
    )
    deliveries = bench.bus.consume(
        ConsumerSpec(
            stream=subjects.STREAM,
            durable="lane-standard",
            subject_filter=subjects.runnable(tier_pb2.LANE_STANDARD),
            acknowledge_wait_seconds=1.0,
            max_acknowledge_pending=100,
            description="",
        ),
        max_in_flight=1,
    )
    delivery = await asyncio.wait_for(anext(deliveries), 10)
    assert isinstance(await claims.claim(delivery), NotYet)
    await delivery.not_now(0.0)
    async with bench.executor():
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_CANCELLED


async def test_without_a_list_of_tools_the_last_attempt_goes_on_and_says_so(bench: Bench) -> None:
    """Earlier attempts wait for the tool service; the last one does without."""

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        return says(f"{len(request.tools)} tools")

    bench.models.answer = answer
    bench.tools.listing = DependencyUnavailable("The tool service is away.")
    async with bench.executor():
        task = await bench.ended(await bench.submit(lane=tier_pb2.LANE_INTERACTIVE))
    assert (task.output.text, task.attempt) == ("0 tools", 2)
    assert [note.code for note in task.notes] == ["TOOLS_SKIPPED"]


async def test_a_large_input_reaches_the_model_whole(bench: Bench) -> None:
    """What stands in the object store is brought back before the first step."""

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        return says(str(len(request.messages[-1].parts[0].text)))

    bench.models.answer = answer
    async with bench.executor():
        task = await bench.ended(await bench.submit(text="x" * 100_000))
    assert task.output.text == "100000"


async def test_an_agent_cannot_use_a_tool_that_it_was_not_given(bench: Bench) -> None:
    """The model reads that there is no such tool; nothing is executed."""
    agent = task_event_pb2.AgentSpec(
        name="tenants/acme/agents/a@1", instructions="x", max_steps=8, tools=["other"]
    )
    async with bench.executor():
        task = await bench.ended(await bench.submit(agent=agent))
    assert task.output.text == "done: This agent has no tool 'effect'."
    assert bench.tools.requests == []


async def test_an_effect_of_unknown_outcome_is_asked_for_under_the_same_key(bench: Bench) -> None:
    """A tool that must not repeat is not skipped: the next attempt asks what became of it."""
    bench.tools.tool.effect = tool_pb2.EFFECT_UNSAFE
    usual, faults = bench.tools.execute, [DependencyUnavailable("The connection broke.")]

    async def flaky(request: tool.ExecuteToolRequest) -> ToolResult:
        if faults:
            raise faults.pop()
        return await usual(request)

    bench.tools.execute = flaky
    async with bench.executor():
        task = await bench.ended(await bench.submit())
    assert (task.state, task.attempt) == (task_pb2.TASK_STATE_SUCCEEDED, 2)
    assert len({request.idempotency_key for request in bench.tools.requests}) == 1


async def test_a_session_that_an_earlier_attempt_wrote_does_not_fail_the_task(
    bench: Bench,
) -> None:
    """Its words may differ from those of this attempt; the task has its answer all the same."""
    task_id = await bench.submit(session="s1")
    bench.memory.seen[task_id] = b"what an earlier attempt appended"
    async with bench.executor():
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED


async def test_a_session_is_read_and_remembered(bench: Bench) -> None:
    """The second task of a session sees the first one's question and answer."""

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        return says(f"{len(request.messages)} messages")

    bench.models.answer = answer
    async with bench.executor():
        first = await bench.ended(await bench.submit(session="s1"))
        second = await bench.ended(await bench.submit(session="s1"))
    assert first.output.text == "2 messages"
    assert second.output.text == "4 messages"
    said = bench.memory.sessions["tenants/acme/sessions/s1"].values()
    assert [len(messages) for messages in said] == [2, 2]


async def test_single_shot_offers_no_tools(bench: Bench) -> None:
    """One model call, and its text is the answer."""

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        assert not request.tools
        return says("once")

    bench.models.answer = answer
    agent = task_event_pb2.AgentSpec(
        name="tenants/acme/agents/a@1",
        instructions="x",
        max_steps=4,
        pattern=task_event_pb2.AGENT_PATTERN_SINGLE_SHOT,
    )
    async with bench.executor():
        task = await bench.ended(await bench.submit(agent=agent, budget_micros=500))
    assert (task.output.text, task.steps) == ("once", 1)
    assert bench.models.requests[0].task_budget.limit_micros == 500


async def test_a_fault_inside_a_service_is_not_told_to_the_caller(bench: Bench) -> None:
    """The task's error says that a fault happened and where to look, without its text."""

    async def broken(request: tool.ExecuteToolRequest) -> ToolResult:
        raise RuntimeError("the password is hunter2")

    bench.tools.execute = broken
    async with bench.executor():
        task = await bench.ended(await bench.submit())
    assert task.state == task_pb2.TASK_STATE_DEAD_LETTERED
    assert "hunter2" not in str(task)
    assert task.error.message.startswith("Agentmesh failed inside.")


async def test_two_hundred_tasks_run_side_by_side(bench: Bench) -> None:
    """Over two executors, each task ends once."""
    async with bench.executor(), bench.executor():
        ids = [await bench.submit() for _ in range(200)]
        tasks = [await bench.ended(task_id, 60) for task_id in ids]
    assert {task.state for task in tasks} == {task_pb2.TASK_STATE_SUCCEEDED}
    assert {task.steps for task in tasks} == {3}
    assert len(bench.models.requests) == 400
