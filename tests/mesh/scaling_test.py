"""A staging mesh whose parts get more processes and fewer while it works."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agentmesh.coordinator.v1.task_pb2 import Task, TaskState
from meshtest.eventually import eventually
from tests.e2e.running_mesh import Client, running
from tier import api
from tier.api import BadOptions, ScaleUnreadable, Tier

_PATIENCE_SECONDS = 90.0
_ENDED = (TaskState.TASK_STATE_SUCCEEDED, TaskState.TASK_STATE_FAILED)


class _Work:
    """Tasks, one after another, by several who wait for each to end."""

    def __init__(self, client: Client, people: int = 4) -> None:
        self.ended: list[Task] = []
        self._client = client
        self._stopping = False
        self._people = [asyncio.create_task(self._work(number)) for number in range(people)]

    async def more(self, tasks: int) -> None:
        """Returns when so many more have ended."""
        before = len(self.ended)
        await eventually(
            lambda: self._broken() or len(self.ended) >= before + tasks, _PATIENCE_SECONDS
        )

    async def end(self) -> None:
        """Ends with the tasks that are under way; raises what went wrong."""
        self._stopping = True
        await asyncio.gather(*self._people)

    def _broken(self) -> bool:
        return any(each.done() for each in self._people)

    async def _work(self, person: int) -> None:
        number = 0
        while not self._stopping:
            number += 1
            task = await self._client.submit(f"What is {person} + {number}?")
            await eventually(partial(self._has_ended, task.name), _PATIENCE_SECONDS)
            self.ended.append(await self._client.get(task.name))

    async def _has_ended(self, name: str) -> bool:
        return (await self._client.get(name)).state in _ENDED


def _processes(client: Client) -> set[str]:
    return {each.name for each in client.mesh.state.processes}


def _calls(folder: Path, process: str) -> int:
    """How many calls of other services a process has answered, by its log."""
    count = 0
    with suppress(FileNotFoundError):
        for line in (folder / "logs" / f"{process}.log").read_text("utf-8").splitlines():
            with suppress(ValueError):
                said: Mapping[str, Any] = json.loads(line)
                count += said.get("event") == "rpc"
    return count


async def test_parts_grow_and_shrink_under_load_without_a_lost_task(tmp_path: Path) -> None:
    """What is new does its share, and what goes takes no call with it.

    What cannot be done is said, and changes nothing.
    """
    async with running(tmp_path, Tier.STAGING) as client:
        before = _processes(client)
        with pytest.raises(BadOptions, match="There can be one memory alone, for its vectors are"):
            await api.scale(tmp_path, {"reasoning": 2, "memory": 2})
        assert _processes(client) == before
        work = _Work(client)
        await work.more(5)
        scaled = await api.scale(tmp_path, {"reasoning": 2, "executor": 2, "tool": 2})
        assert scaled == {"reasoning": (1, 2), "executor": (1, 2), "tool": (1, 2)}
        new = {"reasoning-2", "executor-2", "tool-2"}
        assert new < _processes(client)

        async def are_well() -> bool:
            return await _healthy(client) >= new

        await eventually(are_well, _PATIENCE_SECONDS)
        await eventually(lambda: _calls(tmp_path, "reasoning-2") >= 5, _PATIENCE_SECONDS)
        await work.more(10)
        await api.scale(tmp_path, {"reasoning": 1, "tool": 1})
        await work.more(10)
        assert {each.attempt for each in work.ended} == {1}
        # What an executor is at when it is to go, another one takes over.
        await api.scale(tmp_path, {"executor": 1})
        assert not new & _processes(client)
        await work.more(5)
        await work.end()
        assert {each.state for each in work.ended} == {TaskState.TASK_STATE_SUCCEEDED}
    with pytest.raises(ConnectionError):
        await api.scale(tmp_path, {"reasoning": 2})


async def test_the_next_start_has_as_many(tmp_path: Path) -> None:
    """What it is told itself comes before that; what is damaged is said, and not guessed at."""
    async with running(tmp_path, Tier.STAGING, executors=2) as client:
        await api.scale(tmp_path, {"reasoning": 2})
    assert api.kept_scale(tmp_path) == {"executor": 2, "reasoning": 2}
    async with running(tmp_path, Tier.STAGING) as client:
        assert {"reasoning-1", "reasoning-2", "executor-1", "executor-2"} < _processes(client)
    async with running(tmp_path, Tier.STAGING, executors=1) as client:
        assert "reasoning-2" in _processes(client)
        assert "executor-2" not in _processes(client)
    assert api.kept_scale(tmp_path) == {"executor": 1, "reasoning": 2}
    (tmp_path / "scale.json").write_text('{"reasoning":')
    with pytest.raises(ScaleUnreadable):
        async with running(tmp_path, Tier.STAGING):
            pass
    assert api.forget_scale(tmp_path)
    async with running(tmp_path, Tier.STAGING) as client:
        assert {"reasoning", "executor-1"} < _processes(client)


async def _healthy(client: Client) -> set[str]:
    return {each.name for each in await api.status(client.mesh.state) if each.healthy}
