"""An agent of each pattern, as the documentation has it, through the whole mesh."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_event_pb2, task_pb2
from agentmesh.coordinator.v1.coordinator_service_pb2 import WatchTaskRequest
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task
from cli.command_mesh import Commands
from meshtest.eventually import eventually
from tasklog import lifecycle
from tests.e2e.running_mesh import Client, running
from tier.api import Tier

_EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "agents"
# Workers before those who hand parts to them.
_AGENTS = ("clerk", "analyst", "planner", "editor", "lead")
_QUESTION = "What is 12 * 12, and what is 45 + 6?"


async def _make_agents(client: Client) -> None:
    commands = Commands(client.mesh.address)
    for name in _AGENTS:
        file = str(_EXAMPLES / f"{name}.yaml")
        result = await commands.run("agent", "create", "--file", file, "--json")
        assert result.exit_code == 0, result.stderr
        created: dict[str, Any] = json.loads(result.stdout)["agent"]
        assert created["name"] == f"tenants/default/agents/{name}"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with running(tmp_path, Tier.PROTOTYPE) as client:
        await _make_agents(client)
        yield client


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
    task = await _end(client, await client.submit(_QUESTION, agent="analyst"))
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert "144" in task.output.text
    assert "51" in task.output.text
    assert _phases(await client.log(task.name)) == ["UNSPECIFIED"] * 2


async def test_plan_and_execute_does_its_steps_and_answers_from_them(client: Client) -> None:
    """A plan, a call or two for each step, the answer."""
    task = await _end(client, await client.submit(_QUESTION, agent="planner"))
    assert (task.state, list(task.notes)) == (task_pb2.TASK_STATE_SUCCEEDED, [])
    assert "144" in task.output.text
    assert "51" in task.output.text
    phases = _phases(await client.log(task.name))
    assert (phases[0], phases[-1]) == ("PLAN", "ANSWER")
    assert phases.count("STEP") >= 2


async def test_reflection_has_its_draft_judged(client: Client) -> None:
    """The critic has the last word."""
    task = await _end(client, await client.submit(_QUESTION, agent="editor"))
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert "144" in task.output.text
    assert _phases(await client.log(task.name))[-1] == "CRITIQUE"


async def test_a_supervisor_hands_parts_to_its_workers_and_reviews_them(client: Client) -> None:
    """Each part is a task of its own, under its budget, and the answer has their results."""
    task = await _end(client, await client.submit(_QUESTION, agent="lead"))
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


async def test_every_pattern_outlives_its_executors(tmp_path: Path) -> None:
    """Killed while tasks of all patterns run, they lose no task and repeat no step."""
    async with running(tmp_path, Tier.STAGING, executors=2) as client:
        await _make_agents(client)
        tasks = await asyncio.gather(
            *(client.submit(_QUESTION, agent=name) for name in _AGENTS for _ in range(6))
        )
        await _first_step(client, tasks[-1])
        killed = _executor_pids(client)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: not set(killed) & set(_executor_pids(client)), 30)
        interrupted = 0
        for each in tasks:
            task = await _ended(client, each)
            assert task.state == task_pb2.TASK_STATE_SUCCEEDED, task
            events = await client.log(task.name)
            steps = [
                called.step
                for event in events
                for called in (event.model_called, event.tool_called, event.completed.model_called)
                if called.step
            ]
            assert steps == list(range(1, len(steps) + 1))
            done = [event.tool_called.idempotency_key for event in events if event.tool_called.step]
            assert len(set(done)) == len(done)
            waits = sum(event.HasField("waiting") for event in events)
            interrupted += task.attempt - 1 - waits
        # Else the kills met no task, and the test has shown nothing.
        assert interrupted > 0


def _executor_pids(client: Client) -> list[int]:
    return [each.pid for each in client.mesh.state.processes if each.name.startswith("executor")]


async def _first_step(client: Client, task: Task) -> None:
    """Returns when an executor has begun with the task."""
    request = pb.WatchTaskRequest(name=task.name)
    async for update in client.tasks.WatchTask(request, timeout=60):
        if update.event.WhichOneof("kind") == "started":
            return


async def _ended(client: Client, task: Task) -> Task:
    async def ended() -> Task | None:
        found = await client.get(task.name)
        return found if found.state in lifecycle.TERMINAL else None

    found = await eventually(ended, 90)
    assert found is not None
    return found
