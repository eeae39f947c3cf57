"""What a task goes through under each pattern, wherever its executor dies."""

from collections.abc import Callable

import pytest

from agentmesh.common.v1.conversation_pb2 import ToolCall
from agentmesh.coordinator.v1 import task_event_pb2, task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import (
    AgentLimits,
    AgentPattern,
    AgentSpec,
    ChildResult,
    TaskWorker,
)
from agentmesh.coordinator.v1.task_pb2 import Task
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from meshtest.scripted import calls, says
from services.executor.pattern_world import Script, World, answers, instruction, works

_PLAN = '{"steps": ["Look at A.", "Look at B."]}'
_FINE = '{"acceptable": true, "problems": []}'
_POOR = '{"acceptable": false, "problems": ["Name B."]}'
_PARTS = '{"parts": [{"worker": "ann", "text": "A?"}, {"worker": "bob", "text": "B?"}]}'
_ACCEPTED = (
    '{"verdicts": [{"part": 1, "accepted": true, "reason": ""},'
    ' {"part": 2, "accepted": true, "reason": ""}]}'
)
_REJECTED = '{"verdicts": [{"part": 2, "accepted": false, "reason": "Which B?"}]}'
_WORKERS = (
    TaskWorker(name="tenants/acme/agents/ann@1", description="Knows A."),
    TaskWorker(name="tenants/acme/agents/bob@4", description="Knows B."),
)


def _look(call_id: str = "c") -> reasoning.GenerateResponse:
    return calls(ToolCall(call_id=call_id, tool="look"))


def _agent(pattern: AgentPattern, **limits: int) -> AgentSpec:
    return AgentSpec(
        name="tenants/acme/agents/boss@2",
        instructions="Be brief.",
        pattern=pattern,
        max_steps=40,
        use_session_memory=True,
        limits=AgentLimits(**limits),
    )


def _single_shot() -> World:
    return World(_agent(task_event_pb2.AGENT_PATTERN_SINGLE_SHOT), answers(request=["It is."]))


def _react() -> World:
    return World(
        _agent(task_event_pb2.AGENT_PATTERN_REACT),
        answers(request=[_look("a"), _look("b"), "It is."]),
    )


def _plan_and_execute() -> World:
    return World(
        _agent(task_event_pb2.AGENT_PATTERN_PLAN_AND_EXECUTE),
        answers(
            plan=[_look("p"), _PLAN],
            step=[_look("a"), "A is 1.", _look("b"), "BLOCKED: no B.", "C is 3."],
            replan=['{"steps": ["Look at C."]}'],
            answer=["It is."],
        ),
    )


def _reflection() -> World:
    return World(
        _agent(task_event_pb2.AGENT_PATTERN_REFLECTION),
        answers(request=[_look("a"), "A draft."], critique=[_POOR, _FINE], revision=["It is."]),
    )


def _supervisor() -> World:
    return World(
        _agent(task_event_pb2.AGENT_PATTERN_SUPERVISOR),
        answers(delegation=[_PARTS], review=[_REJECTED, _ACCEPTED], answer=["It is."]),
        workers=_WORKERS,
    )


_WORLDS = (_single_shot, _react, _plan_and_execute, _reflection, _supervisor)
_KINDS = {
    _single_shot: ["submitted", "completed"],
    _react: [
        "submitted",
        *["model_called", "tool_called"] * 2,
        "completed",
    ],
    _plan_and_execute: [
        "submitted",
        *["model_called", "tool_called", "model_called"] * 3,
        *["model_called"] * 2,
        "completed",
    ],
    _reflection: [
        "submitted",
        *["model_called", "tool_called"],
        *["model_called"] * 4,
        "completed",
    ],
    _supervisor: [
        "submitted",
        *["model_called", "waiting", "resumed"] * 2,
        "model_called",
        "completed",
    ],
}


@pytest.mark.parametrize("world_of", _WORLDS)
async def test_each_pattern_goes_its_own_way_to_the_answer(world_of: Callable[[], World]) -> None:
    """In as few events as there are steps, and the session remembers the answer."""
    world = world_of()
    task = await world.run()
    assert (task.state, task.output.text, list(task.notes)) == (
        task_pb2.TASK_STATE_SUCCEEDED,
        "It is.",
        [],
    )
    assert world.kinds == _KINDS[world_of]
    assert world.remembered == ["It is."]


@pytest.mark.parametrize("is_last_stored", [False, True])
@pytest.mark.parametrize("world_of", _WORLDS)
async def test_an_executor_may_die_at_any_event(
    world_of: Callable[[], World], is_last_stored: bool
) -> None:
    """The next one comes to the same end by the same steps, asks what the first would have
    asked, and makes no call of a tool and no child twice."""
    whole = world_of()
    expected = await whole.run()
    asked = {_step(each): _question(each) for each in whole.requests}
    for events in range(1, len(whole.entries)):
        world = world_of()
        world.kill_after, world.is_last_stored = events, is_last_stored
        task = await world.run()
        assert world.kill_after == 0
        assert (task.state, task.output, task.steps) == (
            expected.state,
            expected.output,
            expected.steps,
        )
        assert (list(task.citations), list(task.notes)) == (
            list(expected.citations),
            list(expected.notes),
        )
        assert world.kinds == whole.kinds
        assert world.executed == whole.executed
        assert world.remembered == whole.remembered
        assert [child.input.text for child in world.children] == [
            child.input.text for child in whole.children
        ]
        for request in world.requests:
            assert _question(request) == asked[_step(request)]
        # What was not recorded is asked once more, and nothing else.
        assert len(world.requests) - len(whole.requests) in (0, 1)


