"""What a task goes through in an executor, step by step."""

import asyncio
from datetime import timedelta

import pytest

from agentmesh.common.v1 import conversation_pb2, tier_pb2
from agentmesh.common.v1.conversation_pb2 import ToolResult
from agentmesh.coordinator.v1 import task_event_pb2, task_pb2
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from agentmesh.tool.v1 import tool_pb2
from agentmesh.tool.v1 import tool_service_pb2 as tool
from meshkit.errors import (
    BudgetExhausted,
    DependencyUnavailable,
    InvalidToolArguments,
    ProviderFailed,
)
from meshtest.scripted import (
    calls,
    says,
)
from services.executor.executor_bench import CALL, Bench, kinds
from tasklog import subjects
from tasklog.policy import built_in

pytest_plugins = ["meshtest.fixtures", "services.executor.executor_bench"]


@pytest.mark.parametrize("lane", list(subjects.LANES))
async def test_a_task_runs_step_by_step_to_its_answer(bench: Bench, lane: tier_pb2.Lane) -> None:
    """Model, tool, model: five events, the last with the answer and the sum of the usage."""
    async with bench.executor():
        task_id = await bench.submit(lane=lane)
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert task.output.text == "done: effect happened"
    assert kinds(await bench.events(task_id)) == [
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
    assert kinds(events)[2:5] == ["model_called", "tool_intended", "tool_called"]
    assert events[3].tool_intended.idempotency_key == events[4].tool_called.idempotency_key


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
    assert kinds(events)[:4] == ["submitted", "started", "retried", "started"]
    assert events[2].retried.error.message == "The provider answered 529."


async def test_an_answer_that_breaks_off_in_its_words_is_asked_for_whole(bench: Bench) -> None:
    """Whole ones, here and in all steps to come, may come from another model."""

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        if request.messages[-1].role == conversation_pb2.ROLE_TOOL:
            return says("done")
        response = calls(CALL)
        response.message.parts.add(text="I look.")
        return response

    bench.models.answer = answer
    bench.models.breaking = ProviderFailed("The model broke off in the middle of its answer.")
    async with bench.executor():
        task_id = await bench.submit(lane=tier_pb2.LANE_INTERACTIVE)
        task = await bench.ended(task_id)
    assert (task.state, task.output.text) == (task_pb2.TASK_STATE_SUCCEEDED, "done")
    assert kinds(await bench.events(task_id)) == [
        "submitted",
        "started",
        "retried",
        "started",
        "model_called",
        "tool_called",
        "completed",
    ]


async def test_a_model_that_stands_in_for_another_is_noted_once(bench: Bench) -> None:
    """However many steps it made, the last one among them."""
    usual, sentence = bench.models.answer, "Answered by small instead of large, which failed."

    async def degraded(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        response = await usual(request)
        response.degradations.append(sentence)
        return response

    bench.models.answer = degraded
    async with bench.executor():
        task = await bench.ended(await bench.submit())
    assert (task.state, task.usage.model_calls) == (task_pb2.TASK_STATE_SUCCEEDED, 2)
    assert [(note.code, note.text) for note in task.notes] == [("DEGRADED", sentence)]


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


async def test_pauses_between_attempts_grow_to_a_limit_and_are_anything_up_to_it(
    bench: Bench,
) -> None:
    """Full jitter: those who failed together do not come back together."""

    async def broken(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        raise ProviderFailed("The provider answered 500.")

    policy = built_in()
    for lane in policy.lanes:
        lane.retry_base.FromMilliseconds(40)
        lane.retry_max.FromMilliseconds(100)
    await bench.policies.set(policy)
    bench.models.answer = broken
    async with bench.executor():
        ids = [await bench.submit(lane=tier_pb2.LANE_BATCH) for _ in range(20)]
        for each in ids:
            await bench.ended(each)
        pauses = [
            [
                event.retried.not_before.ToMicroseconds() - event.time.ToMicroseconds()
                for event in await bench.events(each)
                if event.HasField("retried")
            ]
            for each in ids
        ]
    for attempt, ceiling in enumerate((40_000, 80_000, 100_000, 100_000)):
        those = [each[attempt] for each in pauses]
        # The pause begins a moment before its event is written.
        assert max(those) <= ceiling
        assert min(those) < 0.5 * ceiling < max(those)
        assert len(set(those)) == len(those)


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
        task_id = await bench.submit(seconds=8)
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_PARTIAL
    assert task.output.text == "effect happened"
    assert [(note.code, note.text) for note in task.notes] == [
        (
            "TIME_LIMIT",
            "Stopped at the time limit of 8 s, after 2 steps; what follows from them is missing.",
        )
    ]
    late = task.end_time.ToDatetime() - task.create_time.ToDatetime()
    assert late < timedelta(minutes=1)


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
        return calls(CALL)

    bench.models.answer = again
    async with bench.executor():
        task_id = await bench.submit()
        task = await bench.ended(task_id)
    assert (task.state, task.steps) == (task_pb2.TASK_STATE_PARTIAL, 8)
    assert task.notes[0].text == "Stopped after 8 steps."


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
    (request,) = bench.models.requests
    assert (request.task_budget.task, request.task_budget.limit_micros) == (task.name, 500)
    assert request.lane == task.lane


async def test_a_model_call_names_its_task_even_without_a_cap(bench: Bench) -> None:
    """Spending is told by task; without a cap it has no limit."""
    async with bench.executor():
        task = await bench.ended(await bench.submit())
    for request in bench.models.requests:
        assert (request.task_budget.task, request.task_budget.limit_micros) == (task.name, 0)


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
