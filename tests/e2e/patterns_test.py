"""An agent of each pattern, as the documentation has it, through the whole mesh."""

import pytest
import pytest_asyncio

from agentmesh.coordinator.v1 import task_event_pb2, task_pb2
from agentmesh.coordinator.v1.coordinator_service_pb2 import WatchTaskRequest
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task
from tests.e2e.example_agents import QUESTION, make_agents
from tests.e2e.running_mesh import Client

pytest_plugins = ["tests.e2e.shared_meshes"]
pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(prototype: Client) -> Client:
    """A mesh that has the agents."""
    await make_agents(prototype)
    return prototype


async def _end(client: Client, task: Task) -> Task:
    async for _ in client.tasks.WatchTask(WatchTaskRequest(name=task.name), timeout=90):
        pass
    return await client.get(task.name)


def _phases(events: list[TaskEvent]) -> list[str]:
    """What the models were asked for, in order."""
    return [
        task_event_pb2.ModelPhase.Name(called.phase).removeprefix("MODEL_PHASE_")
        for event in events
        for called in (event.model_called, event.completed.model_called)
        if called.step
    ]


async def test_a_single_shot_is_one_call(client: Client) -> None:
    """Without tools, and so without much of an answer from a model that has only rules."""
    task = await _end(client, await client.submit("Who are you?", agent="clerk"))
    assert (task.state, task.steps) == (task_pb2.TASK_STATE_SUCCEEDED, 1)
    assert task.output.text
    assert _phases(await client.log(task.name)) == ["UNSPECIFIED"]


async def test_react_calls_tools_until_it_can_answer(client: Client) -> None:
    """Both calculations, then the answer."""
    task = await _end(client, await client.submit(QUESTION, agent="analyst"))
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert "144" in task.output.text
    assert "51" in task.output.text
    assert _phases(await client.log(task.name)) == ["UNSPECIFIED"] * 2


async def test_plan_and_execute_does_its_steps_and_answers_from_them(client: Client) -> None:
    """A plan, a call or two for each step, the answer."""
    task = await _end(client, await client.submit(QUESTION, agent="planner"))
    assert (task.state, list(task.notes)) == (task_pb2.TASK_STATE_SUCCEEDED, [])
    assert "144" in task.output.text
    assert "51" in task.output.text
    phases = _phases(await client.log(task.name))
    assert (phases[0], phases[-1]) == ("PLAN", "ANSWER")
    assert phases.count("STEP") >= 2


async def test_reflection_has_its_draft_judged(client: Client) -> None:
    """The critic has the last word."""
    task = await _end(client, await client.submit(QUESTION, agent="editor"))
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert "144" in task.output.text
    assert _phases(await client.log(task.name))[-1] == "CRITIQUE"


async def test_a_supervisor_hands_parts_to_its_workers_and_reviews_them(client: Client) -> None:
    """Each part is a task of its own, under its budget, and the answer has their results."""
    task = await _end(client, await client.submit(QUESTION, agent="lead"))
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert "144" in task.output.text
    assert "51" in task.output.text
    events = await client.log(task.name)
    phases = _phases(events)
    assert (phases[0], phases[-1]) == ("DELEGATION", "ANSWER")
    assert "REVIEW" in phases
    parts = next(event.waiting.children for event in events if event.HasField("waiting"))
    assert len(parts) >= 2
    for part in parts:
        worker = await client.get(part.name)
        assert worker.state == task_pb2.TASK_STATE_SUCCEEDED
        assert worker.agent.rpartition("/")[2] in ("analyst@1", "assistant@1")
        assert (worker.parent_task, worker.depth) == (task.name, 1)
        assert worker.budget_tokens == 50_000
        assert 0 < worker.budget_micros <= 100_000
