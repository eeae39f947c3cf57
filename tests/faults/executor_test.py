"""Executors that die, stand still or lose their connection at the worst moment."""

import os
import statistics
from collections.abc import Iterable
from pathlib import Path

import pytest

from agentmesh.common.v1 import tier_pb2
from tasklog.partitions import Partitions
from tests.faults.fault import Action
from tests.faults.fault_mesh import EXECUTORS, Arrangement, FaultMesh, running
from tests.faults.load import users
from tests.faults.question import TENANTS, tenants_of
from tests.faults.recovery import recoveries
from tests.faults.trap import Trap, laid
from tests.faults.verdict import Ended, after_the_fault

pytest_plugins = ["tests.faults.shared_mesh"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

_TIMES = int(os.environ.get("FAULTS_ROUNDS", "1"))
_SEED = int(os.environ.get("FAULTS_SEED", "1"))
# A claim ends after three seconds without a sign of life.
_LONGER_THAN_A_CLAIM = 3.5
# What is promised of the interactive lane. bench/recovery.py says what is usual.
_TAKEN_OVER_WITHIN = 5.0
_PER_SECOND = 4.0


@pytest.fixture(scope="module")
def arrangement() -> Arrangement:
    """Executors can lose their connection."""
    return Arrangement(behind_proxy=EXECUTORS)


@pytest.mark.parametrize(
    "trap",
    [
        # Dies when the effect is done and the transition is not recorded; the tool is asked again.
        Trap(Action.KILL, lasts=_LONGER_THAN_A_CLAIM, times=_TIMES, silent=True),
        # Wakes up when its task has moved on.
        Trap(Action.FREEZE, lasts=_LONGER_THAN_A_CLAIM, times=_TIMES),
        # Goes on working while its acknowledgement expires, and the task is delivered again.
        Trap(Action.CUT_OFF, lasts=_LONGER_THAN_A_CLAIM, times=_TIMES),
    ],
    ids=lambda trap: str(trap.action),
)
async def test_an_executor_that_is_hurt_at_an_effect(mesh: FaultMesh, trap: Trap) -> None:
    """Another one goes on; the effect is there once, and so is the step in the log."""
    async with (
        users(
            mesh.address, seed=_SEED, per_second=_PER_SECOND, tenants=tenants_of(trap.action)
        ) as load,
        laid(mesh, trap, until=load.is_taken_over) as sprung,
    ):
        pass
    ended = await after_the_fault(mesh, load)
    by_id = {each.id: each for each in ended.values()}
    for effect, _ in sprung.at:
        hurt = by_id[effect.task_id]
        assert hurt.task.attempt >= 2
        # Who was hurt recorded nothing that came after.
        writers = [event.writer for event in hurt.events if event.HasField("started")]
        assert len(set(writers)) == len(writers)


async def test_an_interactive_task_goes_on_soon(mesh: FaultMesh) -> None:
    """It died after an effect that it could not record. The tool answers the next one."""
    trap = Trap(Action.KILL, lasts=_LONGER_THAN_A_CLAIM, times=_TIMES)
    lanes = (tier_pb2.LANE_INTERACTIVE,)
    tenants = tenants_of("soon")
    async with (
        users(
            mesh.address, seed=_SEED, per_second=_PER_SECOND, lanes=lanes, tenants=tenants
        ) as load,
        laid(mesh, trap, until=load.is_taken_over) as sprung,
    ):
        pass
    ended = await after_the_fault(mesh, load)
    taken_over = [each.taken_over for each in recoveries(sprung, ended)]
    print("taken over after", *(f"{seconds:.2f} s" for seconds in taken_over))
    # A machine that is slow with every task is slow with these, too.
    assert max(taken_over) < _TAKEN_OVER_WITHIN + 10 * _usual_seconds(ended.values())


async def test_an_executor_that_hangs_without_dying(mesh: FaultMesh) -> None:
    """What it held is taken over, and what comes later goes to the other one."""
    trap = Trap(Action.FREEZE, lasts=0.0, times=1)
    async with users(mesh.address, seed=_SEED, tenants=tenants_of("hangs")) as load:

        async def all_is_done(_: str) -> bool:
            await load.has_asked(20)
            await load.settles()
            return True

        async with laid(mesh, trap, until=all_is_done) as sprung:
            pass
    ended = await after_the_fault(mesh, load)
    assert set(mesh.outside.asked.values()) == {1}
    (effect, _), by_id = sprung.at[0], {each.id: each for each in ended.values()}
    assert by_id[effect.task_id].kinds().count("started") > 1


async def test_an_effect_that_must_not_happen_twice(tmp_path: Path) -> None:
    """Where nobody knows whether it happened a person is asked, and it is not repeated before.

    Who died held tasks of several parts of the log; another one goes on with all of them.
    """
    assert len({Partitions(4).of(tenant) for tenant in TENANTS}) > 1
    trap = Trap(Action.KILL, lasts=_LONGER_THAN_A_CLAIM, times=_TIMES, silent=True)
    async with running(tmp_path, Arrangement(effect="UNSAFE", task_partitions=4)) as mesh:
        async with users(mesh.address, seed=_SEED, per_second=_PER_SECOND) as load:
            async with laid(mesh, trap, until=load.is_taken_over) as sprung:
                pass
            # Other tasks may have been in the middle of a call, too, when their executor died.
            await load.approve_what_is_unknown()
        ended = await after_the_fault(mesh, load)
    assert set(mesh.outside.asked.values()) == {1}
    asked = {each.id: each.kinds() for each in ended.values() if "waiting" in each.kinds()}
    assert asked.keys() >= {effect.task_id for effect, _ in sprung.at}
    # Nobody is asked whose executor lived.
    assert all(kinds[: kinds.index("waiting")].count("started") > 1 for kinds in asked.values())


def _usual_seconds(ended: Iterable[Ended]) -> float:
    """How long tasks took, from their submission to their end."""
    return statistics.median(
        (each.events[-1].time.ToNanoseconds() - each.events[0].time.ToNanoseconds()) / 1e9
        for each in ended
    )
