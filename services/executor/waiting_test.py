"""Tasks that wait for answers, times and children, and what they go on with."""

from datetime import timedelta

import pytest
from google.protobuf import json_format

from agentmesh.common.v1 import conversation_pb2, tier_pb2
from agentmesh.common.v1.conversation_pb2 import Citation
from agentmesh.common.v1.usage_pb2 import Usage
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import ChildResult, TaskSignal
from agentmesh.coordinator.v1.task_pb2 import TaskInput
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from meshkit.errors import ProviderFailed, TaskNotFound, to_status
from meshtest.eventually import eventually
from meshtest.scripted import calls, says
from services.executor.executor_bench import Bench, impatient, kinds
from services.executor.waiting_bench import (
    AGENT,
    a_call,
    asks,
    resume,
    until_waiting,
)

pytest_plugins = ["meshtest.fixtures", "services.executor.executor_bench"]


async def test_an_answer_to_a_question_is_a_tool_s_result(bench: Bench) -> None:
    """Words and data reach the model."""
    asks(bench, a_call("ask_person", {"question": "How many?"}))
    said = TaskInput(text="Three.")
    said.data["count"] = 3
    async with bench.executor():
        task_id = await bench.submit(agent=AGENT)
        assert (await until_waiting(bench, task_id)).input.question == "How many?"
        await resume(bench, task_id, signal=TaskSignal(input=said, sender="ann"))
        task = await bench.ended(task_id)
    assert task.output.text == 'Three.\n\n{"count": 3.0}'
    assert (await bench.events(task_id))[-2].tool_called.result.data == said.data


async def test_a_question_that_nobody_answers_is_told_to_the_model(bench: Bench) -> None:
    """It goes on without the answer."""
    asks(bench, a_call("ask_person", {"question": "How many?"}))
    async with bench.executor():
        task_id = await bench.submit(agent=AGENT)
        await until_waiting(bench, task_id)
        await resume(bench, task_id, expired=True)
        task = await bench.ended(task_id)
    assert task.output.text == "error: Nobody answered in time."


async def test_a_timer_gives_the_time_at_which_it_ended(bench: Bench) -> None:
    """The wait names its end."""
    asks(bench, a_call("wait", {"seconds": 60}))
    async with bench.executor():
        task_id = await bench.submit(agent=AGENT)
        wait = await until_waiting(bench, task_id)
        begun = (await bench.events(task_id))[-1].time.ToDatetime()
        assert wait.until.ToDatetime() - begun == pytest.approx(
            timedelta(seconds=60), abs=timedelta(seconds=2)
        )
        await resume(bench, task_id)
        task = await bench.ended(task_id)
    resumed = next(each for each in await bench.events(task_id) if each.HasField("resumed"))
    assert task.output.text == f"The wait is over: it is {resumed.time.ToJsonString()}."


async def test_what_children_found_is_read_by_their_parent(bench: Bench) -> None:
    """Outputs, errors and citations reach the model; notes tell the rest, and cost counts once."""
    parts = {"tasks": [{"text": "a"}, {"text": "b"}, {"text": "c"}, {"text": "d"}]}
    asks(bench, a_call("delegate", parts))
    async with bench.executor():
        task_id = await bench.submit(agent=AGENT)
        await until_waiting(bench, task_id)
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
        await resume(bench, task_id, results=results)
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
    asks(bench, a_call("delegate", {"tasks": [{"text": "a"}]}))
    async with bench.executor():
        task_id = await bench.submit(agent=AGENT)
        await until_waiting(bench, task_id)
        cancelled = ChildResult(task="x", state=task_pb2.TASK_STATE_CANCELLED)
        await resume(bench, task_id, results=[cancelled])
        task = await bench.ended(task_id)
    assert task.output.text == "error: Task 1 of 1: CANCELLED\nIt was cancelled."