def _step(request: reasoning.GenerateRequest) -> str:
    """Of `task/step/start`."""
    return request.spend_key.split("/")[1]


def _question(request: reasoning.GenerateRequest) -> bytes:
    """A request without what tells attempts apart."""
    same = reasoning.GenerateRequest()
    same.CopyFrom(request)
    same.ClearField("spend_key")
    return same.SerializeToString(deterministic=True)


@pytest.mark.parametrize("world_of", [_plan_and_execute, _reflection, _supervisor])
async def test_every_model_call_says_its_phase(world_of: Callable[[], World]) -> None:
    """The log tells plans, critiques and reviews from answers."""
    world = world_of()
    await world.run()
    phases = [
        task_event_pb2.ModelPhase.Name(called.phase).removeprefix("MODEL_PHASE_")
        for entry in world.entries
        for called in (entry.event.model_called, entry.event.completed.model_called)
        if called.step
    ]
    assert phases == {
        _plan_and_execute: [
            *["PLAN"] * 2, *["STEP"] * 4, "PLAN", "STEP", "ANSWER",
        ],
        _reflection: [*["UNSPECIFIED"] * 2, "CRITIQUE", "REVISION", "CRITIQUE"],
        _supervisor: ["DELEGATION", *["REVIEW"] * 2, "ANSWER"],
    }[world_of]  # fmt: skip


async def test_a_plan_without_steps_is_answered_at_once() -> None:
    """What needs no plan costs two calls."""
    world = World(
        _agent(task_event_pb2.AGENT_PATTERN_PLAN_AND_EXECUTE),
        answers(plan=['{"steps": []}'], answer=["Four."]),
    )
    task = await world.run()
    assert (task.output.text, task.steps, list(task.notes)) == ("Four.", 2, [])


async def test_a_step_that_stays_blocked_is_told() -> None:
    """After the corrections that there may be the task ends with what was found, PARTIAL."""
    world = World(
        _agent(task_event_pb2.AGENT_PATTERN_PLAN_AND_EXECUTE),
        answers(plan=[_PLAN], replan=[_PLAN], step=["BLOCKED: no key."], answer=["Nothing."]),
    )
    task = await world.run()
    assert (task.state, task.output.text) == (task_pb2.TASK_STATE_PARTIAL, "Nothing.")
    assert [(note.code, note.text) for note in task.notes] == [
        ("STEP_BLOCKED", "This step could not be done: Look at A. no key.")
    ]
    assert sum(instruction(each).startswith("[replan]") for each in world.requests) == 2


async def test_a_critic_who_is_never_content_ends_the_revisions() -> None:
    """The last draft, PARTIAL, with what the critic still says."""
    world = World(
        _agent(task_event_pb2.AGENT_PATTERN_REFLECTION, max_revisions=1),
        answers(request=["One."], critique=[_POOR], revision=["Two."]),
    )
    task = await world.run()
    assert (task.state, task.output.text, task.steps) == (
        task_pb2.TASK_STATE_PARTIAL,
        "Two.",
        4,
    )
    assert [(note.code, note.text) for note in task.notes] == [
        ("REVISION_LIMIT", "After 1 revisions the critic still says: Name B.")
    ]


async def test_a_draft_keeps_its_data_and_sources_till_it_is_the_answer() -> None:
    """What the model gave with the draft is the task's when the critic accepts it."""
    draft = says("```json\n{}\n```")
    draft.data.update({"b": 2})
    draft.citations.add(document="tenants/acme/documents/d")
    agent = _agent(task_event_pb2.AGENT_PATTERN_REFLECTION)
    agent.output_schema = '{"type": "object"}'
    world = World(agent, answers(request=[draft], critique=[_FINE]))
    task = await world.run()
    assert (task.output.text, dict(task.output.data)) == ('{"b": 2.0}', {"b": 2.0})
    assert [each.document for each in task.citations] == ["tenants/acme/documents/d"]


@pytest.mark.parametrize(
    ("pattern", "script", "note"),
    [
        (
            task_event_pb2.AGENT_PATTERN_PLAN_AND_EXECUTE,
            answers(plan=["First I would"], answer=["It is."]),
            "PLAN_SKIPPED",
        ),
        (
            task_event_pb2.AGENT_PATTERN_REFLECTION,
            answers(request=["It is."], critique=["Well done!"]),
            "CRITIQUE_SKIPPED",
        ),
        (
            task_event_pb2.AGENT_PATTERN_SUPERVISOR,
            answers(delegation=['{"parts": [{"worker": "zoe", "text": "?"}]}'], answer=["It is."]),
            "DELEGATION_SKIPPED",
        ),
        (
            task_event_pb2.AGENT_PATTERN_SUPERVISOR,
            answers(delegation=[_PARTS], review=["Good."], answer=["It is."]),
            "REVIEW_SKIPPED",
        ),
    ],
)
async def test_what_cannot_be_read_is_done_without(
    pattern: AgentPattern, script: Script, note: str
) -> None:
    """A model that keeps to no format still answers, and the reader is told."""
    task = await World(_agent(pattern), script, workers=_WORKERS).run()
    assert (task.state, task.output.text) == (task_pb2.TASK_STATE_SUCCEEDED, "It is.")
    assert [each.code for each in task.notes] == [note]


