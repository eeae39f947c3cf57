"""Every service is told to end and started again, one after the other, while users go on asking."""

import os
from pathlib import Path

from tests.faults.fault import Action, in_turn
from tests.faults.fault_mesh import COORDINATORS, Arrangement, running
from tests.faults.load import users
from tests.faults.verdict import after_the_fault

_ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "1"))
_SEED = int(os.environ.get("FAULTS_SEED", "1"))


async def test_a_rolling_restart_is_not_noticed(tmp_path: Path) -> None:
    """Nobody who tries twice sees an error, and every task succeeds as if nothing had been."""
    async with running(tmp_path, Arrangement(replicas=2)) as mesh:
        async with users(mesh.address, seed=_SEED) as load:
            for fault in in_turn(mesh.services, Action.RESTART, seed=_SEED, rounds=_ROUNDS):
                await mesh.inflict(fault)
        assert load.refused == []
        ended = await after_the_fault(mesh, load)
    assert [each.task.name for each in ended.values() if each.degraded] == []


async def test_one_coordinator_ends_a_second_after_the_other_is_back(tmp_path: Path) -> None:
    """The gateway knows by then who is there, on a busy machine, too."""
    rounds = 2 * _ROUNDS
    async with running(tmp_path) as mesh:
        async with users(mesh.address, seed=_SEED, per_second=30.0) as load:
            for fault in in_turn(
                COORDINATORS, Action.RESTART, seed=_SEED, rounds=rounds, after=(1.0, 1.2)
            ):
                await mesh.inflict(fault)
        assert load.refused == []
        await after_the_fault(mesh, load)
