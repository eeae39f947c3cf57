"""The broker goes away, comes back, and has no room left."""

import os
from pathlib import Path

import pytest

from agentmesh.coordinator.v1 import task_pb2
from meshtest.eventually import eventually
from tests.faults.fault import Action, Fault
from tests.faults.fault_mesh import NATS, Arrangement, FaultMesh, running
from tests.faults.load import users
from tests.faults.question import tenants_of
from tests.faults.small_disk import small_disk
from tests.faults.verdict import EXPECTED, after_the_fault

pytest_plugins = ["tests.faults.shared_mesh"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

_SEED = int(os.environ.get("FAULTS_SEED", "1"))
# The broker stays away for so long: FAULTS_BROKER_SECONDS=30.
_AWAY_SECONDS = float(os.environ.get("FAULTS_BROKER_SECONDS", "6"))
# An interactive task has thirty seconds, with or without a broker.
_ENDS = EXPECTED | {task_pb2.TASK_STATE_PARTIAL}
# What says: try again later.
_NOT_NOW = {"DEPENDENCY_UNAVAILABLE", "DEADLINE_EXCEEDED", "QUEUE_FULL"}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(NATS, Action.RESTART, lasts=0.1),
        Fault(NATS, Action.KILL, lasts=_AWAY_SECONDS),
        Fault(NATS, Action.FREEZE, lasts=4.0),
    ],
    ids=lambda fault: str(fault.action),
)
async def test_the_broker_is_away(mesh: FaultMesh, fault: Fault) -> None:
    """What it had accepted is there when it is back, and the mesh goes on by itself."""
    async with users(mesh.address, seed=_SEED, tenants=tenants_of(fault.action)) as load:
        await load.has_asked(10)
        await mesh.inflict(fault)
        await load.has_asked(10)
    await after_the_fault(mesh, load, may_end=_ENDS)


async def test_the_brokers_disk_is_full(tmp_path: Path) -> None:
    """What cannot be stored is refused, nothing stored is lost, and it goes on with more room.

    There is room before the broker is started again, or only after it was, in vain.
    """
    with small_disk(tmp_path / "mesh" / NATS, megabytes=64) as disk:
        async with running(tmp_path, Arrangement(nats_through=disk.through)) as mesh:
            async with users(mesh.address, seed=_SEED) as load:
                await load.has_asked(10)
                disk.fill()
                await eventually(lambda: load.refused, 60)
                disk.make_room()
                await load.has_asked(10)
                before = len(mesh.deaths)
                disk.fill()
                await eventually(lambda: len(mesh.deaths) >= before + 2, 60)
                disk.make_room()
                await load.has_asked(10)
            assert {error.reason for _, error in load.refused} <= _NOT_NOW
            # It has to be started again: a server that could not write does not try again.
            assert {death.partition(" (")[0] for death in mesh.deaths} == {"NATS died"}
            mesh.deaths.clear()
            await after_the_fault(mesh, load, may_end=_ENDS)
