"""A cancel reaches what the task is at: a model or a tool that is called right now."""

import asyncio
import statistics
import time
from collections.abc import Callable

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.common.v1.conversation_pb2 import ToolResult
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from agentmesh.tool.v1 import tool_service_pb2 as tool
from meshtest.scripted import says
from services.executor.executor_bench import Bench, kinds
from tasklog import subjects

pytest_plugins = ["meshtest.fixtures", "services.executor.executor_bench"]


# What is promised, from the cancel's signal to the call's end. Of several the middle one counts:
# a single one may meet a moment in which the machine does something else.
_REACHED_SECONDS = 0.2
# Where the machine is so busy that as many questions to the broker take longer, those count.
_QUESTIONS = 100
_CANCELS = 5


class _Hanging:
    """A call that takes for ever, and tells when it began and that it was cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def wait(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def _model_hangs(bench: Bench, call: _Hanging) -> None:
    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        await call.wait()
        return says("late")

    bench.models.answer = answer


def _tool_hangs(bench: Bench, call: _Hanging) -> None:
    async def execute(request: tool.ExecuteToolRequest) -> ToolResult:
        await call.wait()
        raise AssertionError

    bench.tools.execute = execute


async def _cancel(bench: Bench, task_id: str) -> None:
    """Does what the coordinator does."""
    await bench.request_cancel(task_id, "enough")
    await bench.bus.signal(subjects.cancels("acme", task_id), b"")


@pytest.mark.parametrize("lane", list(subjects.LANES))
async def test_a_model_that_is_called_is_stopped(bench: Bench, lane: tier_pb2.Lane) -> None:
    """Reasoning sees the call cancelled, and the task ends; nothing was used."""
    call = _Hanging()
    _model_hangs(bench, call)
    async with bench.executor():
        task_id = await bench.submit(lane=lane)
        await asyncio.wait_for(call.begun.wait(), 60)
        await _cancel(bench, task_id)
        await asyncio.wait_for(call.cancelled.wait(), 60)
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_CANCELLED
    assert kinds(await bench.events(task_id)) == [
        "submitted",
        "started",
        "cancel_requested",
        "cancelled",
    ]
    assert task.usage.cost_micros == 0


async def test_a_tool_that_is_called_is_stopped_and_what_was_used_stays_counted(
    bench: Bench,
) -> None:
    """The tool service sees the call cancelled; the model's step before it is paid for."""
    call = _Hanging()
    _tool_hangs(bench, call)
    async with bench.executor():
        task_id = await bench.submit()
        await asyncio.wait_for(call.begun.wait(), 60)
        await _cancel(bench, task_id)
        await asyncio.wait_for(call.cancelled.wait(), 60)
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_CANCELLED
    assert (task.usage.cost_micros, task.usage.model_calls) == (7, 1)
    assert (await bench.events(task_id))[-1].cancelled.reason == "enough"


@pytest.mark.parametrize(
    ("hang", "lane"),
    [
        (_model_hangs, tier_pb2.LANE_INTERACTIVE),
        (_model_hangs, tier_pb2.LANE_STANDARD),
        (_tool_hangs, tier_pb2.LANE_STANDARD),
    ],
    ids=["stream", "model", "tool"],
)
async def test_a_cancel_reaches_a_call_within_200_milliseconds(
    bench: Bench, hang: Callable[[Bench, _Hanging], None], lane: tier_pb2.Lane
) -> None:
    """From the signal to the service in which the call runs."""
    took: list[float] = []
    usual: list[float] = []
    async with bench.executor():
        for _ in range(_CANCELS):
            call = _Hanging()
            hang(bench, call)
            task_id = await bench.submit(lane=lane)
            await asyncio.wait_for(call.begun.wait(), 60)
            begun = time.perf_counter()
            await _cancel(bench, task_id)
            await asyncio.wait_for(call.cancelled.wait(), 60)
            took.append(time.perf_counter() - begun)
            await bench.ended(task_id)
            begun = time.perf_counter()
            for _ in range(_QUESTIONS // _CANCELS):
                await bench.log.last("acme", task_id)
            usual.append((time.perf_counter() - begun) * _CANCELS)
    assert statistics.median(took) < max(_REACHED_SECONDS, statistics.median(usual))


async def test_a_cancel_of_one_task_leaves_the_others_alone(bench: Bench) -> None:
    """Whether their calls travel together or not."""
    begun = asyncio.Semaphore(0)
    go_on = asyncio.Event()

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        begun.release()
        await go_on.wait()
        return says("done")

    bench.models.answer = answer
    async with bench.executor():
        ids = [await bench.submit() for _ in range(10)]
        for _ in ids:
            await asyncio.wait_for(begun.acquire(), 60)
        await _cancel(bench, ids[3])
        cancelled = await bench.ended(ids[3])
        go_on.set()
        others = [await bench.ended(each) for each in ids if each != ids[3]]
    assert cancelled.state == task_pb2.TASK_STATE_CANCELLED
    assert {(each.state, each.attempt) for each in others} == {(task_pb2.TASK_STATE_SUCCEEDED, 1)}


async def test_a_cancel_that_meets_the_answer_is_kept(bench: Bench) -> None:
    """It was stored before the answer could be: the task is cancelled, not half of each."""
    call = asyncio.Event()
    go_on = asyncio.Event()

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        call.set()
        await go_on.wait()
        return says("done")

    bench.models.answer = answer
    async with bench.executor():
        task_id = await bench.submit()
        await asyncio.wait_for(call.wait(), 60)
        # The signal is lost; the executor finds the request when it appends.
        await bench.request_cancel(task_id, "enough")
        go_on.set()
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_CANCELLED
    assert kinds(await bench.events(task_id))[-2:] == ["cancel_requested", "cancelled"]


async def test_a_signal_without_a_request_stops_nothing_for_good(bench: Bench) -> None:
    """The log decides: the task is run by whoever gets it next."""
    call = _Hanging()
    usual = bench.models.answer

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        if not call.begun.is_set():
            await call.wait()
        return await usual(request)

    bench.models.answer = answer
    async with bench.executor():
        task_id = await bench.submit()
        await asyncio.wait_for(call.begun.wait(), 60)
        await bench.bus.signal(subjects.cancels("acme", task_id), b"")
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