async def test_a_supervisor_hands_each_part_to_its_worker() -> None:
    """By the frozen version; the answer rests on what they rest on."""
    world = _supervisor()
    task = await world.run()
    assert [(child.agent, child.input.text.partition("\n")[0]) for child in world.children] == [
        ("tenants/acme/agents/ann@1", "A?"),
        ("tenants/acme/agents/bob@4", "B?"),
        ("tenants/acme/agents/bob@4", "B?"),
    ]
    assert world.children[2].input.text == (
        "B?\n\nAn earlier result was rejected: Which B?\nThe earlier result was:\nfound"
    )
    assert [each.document for each in task.citations] == ["tenants/acme/documents/found"]
    assert not any(child.without_workers for child in world.children)


async def test_a_supervisor_without_workers_hands_parts_to_itself() -> None:
    """They run its own version, and hand on nothing."""
    world = World(
        _agent(task_event_pb2.AGENT_PATTERN_SUPERVISOR),
        answers(
            delegation=['{"parts": [{"worker": "worker", "text": "A?"}]}'],
            review=[_ACCEPTED],
            answer=["It is."],
        ),
    )
    await world.run()
    assert [(child.agent, child.without_workers) for child in world.children] == [
        ("tenants/acme/agents/boss@2", True)
    ]


async def test_parts_that_stay_rejected_are_told() -> None:
    """They are done again twice, then the answer is PARTIAL and says which will not do."""
    world = World(
        _agent(task_event_pb2.AGENT_PATTERN_SUPERVISOR),
        answers(delegation=[_PARTS], review=[_REJECTED], answer=["Half of it."]),
        workers=_WORKERS,
    )
    task = await world.run()
    assert (task.state, task.output.text) == (task_pb2.TASK_STATE_PARTIAL, "Half of it.")
    assert [(note.code, note.text) for note in task.notes] == [
        ("PART_REJECTED", "Part 2, by bob, will not do: Which B?")
    ]
    assert len(world.children) == 2 + 1 + 1


async def test_a_worker_that_failed_is_never_accepted() -> None:
    """Whatever the reviewer says; its error is what the next try reads."""

    def fail(child: Task) -> ChildResult:
        result = ChildResult(task=child.name, state=task_pb2.TASK_STATE_FAILED)
        result.error.message = "The key is gone."
        return result

    world = World(
        _agent(task_event_pb2.AGENT_PATTERN_SUPERVISOR),
        answers(delegation=[_PARTS], review=[_ACCEPTED], answer=["Nothing."]),
        workers=_WORKERS,
        work=fail,
    )
    task = await world.run()
    assert task.state == task_pb2.TASK_STATE_PARTIAL
    assert [note.text for note in task.notes] == [
        "Part 1, by ann, will not do: The key is gone.",
        "Part 2, by bob, will not do: The key is gone.",
    ]


async def test_a_worker_s_budget_holds_over_all_tries_of_its_part() -> None:
    """Each try gets what is left of it, and where nothing is left there is none."""
    world = World(
        _agent(
            task_event_pb2.AGENT_PATTERN_SUPERVISOR,
            worker_max_tokens=50,
            worker_max_cost_micros=18,
        ),
        answers(delegation=[_PARTS], review=[_REJECTED], answer=["Half of it."]),
        workers=_WORKERS,
        work=works("found"),  # for 20 tokens and 9 micro-dollars
    )
    task = await world.run()
    assert [(child.budget_tokens, child.budget_micros) for child in world.children] == [
        (50, 18),
        (50, 18),
        (30, 9),
    ]
    assert task.state == task_pb2.TASK_STATE_PARTIAL


async def test_parts_share_what_is_left_to_the_task_and_leave_a_share() -> None:
    """The supervisor keeps as much as each of its workers gets."""
    world = _supervisor()
    await world.run(budget_micros=307, budget_tokens=3_015)
    # The delegation used 7 micro-dollars and 15 tokens.
    assert [(each.budget_micros, each.budget_tokens) for each in world.children[:2]] == [
        (100, 1_000)
    ] * 2


async def test_a_supervisor_too_deep_to_have_children_works_alone() -> None:
    """With its own tools, and it says so."""
    world = World(
        _agent(task_event_pb2.AGENT_PATTERN_SUPERVISOR), answers(request=[_look(), "It is."])
    )
    task = await world.run(depth=5)
    assert (task.output.text, world.executed) == ("It is.", ["t/1/c"])
    assert [note.code for note in task.notes] == ["WORKERS_SKIPPED"]
