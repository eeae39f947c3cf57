"""Tasks whose executor dies, stalls, stops or is told to stop them."""

import asyncio
from datetime import UTC, datetime

from agentmesh.common.v1 import tier_pb2
from agentmesh.common.v1.conversation_pb2 import ToolResult
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from agentmesh.tool.v1 import tool_service_pb2 as tool
from meshkit import log as lines
from meshkit.bus import ConsumerSpec
from meshkit.clock import SystemClock
from meshtest.eventually import eventually
from meshtest.scripted import (
    says,
)
from services.executor.claim import Claims, NotYet
from services.executor.executor_bench import Bench, kinds
from services.executor.history import Histories
from services.executor.snapshots_jetstream import JetStreamSnapshots
from tasklog import lifecycle, subjects
from tasklog.partitions import WHOLE, Partitions
from tasklog.task_log import Entry, TaskLog

pytest_plugins = ["meshtest.fixtures", "services.executor.executor_bench"]


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
        await asyncio.wait_for(reached.wait(), 60)
    async with bench.executor():
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert task.attempt == 2
    assert kinds(await bench.events(task_id)) == [
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
        await asyncio.wait_for(reached.wait(), 60)
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
            lane = await bench.bus.consumer_info(WHOLE.stream, "queue-standard-0-acme")
            return lane["num_ack_pending"] == 0

        await eventually(settled)
    events = await bench.events(task_id)
    assert kinds(events) == ["submitted", "started", "started", "completed"]
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
            await asyncio.wait_for(reached.wait(), 60)
    async with bench.executor():
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_DEAD_LETTERED
    assert task.error.message == "The executor died during step 1, in attempt 2."


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
        await asyncio.wait_for(reached.wait(), 60)
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
        await asyncio.wait_for(reached.wait(), 60)
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
            await asyncio.wait_for(reached.wait(), 60)
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
        await asyncio.wait_for(reached.wait(), 60)

    class Interrupted(TaskLog):
        async def append(self, tenant: str, task_id: str, event: TaskEvent, *, after: int) -> Entry:
            if event.WhichOneof("kind") == "started":
                await bench.request_cancel(task_id, "now")
            return await super().append(tenant, task_id, event, after=after)

    log = Interrupted(bench.bus, Partitions())
    claims = Claims(
        log=log,
        histories=Histories(log=log, store=JetStreamSnapshots(bench.bus), lines=lines.get("test")),
        clock=SystemClock(),
        writer="executor/x",
        policies=bench.policies,
    )
    deliveries = bench.bus.consume(
        ConsumerSpec(
            stream=WHOLE.stream,
            durable="queue-standard-0-acme",
            subject_filter="task.acme.*.standard-0",
            acknowledge_wait_seconds=1.0,
            max_acknowledge_pending=100,
            description="",
        ),
        max_in_flight=1,
    )
    delivery = await asyncio.wait_for(anext(deliveries), 60)
    assert isinstance(await claims.claim(delivery), NotYet)
    await delivery.not_now(0.0)
    async with bench.executor():
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_CANCELLED


async def test_two_hundred_tasks_run_side_by_side(bench: Bench) -> None:
    """Over two executors, each task ends once."""
    async with bench.executor(), bench.executor():
        ids = [await bench.submit() for _ in range(200)]
        tasks = [await bench.ended(task_id) for task_id in ids]
    assert {task.state for task in tasks} == {task_pb2.TASK_STATE_SUCCEEDED}
    assert {task.steps for task in tasks} == {3}
    assert len(bench.models.requests) == 400