async def test_a_waiting_task_holds_no_worker(bench: Bench) -> None:
    """One worker is enough for any number of tasks that wait at the same time."""
    policy = impatient()
    policy.shared_workers = 0
    for lane in policy.lanes:
        lane.workers = lane.max_concurrent = 1
    await bench.policies.set(policy)
    asks(bench, a_call("ask_person", {"question": "How many?"}))
    async with bench.executor():
        ids = [await bench.submit(agent=AGENT) for _ in range(3)]
        for each in ids:
            await until_waiting(bench, each)
        for each in ids:
            await resume(bench, each, signal=TaskSignal(input=TaskInput(text="Three.")))
        ended = [await bench.ended(each) for each in ids]
    assert [each.output.text for each in ended] == ["Three."] * 3


async def test_waiting_costs_no_attempt(bench: Bench) -> None:
    """A task may wait more often than its lane allows attempts."""

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        said = len(request.messages)
        if said > 10:
            return says("enough")
        return calls(a_call("ask_person", {"question": "And?"}, f"c{said}"))

    bench.models.answer = answer
    async with bench.executor():
        task_id = await bench.submit(agent=AGENT, lane=tier_pb2.LANE_INTERACTIVE)
        for _ in range(5):
            await until_waiting(bench, task_id)
            await resume(bench, task_id, signal=TaskSignal(input=TaskInput(text="Go on.")))

            async def moved() -> bool:
                last = await bench.log.last("acme", task_id)
                return last is not None and last.event.WhichOneof("kind") != "resumed"

            await eventually(moved)
        task = await bench.ended(task_id)
    assert (task.state, task.attempt) == (task_pb2.TASK_STATE_SUCCEEDED, 6)


async def test_the_same_call_id_in_a_later_message_is_another_call(bench: Bench) -> None:
    """The answer to the first question does not answer the second."""

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        results = [each.tool_result.text for each in request.messages if each.role == 4]
        if len(results) == 2:
            return says(" ".join(results))
        return calls(a_call("ask_person", {"question": f"{len(results)}?"}))

    bench.models.answer = answer
    async with bench.executor():
        task_id = await bench.submit(agent=AGENT)
        for number in range(2):

            async def asked(question: str = f"{number}?") -> bool:
                task = await bench.log.task("acme", task_id)
                return task.wait.input.question == question

            await eventually(asked)
            said = TaskSignal(input=TaskInput(text=f"answer {number}"))
            await resume(bench, task_id, signal=said)
        task = await bench.ended(task_id)
    assert task.output.text == "answer 0 answer 1"


async def test_an_attempt_after_the_wait_that_fails_still_knows_the_answer(bench: Bench) -> None:
    """Nobody is asked twice because a model failed."""
    asks(bench, a_call("ask_person", {"question": "How many?"}))
    usual, faults = bench.models.answer, [ProviderFailed("The provider answered 529.")]

    async def flaky(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        if faults and request.messages[-1].role == conversation_pb2.ROLE_TOOL:
            raise faults.pop()
        return await usual(request)

    bench.models.answer = flaky
    async with bench.executor():
        task_id = await bench.submit(agent=AGENT)
        await until_waiting(bench, task_id)
        await resume(bench, task_id, signal=TaskSignal(input=TaskInput(text="Three.")))
        task = await bench.ended(task_id)
    assert task.output.text == "Three."
    assert "retried" in kinds(await bench.events(task_id))


async def test_tools_that_wait_are_offered_only_to_agents_that_name_them(bench: Bench) -> None:
    """An agent without a list gets the tenant's tools alone, and cannot call others."""
    asks(bench, a_call("ask_person", {"question": "How many?"}))
    async with bench.executor():
        task = await bench.ended(await bench.submit())
        assert task.output.text == "error: This agent has no tool 'ask_person'."
        offered = [each.name for each in bench.models.requests[0].tools]
        assert offered == ["effect"]
        task_id = await bench.submit(agent=AGENT)
        await until_waiting(bench, task_id)
    offered = [each.name for each in bench.models.requests[-1].tools]
    assert offered == ["ask_person", "delegate", "effect", "wait"]


async def test_a_model_can_correct_its_arguments(bench: Bench) -> None:
    """It reads which field is wrong; the task does not wait."""
    asks(bench, a_call("wait", {"seconds": -1}))
    async with bench.executor():
        task = await bench.ended(await bench.submit(agent=AGENT))
    assert task.output.text == (
        "error: The arguments do not fit the tool wait: call.arguments.seconds:"
        " must be a number over 0, at most 604800 s from now"
    )
