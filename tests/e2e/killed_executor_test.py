"""Executors die in the middle of their tasks, and no task notices more than a pause."""

import asyncio
import os
import signal
from collections.abc import Sequence

import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit.errors import DependencyUnavailable
from meshtest.eventually import eventually
from tasklog import lifecycle
from tests.e2e.example_agents import AGENTS, QUESTION, make_agents
from tests.e2e.running_mesh import Client

pytest_plugins = ["tests.e2e.shared_meshes"]
pytestmark = pytest.mark.asyncio(loop_scope="session")

_LEAST_ROUNDS = 2
# Kills that come when all is done show nothing, and on a busy machine some do.
_MOST_ROUNDS = 12
_SUMS_A_ROUND = 15
_OF_EACH_PATTERN = 2


def _executor_pids(client: Client) -> list[int]:
    return [each.pid for each in client.mesh.state.processes if each.name.startswith("executor")]


async def _end(client: Client, name: str) -> Task:
    async def ended() -> Task | None:
        try:
            found = await client.get(name)
        except DependencyUnavailable:
            return None
        return found if found.state in lifecycle.TERMINAL else None

    found = await eventually(ended, 120)
    assert found is not None
    return found


async def _first_step(client: Client, name: str) -> None:
    """Returns when an executor has begun with the task."""
    async for update in client.tasks.WatchTask(pb.WatchTaskRequest(name=name), timeout=60):
        if update.event.WhichOneof("kind") == "started":
            return


async def _kill_executors(client: Client) -> None:
    """Returns when there are others."""
    killed = _executor_pids(client)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not set(killed) & set(_executor_pids(client)), 60)


def _starts_again(task: Task, events: Sequence[TaskEvent]) -> int:
    """How often somebody began with the task anew whom nobody had waited for."""
    return task.attempt - 1 - sum(event.HasField("waiting") for event in events)


def _each_step_is_there_once(events: Sequence[TaskEvent]) -> None:
    steps = [
        called.step
        for event in events
        for called in (event.model_called, event.tool_called, event.completed.model_called)
        if called.step
    ]
    assert steps == list(range(1, len(steps) + 1))
    done = [event.tool_called.idempotency_key for event in events if event.tool_called.step]
    assert len(set(done)) == len(done)


async def test_kill_9_of_the_executors_loses_and_repeats_no_step(staging: Client) -> None:
    """Tasks of every pattern end with their answers, and their logs have each step once."""
    await make_agents(staging)
    starts_again = 0
    for number in range(_MOST_ROUNDS):
        if number >= _LEAST_ROUNDS and starts_again:
            break
        first = number * _SUMS_A_ROUND
        sums = await asyncio.gather(
            *(
                staging.submit(f"What is {each} * 3?", f"task-{each}")
                for each in range(first, first + _SUMS_A_ROUND)
            )
        )
        others = await asyncio.gather(
            *(staging.submit(QUESTION, agent=each) for each in AGENTS * _OF_EACH_PATTERN)
        )
        await _first_step(staging, others[-1].name)
        await _kill_executors(staging)
        # One that is there at two kills in a row counts as their cause.
        for task in [await _end(staging, each.name) for each in (*sums, *others)]:
            assert task.state == task_pb2.TASK_STATE_SUCCEEDED, task
            events = await staging.log(task.name)
            _each_step_is_there_once(events)
            starts_again += _starts_again(task, events)
        for each, task in enumerate(sums, first):
            assert f"{each * 3:,}" in (await staging.get(task.name)).output.text
            kinds = [event.WhichOneof("kind") for event in await staging.log(task.name)]
            steps = [kind for kind in kinds if kind != "started"]
            assert steps == ["submitted", "model_called", "tool_called", "completed"]
    assert starts_again > 0
