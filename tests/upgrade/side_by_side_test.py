"""An upgrade under load, and the way back: services of the earlier version beside today's.

    tools/dev upgrade [REVISION]

makes the tree of the earlier version that PREVIOUS_VERSION names, and runs this.
"""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_pb2
from meshkit import identity
from meshkit.client import Channels
from meshkit.identity import Identity
from meshtest.everywhere import Everywhere
from tasklog.formats import EVENTS
from tests.faults.load import Load, users
from tests.faults.question import HELPER, MIXED, Question
from tests.faults.verdict import after_the_fault
from tests.upgrade.people import TENANT, People
from tests.upgrade.previous import VARIABLE, Previous
from tests.upgrade.two_versions import UpgradedMesh, Version, running
from tier import api

_SEED: Final = int(os.environ.get("UPGRADE_SEED", "1"))
# As docs/operations.md has it; back in the other order, so that each version calls the other.
_UPGRADE: Final = [
    [each] for each in ("governor", "reasoning", "memory", "tool", "coordinator", "executor")
]
_BACK: Final = (("executor", "coordinator", "tool"), ("memory", "reasoning", "governor"))
# How many tasks are accepted while both versions of a service are there.
_BESIDE: Final = 5
_PER_SECOND: Final = 4.0
# Some end while the mesh is of both versions, some after that.
_WAITS_SECONDS: Final = (5, 15, 25)


@pytest.fixture
def previous() -> Previous:
    """The earlier version."""
    found = Previous.named(os.environ)
    if found is None:
        pytest.skip(f"{VARIABLE} names no tree of an earlier version: use tools/dev upgrade")
    return found


def test_the_version_before_reads_what_this_one_writes(previous: Previous) -> None:
    """A format is written a release after it is read, so that both may write side by side."""
    tree = previous.root / "platform/tasklog/formats.py"
    text = "from tasklog.formats import EVENTS; print(EVENTS.reads)"
    reads = int(previous.run("-c", text)) if tree.exists() else 1
    assert reads >= EVENTS.writes


async def test_an_upgrade_and_the_way_back_are_not_noticed(
    previous: Previous, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls fail at most once, every task ends once with its answer, and the audit is clean."""
    postgres = api.find_postgres(os.environ)
    async with (
        running(tmp_path, previous, postgres, monkeypatch) as mesh,
        Channels(Everywhere(mesh.address), caller="user:people") as channels,
    ):
        with identity.use(Identity(TENANT, "user:people")):
            people, enough = People(channels), asyncio.Event()
            await people.employ()
            waiting = await people.ask(3)
            async with users(mesh.address, seed=_SEED, kinds=MIXED, per_second=_PER_SECOND) as load:
                followed = asyncio.create_task(people.run_tasks(enough))
                await _begin_to_wait(load)
                await people.answer(waiting[0])
                await _replace(mesh, load, _UPGRADE, Version.PRESENT)
                await people.answer(waiting[1])
                await _old_command_works(previous, mesh)
                await _replace(mesh, load, _BACK, Version.PREVIOUS)
                await people.answer(waiting[2])
                enough.set()
                await followed
        assert load.refused == []
        print(f"{len(people.runs)} runs followed, {len(people.broken_off)} calls made again")
        assert {each.state for each in people.runs} == {task_pb2.TASK_STATE_SUCCEEDED}
        ended = await after_the_fault(mesh, load)
        assert [each.task.name for each in ended.values() if each.degraded] == []


async def _begin_to_wait(load: Load) -> None:
    """Tasks that wait through what comes."""
    steps = ("model_called", "tool_called", "model_called", "tool_called", "completed")
    for seconds in _WAITS_SECONDS:
        text = f"Wait {seconds} seconds. What is {seconds} * 7 + 1?"
        request_id, answers = f"wait-{seconds}", (str(seconds * 7 + 1),)
        await load.submit(
            Question(request_id, "alpha", tier_pb2.LANE_BATCH, text, answers, HELPER, steps)
        )


async def _replace(
    mesh: UpgradedMesh, load: Load, turns: Sequence[Sequence[str]], version: Version
) -> None:
    """Turn by turn: another instance of each part comes, both work, the former goes."""
    for parts in turns:
        await asyncio.gather(*(mesh.services.replace(each, version) for each in parts))
        await load.has_asked(_BESIDE)
        await asyncio.gather(*(mesh.services.retire(each) for each in parts))


async def _old_command_works(previous: Previous, mesh: UpgradedMesh) -> None:
    """A command of the earlier version, which somebody still has, against services of today."""
    command = ("-m", "cli.main", "task", "list", "--gateway", mesh.address, "--tenant", "alpha")
    assert "SUCCEEDED" in await asyncio.to_thread(previous.run, *command)
