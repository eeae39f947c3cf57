"""Limits of time: a call inside a step inside a task; of notes, and of keys."""

import asyncio

import pytest

from agentmesh.common.v1 import conversation_pb2, tier_pb2
from agentmesh.common.v1.conversation_pb2 import ToolCall, ToolResult
from agentmesh.coordinator.v1 import task_event_pb2, task_pb2
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from agentmesh.tool.v1 import tool_pb2
from agentmesh.tool.v1 import tool_service_pb2 as tool
from meshkit.errors import DeadlineExceeded, DependencyUnavailable, RateLimited, from_status
from meshtest.scripted import calls, says
from services.executor.executor_bench import Bench, impatient, kinds
from tasklog import subjects

pytest_plugins = ["meshtest.fixtures", "services.executor.executor_bench"]


async def _limit_steps(bench: Bench, seconds: float) -> None:
    """Gives the steps of every lane so much time."""
    policy = impatient()
    for lane in policy.lanes:
        lane.step_time_limit.FromMilliseconds(round(seconds * 1000))
    await bench.policies.set(policy)


async def _never(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def _hang(request: tool.ExecuteToolRequest) -> ToolResult:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("lane", list(subjects.LANES))
async def test_a_call_has_the_least_of_all_limits(bench: Bench, lane: tier_pb2.Lane) -> None:
    """That of the call, of the step and of the task; each service is told how long it has."""
    await _limit_steps(bench, 20)
    async with bench.executor():
        await bench.ended(await bench.submit(lane=lane, seconds=1000))
        await bench.ended(await bench.submit(lane=lane, seconds=15))
    # A model call of its own has 60 s, a tool call 30 s: here the step has less, then the task.
    # What is on its way takes some of it.
    assert (len(bench.models.timeouts), len(bench.tools.timeouts)) == (4, 2)
    assert all(
        15 < seconds <= 20 for seconds in bench.models.timeouts[:2] + bench.tools.timeouts[:1]
    )
    assert all(
        5 < seconds <= 15 for seconds in bench.models.timeouts[2:] + bench.tools.timeouts[1:]
    )


async def test_a_call_s_own_limit_holds_inside_a_long_step(bench: Bench) -> None:
    """The built-in policy gives a step of the batch lane 300 s, and settings a call 60 or 30."""
    async with bench.executor():
        await bench.ended(await bench.submit(lane=tier_pb2.LANE_BATCH, seconds=600))
    assert bench.models.timeouts == [pytest.approx(57.5, abs=2.5)] * 2
    assert bench.tools.timeouts == [pytest.approx(27.5, abs=2.5)]


async def test_a_pause_that_outlasts_the_task_ends_it(bench: Bench) -> None:
    """At once, with what is missing and why: it holds no place in its queue till then."""
    usual = bench.models.answer

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        if request.messages[-1].role == conversation_pb2.ROLE_TOOL:
            raise RateLimited("Come back in an hour.", retry_after_seconds=3600)
        return await usual(request)

    bench.models.answer = answer
    async with bench.executor():
        task = await bench.ended(await bench.submit(seconds=50))
    assert (task.state, task.attempt) == (task_pb2.TASK_STATE_PARTIAL, 1)
    assert task.output.text == "effect happened"
    assert [(note.code, note.text) for note in task.notes] == [
        (
            "TIME_LIMIT",
            "Stopped after 2 steps; what follows from them is missing. The next attempt had to"
            " wait 3600 s, longer than the time limit of 50 s leaves: Come back in an hour.",
        )
    ]


async def test_a_task_that_a_budget_puts_off_says_so_and_is_no_dead_letter(bench: Bench) -> None:
    """It is queued with a note for as long as that lasts, and succeeds when there is room."""
    usual = bench.models.answer
    refusals = 0

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        nonlocal refusals
        # Of attempts that fail it would have three.
        if refusals < 5:
            refusals += 1
            raise RateLimited(
                f"The budget tenants/acme/budgets/tenant-day slows calls down; {refusals}.",
                metadata={"budget": "tenants/acme/budgets/tenant-day"},
                retry_after_seconds=0.01,
            )
        return await usual(request)

    bench.models.answer = answer
    async with bench.executor():
        task_id = await bench.submit(lane=tier_pb2.LANE_BATCH, seconds=60)
        task = await bench.ended(task_id)
    assert (task.state, task.attempt) == (task_pb2.TASK_STATE_SUCCEEDED, 6)
    first = next(each for each in await bench.events(task_id) if each.HasField("retried"))
    assert first.status.state == task_pb2.TASK_STATE_QUEUED
    assert [(note.code, note.text) for note in first.status.notes] == [
        (
            "BUDGET_WAIT",
            "Put off by the budget tenants/acme/budgets/tenant-day, which slows down all but"
            " interactive work.",
        )
    ]
    assert list(task.notes) == list(first.status.notes)


@pytest.mark.parametrize("lane", [tier_pb2.LANE_INTERACTIVE, tier_pb2.LANE_STANDARD])
async def test_a_step_that_runs_out_of_time_is_tried_again(
    bench: Bench, lane: tier_pb2.Lane
) -> None:
    """The error names the step's limit; the attempts of the lane hold."""
    await _limit_steps(bench, 0.5)
    usual, bench.models.answer = bench.models.answer, _never
    async with bench.executor():
        task_id = await bench.submit(lane=lane)
        dead = await bench.ended(task_id)
        bench.models.answer = usual
    assert dead.state == task_pb2.TASK_STATE_DEAD_LETTERED
    events = await bench.events(task_id)
    retried = [each.retried.error for each in events if each.HasField("retried")]
    attempts = 2 if lane == tier_pb2.LANE_INTERACTIVE else 3
    assert (dead.attempt, len(retried)) == (attempts, attempts - 1)
    for status in (*retried, dead.error):
        error = from_status(status)
        assert isinstance(error, DeadlineExceeded)
        assert error.metadata["limit"] == "step"
        assert error.message.startswith("Step 1 was not done within 0.5 s: ")


async def test_a_tool_that_takes_all_of_its_step_is_skipped_in_the_last_attempt(
    bench: Bench,
) -> None:
    """A poorer answer is better than none."""
    await _limit_steps(bench, 3)
    bench.tools.execute = _hang
    async with bench.executor():
        task_id = await bench.submit(lane=tier_pb2.LANE_INTERACTIVE)
        task = await bench.ended(task_id)
    assert (task.state, task.attempt) == (task_pb2.TASK_STATE_SUCCEEDED, 2)
    assert [note.code for note in task.notes] == ["TOOL_SKIPPED"]
    assert kinds(await bench.events(task_id)) == [
        "submitted",
        "started",
        "model_called",
        "retried",
        "started",
        "tool_called",
        "completed",
    ]


async def test_what_other_calls_of_the_step_found_is_kept(bench: Bench) -> None:
    """The next attempt repeats only the call that took too long."""
    await _limit_steps(bench, 3)
    quick = ToolCall(call_id="c2", tool="effect")

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        if request.messages[-1].role == conversation_pb2.ROLE_TOOL:
            return says(str(len(request.messages)))
        return calls(ToolCall(call_id="c1", tool="effect"), quick)

    usual, slow = bench.tools.execute, ["c1"]

    async def execute(request: tool.ExecuteToolRequest) -> ToolResult:
        if request.call.call_id in slow:
            slow.clear()
            await asyncio.Event().wait()
        return await usual(request)

    bench.models.answer, bench.tools.execute = answer, execute
    async with bench.executor():
        task = await bench.ended(await bench.submit())
    assert (task.state, task.attempt) == (task_pb2.TASK_STATE_SUCCEEDED, 2)
    assert [each.call.call_id for each in bench.tools.requests] == ["c1", "c2", "c1"]


async def test_ids_of_calls_may_be_of_any_length(bench: Bench) -> None:
    """Their keys stay within what the tool service takes, and differ where the ids do."""
    ids = [f"call-{'thought ' * 1_000}{end}" for end in "ab"]

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        if request.messages[-1].role == conversation_pb2.ROLE_TOOL:
            return says("done")
        return calls(*(ToolCall(call_id=each, tool="effect") for each in ids))

    bench.models.answer = answer
    async with bench.executor():
        task = await bench.ended(await bench.submit())
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert [each.call.call_id for each in bench.tools.requests] == ids
    keys = {each.idempotency_key for each in bench.tools.requests}
    assert len(keys) == 2
    assert max(map(len, keys)) <= 200


async def test_notes_that_repeat_themselves_are_kept_once(bench: Bench) -> None:
    """They stand in every event after them: a log must not grow with their square."""

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        return calls(ToolCall(call_id=f"c{len(request.messages)}", tool="effect"))

    async def fail(request: tool.ExecuteToolRequest) -> ToolResult:
        number = int(request.call.call_id[1:])
        raise DependencyUnavailable(f"Away for the {number // 4}th time.")

    bench.models.answer, bench.tools.execute = answer, fail
    agent = task_event_pb2.AgentSpec(
        name="tenants/acme/agents/a@1", instructions="x", max_steps=200
    )
    async with bench.executor():
        task = await bench.ended(await bench.submit(agent=agent))
    assert task.state == task_pb2.TASK_STATE_PARTIAL
    notes = [(note.code, note.text) for note in task.notes]
    assert len(set(notes)) == len(notes) == 33
    assert notes[31] == ("NOTES_OMITTED", "There was more to note than is kept.")
    assert notes[32] == ("STEP_LIMIT", "Stopped after 200 steps.")


async def test_a_tool_that_must_not_repeat_is_asked_again_and_not_skipped(bench: Bench) -> None:
    """Even in the last attempt: nobody knows what it did."""
    await _limit_steps(bench, 3)
    bench.tools.tool.effect = tool_pb2.EFFECT_UNSAFE
    bench.tools.execute = _hang
    async with bench.executor():
        task = await bench.ended(await bench.submit(lane=tier_pb2.LANE_INTERACTIVE))
    assert task.state == task_pb2.TASK_STATE_DEAD_LETTERED
    assert from_status(task.error).metadata["limit"] == "step"
    assert len({each.idempotency_key for each in bench.tools.requests}) == 1
