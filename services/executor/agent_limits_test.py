"""What a task may use: at a limit it ends PARTIAL, with its best result."""

import pytest

from agentmesh.common.v1.conversation_pb2 import ToolCall
from agentmesh.coordinator.v1 import task_event_pb2, task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import AgentLimits, AgentSpec
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from meshkit.errors import BudgetExhausted, TooLarge
from meshtest.scripted import calls, says
from services.executor.model_step import Room
from services.executor.pattern_world import World, answers


def _agent(**limits: int) -> AgentSpec:
    return AgentSpec(
        name="tenants/acme/agents/a@1",
        instructions="Be brief.",
        max_steps=40,
        limits=AgentLimits(**limits),
    )


def _forever(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
    """Looks again and again; each call is 10 tokens in and 5 out."""
    return calls(ToolCall(call_id=f"c{len(request.messages)}", tool="look"))


async def test_no_call_is_made_that_has_no_room_below_the_token_limit() -> None:
    """What was found is the result, and the note says what the limit was."""
    world = World(_agent(max_tokens=100), _forever)
    task = await world.run()
    assert task.state == task_pb2.TASK_STATE_PARTIAL
    assert task.output.text.startswith("seen c2")
    assert [note.code for note in task.notes] == ["TOKEN_LIMIT"]
    assert task.notes[0].text.startswith("Stopped at the limit of 100 tokens, after ")
    used = task.usage.input_tokens + task.usage.output_tokens
    assert 0 < used <= 100
    # Every answer had room for what was left, and no more.
    for before, request in enumerate(world.requests):
        assert request.parameters.max_output_tokens < 100 - 15 * before


async def test_what_children_used_counts_for_a_part_and_not_for_an_agent() -> None:
    """A part's cap is on the whole family; an agent's limit is on its own calls."""

    def supervisor(**limits: int) -> World:
        agent = _agent(**limits)
        agent.pattern = task_event_pb2.AGENT_PATTERN_SUPERVISOR
        return World(
            agent,
            answers(
                delegation=['{"parts": [{"worker": "worker", "text": "A?"}]}'],
                review=['{"verdicts": []}'],
                answer=["It is."],
            ),
        )

    own = supervisor(max_tokens=1_200)
    work = own.work
    own.work = lambda child: _used(work(child), 5_000)
    assert (await own.run()).output.text == "It is."
    family = supervisor()
    family.work = own.work
    task = await family.run(budget_tokens=1_200)
    assert (task.state, task.output.text) == (task_pb2.TASK_STATE_PARTIAL, "found")
    assert [note.code for note in task.notes] == ["TOKEN_LIMIT"]


def _used(result: task_event_pb2.ChildResult, tokens: int) -> task_event_pb2.ChildResult:
    result.usage.input_tokens = tokens
    return result


async def test_an_answer_cut_by_the_agent_s_limit_is_partial() -> None:
    """The model is told the limit; what it cut short is not whole."""
    cut = says("It is a")
    cut.stop_reason = reasoning.STOP_REASON_MAX_TOKENS
    world = World(_agent(max_output_tokens=64), answers(request=[cut]))
    task = await world.run()
    assert (task.state, task.output.text) == (task_pb2.TASK_STATE_PARTIAL, "It is a")
    assert [note.code for note in task.notes] == ["OUTPUT_LIMIT"]
    assert world.requests[0].parameters.max_output_tokens == 64


async def test_a_withheld_answer_is_told() -> None:
    """The reader must not take silence for an answer."""
    refused = says("")
    refused.stop_reason = reasoning.STOP_REASON_REFUSED
    task = await World(_agent(), answers(request=[refused])).run()
    assert [note.code for note in task.notes] == ["ANSWER_REFUSED"]
    assert task.state == task_pb2.TASK_STATE_PARTIAL


@pytest.mark.parametrize(
    ("budget", "is_own"),
    [
        ("tenants/acme/budgets/task-lifetime-t", True),
        ("tenants/acme/budgets/task-lifetime-t2", False),
        ("tenants/acme/budgets/tenant-day", False),
    ],
)
async def test_only_the_task_s_own_cap_ends_it_with_what_it_has(budget: str, is_own: bool) -> None:
    """Where the tenant's money is spent, the task fails as any other call does."""

    def script(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        if len(request.messages) > 2:
            raise BudgetExhausted(f"The budget {budget} is spent.", metadata={"budget": budget})
        return _forever(request)

    world = World(_agent(), script)
    if not is_own:
        with pytest.raises(BudgetExhausted):
            await world.run(budget_micros=20)
        return
    task = await world.run(budget_micros=20)
    assert (task.state, task.output.text) == (task_pb2.TASK_STATE_PARTIAL, "seen c2")
    assert [(note.code, note.text) for note in task.notes] == [
        ("COST_LIMIT", f"The budget {budget} is spent.")
    ]


async def test_the_step_limit_does_not_keep_a_finished_answer_back() -> None:
    """A draft that the critic accepted with the last step is the answer."""
    agent = _agent()
    agent.max_steps = 2
    agent.pattern = task_event_pb2.AGENT_PATTERN_REFLECTION
    fine = '{"acceptable": true, "problems": []}'
    task = await World(agent, answers(request=["It is."], critique=[fine])).run()
    assert (task.state, task.output.text) == (task_pb2.TASK_STATE_SUCCEEDED, "It is.")


@pytest.mark.parametrize("pattern", task_event_pb2.AgentPattern.values())
async def test_the_step_limit_holds_for_every_pattern(pattern: task_event_pb2.AgentPattern) -> None:
    """PARTIAL with a note, even before anything was found."""
    agent = _agent()
    agent.max_steps, agent.pattern = 1, pattern
    task = await World(agent, _forever).run()
    assert (task.state, task.steps) == (task_pb2.TASK_STATE_PARTIAL, 1)
    assert [note.text for note in task.notes] == ["Stopped after 1 steps."]


async def test_a_request_that_no_model_has_room_for_is_refused_with_the_limit() -> None:
    """Before anything is sent: a size error that is never tried again."""
    world = World(_agent(), answers(request=["It is."]), room=Room(1_000, 200))
    with pytest.raises(TooLarge, match="The limit is 654") as refused:
        await world.run("x" * 10_000)
    assert refused.value.metadata["limit_tokens"] == "654"
    assert world.requests == []
