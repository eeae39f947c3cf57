"""Tool calls that wait for a person who says whether they are made."""

from datetime import timedelta

import pytest

from agentmesh.common.v1.conversation_pb2 import ToolResult
from agentmesh.coordinator.v1 import task_event_pb2, task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskSignal
from agentmesh.coordinator.v1.task_pb2 import TaskInput
from agentmesh.tool.v1 import tool_pb2
from agentmesh.tool.v1 import tool_service_pb2 as tool
from meshkit.errors import OutcomeUnknown
from services.executor.executor_bench import CALL, Bench, kinds
from services.executor.waiting_bench import (
    APPROVED,
    REJECTED,
    a_call,
    asks,
    resume,
    until_waiting,
)

pytest_plugins = ["meshtest.fixtures", "services.executor.executor_bench"]


async def test_a_tool_that_requires_approval_is_called_once_a_person_agrees(bench: Bench) -> None:
    """Nothing is called and nothing held before; afterwards the usual key is used."""
    bench.tools.tool.requires_approval = True
    async with bench.executor():
        task_id = await bench.submit()
        wait = await until_waiting(bench, task_id)
        assert wait.call_id == "c1"
        assert wait.approval.call == CALL
        assert wait.approval.why == "The tool requires approval."
        assert not wait.approval.outcome_unknown
        assert bench.tools.requests == []
        await resume(bench, task_id, signal=APPROVED)
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


@pytest.mark.parametrize("named", [[], ["wait"]], ids=["all tools", "named"])
async def test_a_tool_of_the_tenant_keeps_its_approval_whatever_its_name(
    bench: Bench, named: list[str]
) -> None:
    """Its own tool `wait` is called like any other, and hides the executor's."""
    bench.tools.tool.tool_id = "wait"
    bench.tools.tool.requires_approval = True
    asks(bench, a_call("wait", {"for": "godot"}))
    agent = task_event_pb2.AgentSpec(name="tenants/acme/agents/a@1", max_steps=8, tools=named)
    async with bench.executor():
        task_id = await bench.submit(agent=agent)
        wait = await until_waiting(bench, task_id)
        assert wait.approval.why == "The tool requires approval."
        await resume(bench, task_id, signal=APPROVED)
        task = await bench.ended(task_id)
    assert task.output.text == "effect happened"
    assert [each.call.tool for each in bench.tools.requests] == ["wait"]


async def test_a_wait_ends_after_the_time_that_its_lane_allows(bench: Bench) -> None:
    """Seven days, as the built-in policy has it."""
    bench.tools.tool.requires_approval = True
    async with bench.executor():
        task_id = await bench.submit()
        wait = await until_waiting(bench, task_id)
    waiting = (await bench.events(task_id))[-1]
    assert wait.expire_time.ToDatetime() - waiting.time.ToDatetime() == pytest.approx(
        timedelta(days=7), abs=timedelta(seconds=5)
    )


async def test_another_executor_goes_on_after_the_wait(bench: Bench) -> None:
    """The log alone tells it what was approved."""
    bench.tools.tool.requires_approval = True
    async with bench.executor():
        task_id = await bench.submit()
        await until_waiting(bench, task_id)
    await resume(bench, task_id, signal=APPROVED)
    async with bench.executor():
        task = await bench.ended(task_id)
    assert task.output.text == "done: effect happened"


@pytest.mark.parametrize(
    ("signal", "told"),
    [
        (REJECTED, "done: ann rejected this call: too dear"),
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
        await until_waiting(bench, task_id)
        await resume(bench, task_id, signal=signal, expired=signal is None)
        task = await bench.ended(task_id)
    assert task.output.text == told
    assert bench.tools.requests == []
    result = (await bench.events(task_id))[-2].tool_called
    assert (result.result.is_error, result.idempotency_key) == (True, "")
    assert task.usage.tool_calls == 0


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
    asks(
        bench,
        a_call("pay", {}, "c1"),
        a_call("ask_person", {"question": "Why?"}, "c2"),
        a_call("effect", {}, "c3"),
        a_call("unknown", {}, "c4"),
    )

    async def execute(request: tool.ExecuteToolRequest) -> ToolResult:
        call = request.call
        return ToolResult(call_id=call.call_id, tool=call.tool, text=f"{call.tool} done")

    bench.tools.execute = execute
    async with bench.executor():
        task_id = await bench.submit(agent=agent)
        assert (await until_waiting(bench, task_id)).call_id == "c1"
        assert [each.call.tool for each in bench.tools.requests] == ["effect"]
        await resume(bench, task_id, signal=APPROVED)
        assert (await until_waiting(bench, task_id)).call_id == "c2"
        said = TaskSignal(input=TaskInput(text="Because."))
        await resume(bench, task_id, signal=said)
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
        wait = await until_waiting(bench, task_id)
        assert wait.approval.outcome_unknown
        assert wait.approval.why == (
            "An execution of effect ended without an answer. Approve to have it called again."
        )
        bench.tools.execute = usual
        await resume(bench, task_id, signal=APPROVED)
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
        await until_waiting(bench, task_id)
        await resume(bench, task_id, signal=REJECTED)
        task = await bench.ended(task_id)
    assert task.output.text == "done: ann rejected this call: too dear"
    assert len(bench.tools.requests) == 1


async def test_the_time_limit_does_not_count_the_wait(bench: Bench) -> None:
    """A task of a minute that waited for an hour has its minute still."""
    bench.tools.tool.requires_approval = True
    async with bench.executor():
        task_id = await bench.submit(seconds=60)
        await until_waiting(bench, task_id)
        await resume(bench, task_id, signal=APPROVED, waited=timedelta(hours=1))
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
    # What a call may take by itself: of the task's time more than that is left.
    assert bench.tools.timeouts == [pytest.approx(25, abs=5)]
