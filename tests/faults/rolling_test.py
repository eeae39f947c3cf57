"""Every service is told to end and started again, one after the other, while users go on asking."""

import os

import pytest

from tests.faults.fault import Action, in_turn
from tests.faults.fault_mesh import COORDINATORS, Arrangement, FaultMesh
from tests.faults.load import users
from tests.faults.question import tenants_of
from tests.faults.verdict import after_the_fault

pytest_plugins = ["tests.faults.shared_mesh"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

_ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "1"))
_SEED = int(os.environ.get("FAULTS_SEED", "1"))


@pytest.fixture(scope="module")
def arrangement() -> Arrangement:
    """Two of each service."""
    return Arrangement(replicas=2)


async def test_a_rolling_restart_is_not_noticed(mesh: FaultMesh) -> None:
    """Nobody who tries twice sees an error, and every task succeeds as if nothing had been."""
    async with users(mesh.address, seed=_SEED, per_second=6.0) as load:
        for fault in in_turn(mesh.services, Action.RESTART, seed=_SEED, rounds=_ROUNDS):
            await mesh.inflict(fault)
    assert load.refused == []
    ended = await after_the_fault(mesh, load)
    assert [each.task.name for each in ended.values() if each.degraded] == []


async def test_one_coordinator_ends_a_second_after_the_other_is_back(mesh: FaultMesh) -> None:
    """The gateway knows by then who is there, on a busy machine, too."""
    async with users(
        mesh.address, seed=_SEED, per_second=15.0, tenants=tenants_of("second")
    ) as load:
        for fault in in_turn(
            COORDINATORS, Action.RESTART, seed=_SEED, rounds=2 * _ROUNDS, after=(1.0, 1.2)
        ):
            await mesh.inflict(fault)
    assert load.refused == []
    await after_the_fault(mesh, load)
