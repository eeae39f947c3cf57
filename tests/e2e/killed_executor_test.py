"""Executors die in the middle of their tasks, and no task notices more than a pause."""

import asyncio
import os
import signal
from pathlib import Path

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from meshkit.errors import DependencyUnavailable
from meshtest.eventually import eventually
from tasklog import lifecycle
from tests.e2e.running_mesh import Client, running
from tier.api import Tier

_ROUNDS = 3
_TASKS_A_ROUND = 30


def _executor_pids(client: Client) -> list[int]:
    return [each.pid for each in client.mesh.state.processes if each.name.startswith("executor")]


async def _end(client: Client, name: str) -> task_pb2.Task:
    async def ended() -> bool:
        try:
            return (await client.get(name)).state in lifecycle.TERMINAL
        except DependencyUnavailable:
            return False

    await eventually(ended, 60)
    return await client.get(name)


async def _first_step(client: Client, name: str) -> None:
    """Returns when an executor has begun with the task."""
    async for update in client.tasks.WatchTask(pb.WatchTaskRequest(name=name), timeout=60):
        if update.event.WhichOneof("kind") == "started":
            return


async def test_kill_9_of_the_executors_loses_and_repeats_no_step(tmp_path: Path) -> None:
    """Every task ends with its answer, and its log has each step once."""
    async with running(tmp_path, Tier.STAGING, executors=2) as client:
        tasks: list[task_pb2.Task] = []
        ended: list[task_pb2.Task] = []
        for _ in range(_ROUNDS):
            first = len(tasks)
            numbers = range(first, first + _TASKS_A_ROUND)
            tasks += await asyncio.gather(
                *(client.submit(f"What is {number} * 3?", f"task-{number}") for number in numbers)
            )
            await _first_step(client, tasks[first].name)
            killed = _executor_pids(client)
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

            async def replaced(killed: list[int] = killed) -> bool:
                return not set(killed) & set(_executor_pids(client))

            await eventually(replaced, 30)
            # One that is there at two kills in a row counts as their cause.
            ended += [await _end(client, task.name) for task in tasks[first:]]
        for number, task in enumerate(ended):
            assert task.state == task_pb2.TASK_STATE_SUCCEEDED, task
            assert f"{number * 3:,}" in task.output.text
            kinds = [event.WhichOneof("kind") for event in await client.log(task.name)]
            steps = [kind for kind in kinds if kind != "started"]
            assert steps == ["submitted", "model_called", "tool_called", "completed"]
        # Else the kills met no task, and the test has shown nothing.
        assert sum(task.attempt for task in ended) > len(ended)
