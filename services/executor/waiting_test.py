"""Tasks that wait for people, times and children, and what they go on with."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf import json_format

from agentmesh.common.v1 import conversation_pb2, tier_pb2
from agentmesh.common.v1.conversation_pb2 import Citation, ToolCall, ToolResult
from agentmesh.common.v1.usage_pb2 import Usage
from agentmesh.coordinator.v1 import task_event_pb2, task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import ChildResult, TaskSignal
from agentmesh.coordinator.v1.task_pb2 import TaskInput, TaskWait
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from agentmesh.tool.v1 import tool_pb2
from agentmesh.tool.v1 import tool_service_pb2 as tool
from meshkit.errors import OutcomeUnknown, ProviderFailed, TaskNotFound, to_status
from meshtest.eventually import eventually
from meshtest.scripted import calls, says
from services.executor.executor_bench import CALL, Bench, kinds
from tasklog import lifecycle, subjects

pytest_plugins = ["meshtest.fixtures", "services.executor.executor_bench"]

_AGENT = task_event_pb2.AgentSpec(
    name="tenants/acme/agents/a@1",
    instructions="x",
    max_steps=20,
    tools=["effect", "ask_person", "wait", "delegate"],
)
_APPROVED = TaskSignal(approval=TaskSignal.Approval(comment="fine"), sender="ann")
_REJECTED = TaskSignal(rejection=TaskSignal.Rejection(reason="too dear"), sender="ann")


def _call(name: str, arguments: dict[str, Any], call_id: str = "c1") -> ToolCall:
    call = ToolCall(call_id=call_id, tool=name)
    json_format.ParseDict(arguments, call.arguments)
    return call


def _asks(bench: Bench, *first: ToolCall) -> None:
    """Has the model make these calls, and then answer with the results that it has read."""

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        results = [
            message.tool_result
            for message in request.messages
            if message.role == conversation_pb2.ROLE_TOOL
        ]
        if not results:
            return calls(*first)
        return says(
            "; ".join(f"{'error: ' if each.is_error else ''}{each.text}" for each in results)
        )

    bench.models.answer = answer


async def _waiting(bench: Bench, task_id: str) -> TaskWait:
    """What the task waits for, once it does and nobody holds it."""

    async def waits() -> bool:
        last = await bench.log.last("acme", task_id)
        return last is not None and last.event.status.state == task_pb2.TASK_STATE_WAITING

    async def nothing_is_held() -> bool:
        held = [info["num_ack_pending"] async for info in bench.bus.consumers(subjects.STREAM)]
        return not any(held)

    await eventually(waits, 10)
    await eventually(nothing_is_held, 10)
    return (await bench.log.task("acme", task_id)).wait


async def _resume(
    bench: Bench,
    task_id: str,
    *,
    signal: TaskSignal | None = None,
    expired: bool = False,
    results: Sequence[ChildResult] = (),
    waited: timedelta = timedelta(),
) -> None:
    """Writes what the coordinator would."""
    last = await bench.log.last("acme", task_id)
    assert last is not None
    event = lifecycle.new_event(last.event.task, "coordinator/test")
    event.resumed.expired = expired
    event.resumed.children.extend(results)
    if signal is not None:
        event.resumed.signal.CopyFrom(signal)
    usage = Usage()
    for result in results:
        lifecycle.add_usage(usage, result.usage)
    lifecycle.advance(
        last.event.status,
        event,
        sequence=last.event.sequence + 1,
        time=datetime.now(UTC) + waited,
        usage=usage,
    )
    await bench.log.append("acme", task_id, event, after=last.stream_sequence)


async def test_a_tool_that_requires_approval_is_called_once_a_person_agrees(bench: Bench) -> None:
    """Nothing is called and nothing held before; afterwards the usual key is used."""
    bench.tools.tool.requires_approval = True
    async with bench.executor():
        task_id = await bench.submit()
        wait = await _waiting(bench, task_id)
        assert wait.call_id == "c1"
        assert wait.approval.call == CALL
        assert wait.approval.why == "The tool requires approval."
        assert not wait.approval.outcome_unknown
        assert bench.tools.requests == []
        await _resume(bench, task_id, signal=_APPROVED)
        task = await bench.ended(task_id)
    assert task.output.text == "done: effect happened"
    assert kinds(await bench.events(task_id)) == [
        "submitted",
        "started",
        "model_called",
        "waiting",
        "resumed",
        "started",
        "tool_called",
        "completed",
    ]
    assert [each.idempotency_key for each in bench.tools.requests] == [f"{task_id}/1/c1"]


async def test_a_wait_ends_after_the_time_that_its_lane_allows(bench: Bench) -> None:
    """Seven days, as the built-in policy has it."""
    bench.tools.tool.requires_approval = True
    async with bench.executor():
        task_id = await bench.submit()
        wait = await _waiting(bench, task_id)
    waiting = (await bench.events(task_id))[-1]
    assert wait.expire_time.ToDatetime() - waiting.time.ToDatetime() == pytest.approx(
        timedelta(days=7), abs=timedelta(seconds=5)
    )


async def test_another_executor_goes_on_after_the_wait(bench: Bench) -> None:
    """The log alone tells it what was approved."""
    bench.tools.tool.requires_approval = True
    async with bench.executor():
        task_id = await bench.submit()
        await _waiting(bench, task_id)
    await _resume(bench, task_id, signal=_APPROVED)
    async with bench.executor():
        task = await bench.ended(task_id)
    assert task.output.text == "done: effect happened"


@pytest.mark.parametrize(
    ("signal", "told"),
    [
        (_REJECTED, "done: ann rejected this call: too dear"),
        (
            TaskSignal(rejection=TaskSignal.Rejection()),
            "done: A person rejected this call: no reason was given",
        ),
        (None, "done: Nobody approved this call in time, so it was not made."),
    ],
    ids=["rejected", "rejected-silently", "expired"],
)
async def test_a_call_without_consent_is_never_made(
    bench: Bench, signal: TaskSignal | None, told: str
) -> None:
    """The model reads who refused it and why."""
    bench.tools.tool.requires_approval = True
    async with bench.executor():
        task_id = await bench.submit()
        await _waiting(bench, task_id)
        await _resume(bench, task_id, signal=signal, expired=signal is None)
        task = await bench.ended(task_id)
    assert task.output.text == told
    assert bench.tools.requests == []
    result = (await bench.events(task_id))[-2].tool_called
    assert (result.result.is_error, result.idempotency_key) == (True, "")
    assert task.usage.tool_calls == 0


async def test_an_answer_to_a_question_is_a_tool_s_result(bench: Bench) -> None:
    """Words and data reach the model."""
    _asks(bench, _call("ask_person", {"question": "How many?"}))
    said = TaskInput(text="Three.")
    said.data["count"] = 3
    async with bench.executor():
        task_id = await bench.submit(agent=_AGENT)
        assert (await _waiting(bench, task_id)).input.question == "How many?"
        await _resume(bench, task_id, signal=TaskSignal(input=said, sender="ann"))
        task = await bench.ended(task_id)
    assert task.output.text == 'Three.\n\n{"count": 3.0}'
    assert (await bench.events(task_id))[-2].tool_called.result.data == said.data


async def test_a_question_that_nobody_answers_is_told_to_the_model(bench: Bench) -> None:
    """It goes on without the answer."""
    _asks(bench, _call("ask_person", {"question": "How many?"}))
    async with bench.executor():
        task_id = await bench.submit(agent=_AGENT)
        await _waiting(bench, task_id)
        await _resume(bench, task_id, expired=True)
        task = await bench.ended(task_id)
    assert task.output.text == "error: Nobody answered in time."


async def test_a_timer_gives_the_time_at_which_it_ended(bench: Bench) -> None:
    """The wait names its end."""
    _asks(bench, _call("wait", {"seconds": 60}))
    async with bench.executor():
        task_id = await bench.submit(agent=_AGENT)
        wait = await _waiting(bench, task_id)
        begun = (await bench.events(task_id))[-1].time.ToDatetime()
        assert wait.until.ToDatetime() - begun == pytest.approx(
            timedelta(seconds=60), abs=timedelta(seconds=2)
        )
        await _resume(bench, task_id)
        task = await bench.ended(task_id)
    resumed = next(each for each in await bench.events(task_id) if each.HasField("resumed"))
    assert task.output.text == f"The wait is over: it is {resumed.time.ToJsonString()}."


async def test_what_children_found_is_read_by_their_parent(bench: Bench) -> None:
    """Outputs, errors and citations reach the model; notes tell the rest, and cost counts once."""
    parts = {"tasks": [{"text": "a"}, {"text": "b"}, {"text": "c"}, {"text": "d"}]}
    _asks(bench, _call("delegate", parts))
    async with bench.executor():
        task_id = await bench.submit(agent=_AGENT)
        await _waiting(bench, task_id)
        asked = (await bench.events(task_id))[-1].waiting
        names = list(asked.wait.children.tasks)
        assert [child.input.text for child in asked.children] == ["a", "b", "c", "d"]
        good = ChildResult(
            task=names[0],
            state=task_pb2.TASK_STATE_SUCCEEDED,
            citations=[Citation(document="tenants/acme/documents/d1")],
            usage=Usage(cost_micros=100, model_calls=2),
        )
        good.output.text = "found it"
        good.output.data["count"] = 1
        results = [
            good,
            ChildResult(
                task=names[1],
                state=task_pb2.TASK_STATE_FAILED,
                error=to_status(ProviderFailed("The provider answered 500.")),
                usage=Usage(cost_micros=10),
            ),
            ChildResult(error=to_status(TaskNotFound("There is no such agent."))),
            ChildResult(task=names[3], state=task_pb2.TASK_STATE_RUNNING),
        ]
        await _resume(bench, task_id, results=results)
        task = await bench.ended(task_id)
    assert task.output.text == (
        'Task 1 of 4: SUCCEEDED\nfound it\n\n{"count": 1.0}\n\n'
        "Task 2 of 4: FAILED\nThe provider answered 500.\n\n"
        "Task 3 of 4: REFUSED\nThere is no such agent.\n\n"
        "Task 4 of 4: UNFINISHED\nIt was not done in time."
    )
    result = (await bench.events(task_id))[-2].tool_called.result
    assert [each.document for each in result.citations] == ["tenants/acme/documents/d1"]
    assert json_format.MessageToDict(result.data) == {
        "tasks": [
            {"task": names[0], "state": "SUCCEEDED", "data": {"count": 1.0}},
            {"task": names[1], "state": "FAILED", "error": "The provider answered 500."},
            {"task": "", "state": "REFUSED", "error": "There is no such agent."},
            {"task": names[3], "state": "UNFINISHED"},
        ]
    }
    assert [(note.code, note.text) for note in task.notes] == [
        ("CHILD_FAILED", f"{names[1]}: The provider answered 500."),
        ("CHILD_REFUSED", "A child task: There is no such agent."),
        ("CHILD_UNFINISHED", f"{names[3]}: It was not done in time."),
    ]
    # Two calls of the parent's own, at 7 each.
    assert (task.usage.cost_micros, task.usage.model_calls) == (124, 4)


async def test_a_parent_none_of_whose_children_succeeded_reads_an_error(bench: Bench) -> None:
    """So that the model does not take it for a result."""
    _asks(bench, _call("delegate", {"tasks": [{"text": "a"}]}))
    async with bench.executor():
        task_id = await bench.submit(agent=_AGENT)
        await _waiting(bench, task_id)
        cancelled = ChildResult(task="x", state=task_pb2.TASK_STATE_CANCELLED)
        await _resume(bench, task_id, results=[cancelled])
        task = await bench.ended(task_id)
    assert task.output.text == "error: Task 1 of 1: CANCELLED\nIt was cancelled."


async def test_calls_that_need_nobody_are_made_before_the_task_waits(bench: Bench) -> None:
    """Then it waits for one call at a time, and no result is lost."""
    bench.tools.tools.append(
        tool_pb2.Tool(tool_id="pay", effect=tool_pb2.EFFECT_IDEMPOTENT, requires_approval=True)
    )
    agent = task_event_pb2.AgentSpec(
        name="tenants/acme/agents/a@1",
        instructions="x",
        max_steps=20,
        tools=["effect", "pay", "ask_person"],
    )
    _asks(
        bench,
        _call("pay", {}, "c1"),
        _call("ask_person", {"question": "Why?"}, "c2"),
        _call("effect", {}, "c3"),
        _call("unknown", {}, "c4"),
    )

    async def execute(request: tool.ExecuteToolRequest) -> ToolResult:
        call = request.call
        return ToolResult(call_id=call.call_id, tool=call.tool, text=f"{call.tool} done")

    bench.tools.execute = execute
    async with bench.executor():
        task_id = await bench.submit(agent=agent)
        assert (await _waiting(bench, task_id)).call_id == "c1"
        assert [each.call.tool for each in bench.tools.requests] == ["effect"]
        await _resume(bench, task_id, signal=_APPROVED)
        assert (await _waiting(bench, task_id)).call_id == "c2"
        said = TaskSignal(input=TaskInput(text="Because."))
        await _resume(bench, task_id, signal=said)
        task = await bench.ended(task_id)
    assert task.output.text == (
        "effect done; error: This agent has no tool 'unknown'.; pay done; Because."
    )
    assert [each.call.tool for each in bench.tools.requests] == ["effect", "pay"]


async def _lost(request: tool.ExecuteToolRequest) -> ToolResult:
    raise OutcomeUnknown("An execution of effect ended without an answer.")


async def test_a_call_of_unknown_outcome_waits_for_a_person(bench: Bench) -> None:
    """Approved, it is made under a key of its own, and the log has the key that was used."""
    bench.tools.tool.effect = tool_pb2.EFFECT_UNSAFE
    usual, bench.tools.execute = bench.tools.execute, _lost
    async with bench.executor():
        task_id = await bench.submit()
        wait = await _waiting(bench, task_id)
        assert wait.approval.outcome_unknown
        assert wait.approval.why == (
            "An execution of effect ended without an answer. Approve to have it called again."
        )
        bench.tools.execute = usual
        await _resume(bench, task_id, signal=_APPROVED)
        task = await bench.ended(task_id)
    assert task.output.text == "done: effect happened"
    events = await bench.events(task_id)
    assert kinds(events) == [
        "submitted",
        "started",
        "model_called",
        "tool_intended",
        "waiting",
        "resumed",
        "started",
        "tool_intended",
        "tool_called",
        "completed",
    ]
    keys = [each.idempotency_key for each in bench.tools.requests]
    assert keys == [f"{task_id}/1/c1", f"{task_id}/1/c1/6"]
    assert events[7].tool_intended.idempotency_key == keys[1]
    assert events[8].tool_called.idempotency_key == keys[1]


async def test_a_call_of_unknown_outcome_that_is_rejected_is_not_made_again(bench: Bench) -> None:
    """The model reads the reason, and the task goes on."""
    bench.tools.tool.effect = tool_pb2.EFFECT_UNSAFE
    bench.tools.execute = _lost
    async with bench.executor():
        task_id = await bench.submit()
        await _waiting(bench, task_id)
        await _resume(bench, task_id, signal=_REJECTED)
        task = await bench.ended(task_id)
    assert task.output.text == "done: ann rejected this call: too dear"
    assert len(bench.tools.requests) == 1


async def test_waiting_costs_no_attempt(bench: Bench) -> None:
    """A task may wait more often than its lane allows attempts."""

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        said = len(request.messages)
        if said > 10:
            return says("enough")
        return calls(_call("ask_person", {"question": "And?"}, f"c{said}"))

    bench.models.answer = answer
    async with bench.executor():
        task_id = await bench.submit(agent=_AGENT, lane=tier_pb2.LANE_INTERACTIVE)
        for _ in range(5):
            await _waiting(bench, task_id)
            await _resume(bench, task_id, signal=TaskSignal(input=TaskInput(text="Go on.")))

            async def moved() -> bool:
                last = await bench.log.last("acme", task_id)
                return last is not None and last.event.WhichOneof("kind") != "resumed"

            await eventually(moved, 10)
        task = await bench.ended(task_id)
    assert (task.state, task.attempt) == (task_pb2.TASK_STATE_SUCCEEDED, 6)


async def test_the_same_call_id_in_a_later_message_is_another_call(bench: Bench) -> None:
    """The answer to the first question does not answer the second."""

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        results = [each.tool_result.text for each in request.messages if each.role == 4]
        if len(results) == 2:
            return says(" ".join(results))
        return calls(_call("ask_person", {"question": f"{len(results)}?"}))

    bench.models.answer = answer
    async with bench.executor():
        task_id = await bench.submit(agent=_AGENT)
        for number in range(2):

            async def asked(question: str = f"{number}?") -> bool:
                task = await bench.log.task("acme", task_id)
                return task.wait.input.question == question

            await eventually(asked, 10)
            said = TaskSignal(input=TaskInput(text=f"answer {number}"))
            await _resume(bench, task_id, signal=said)
        task = await bench.ended(task_id)
    assert task.output.text == "answer 0 answer 1"


async def test_an_attempt_after_the_wait_that_fails_still_knows_the_answer(bench: Bench) -> None:
    """Nobody is asked twice because a model failed."""
    _asks(bench, _call("ask_person", {"question": "How many?"}))
    usual, faults = bench.models.answer, [ProviderFailed("The provider answered 529.")]

    async def flaky(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        if faults and request.messages[-1].role == conversation_pb2.ROLE_TOOL:
            raise faults.pop()
        return await usual(request)

    bench.models.answer = flaky
    async with bench.executor():
        task_id = await bench.submit(agent=_AGENT)
        await _waiting(bench, task_id)
        await _resume(bench, task_id, signal=TaskSignal(input=TaskInput(text="Three.")))
        task = await bench.ended(task_id)
    assert task.output.text == "Three."
    assert "retried" in kinds(await bench.events(task_id))


async def test_tools_that_wait_are_offered_only_to_agents_that_name_them(bench: Bench) -> None:
    """An agent without a list gets the tenant's tools alone, and cannot call others."""
    _asks(bench, _call("ask_person", {"question": "How many?"}))
    async with bench.executor():
        task = await bench.ended(await bench.submit())
        assert task.output.text == "error: This agent has no tool 'ask_person'."
        offered = [each.name for each in bench.models.requests[0].tools]
        assert offered == ["effect"]
        task_id = await bench.submit(agent=_AGENT)
        await _waiting(bench, task_id)
    offered = [each.name for each in bench.models.requests[-1].tools]
    assert offered == ["ask_person", "delegate", "effect", "wait"]


async def test_a_model_can_correct_its_arguments(bench: Bench) -> None:
    """It reads which field is wrong; the task does not wait."""
    _asks(bench, _call("wait", {"seconds": -1}))
    async with bench.executor():
        task = await bench.ended(await bench.submit(agent=_AGENT))
    assert task.output.text == (
        "error: The arguments do not fit the tool wait: call.arguments.seconds:"
        " must be a number over 0, at most 604800 s from now"
    )


async def test_the_time_limit_does_not_count_the_wait(bench: Bench) -> None:
    """A task of five seconds that waited for a minute has its five seconds still."""
    bench.tools.tool.requires_approval = True
    async with bench.executor():
        task_id = await bench.submit(seconds=5)
        await _waiting(bench, task_id)
        await _resume(bench, task_id, signal=_APPROVED, waited=timedelta(seconds=60))
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
    # The wait was over before the minute was: the rest of it is this task's too.
    assert bench.tools.timeouts == [pytest.approx(30, abs=1)]
