"""Processes are killed, one after the other, while users go on asking and while tasks wait."""

import os

import pytest

from agentmesh.coordinator.v1 import task_pb2
from tests.faults.fault import Action, in_turn
from tests.faults.fault_mesh import COORDINATORS, EVERYTHING, EXECUTORS, NATS, FaultMesh
from tests.faults.load import users
from tests.faults.question import MIXED, tenants_of
from tests.faults.verdict import EXPECTED, after_the_fault

pytest_plugins = ["tests.faults.shared_mesh"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

# More of them than each once: FAULTS_ROUNDS=20.
_ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "1"))
_SEED = int(os.environ.get("FAULTS_SEED", "1"))
_PER_SECOND = 6.0
# There is one of each service that tasks need. One that takes long to start again may cost a
# task all of its attempts, or its time.
_ENDS = EXPECTED | {task_pb2.TASK_STATE_PARTIAL, task_pb2.TASK_STATE_DEAD_LETTERED}


async def test_kill_9_of_every_process_in_turn(mesh: FaultMesh) -> None:
    """Whatever dies, every accepted task ends once, with its own answer and its effects once."""
    async with users(mesh.address, seed=_SEED, per_second=_PER_SECOND) as load:
        for fault in in_turn(EVERYTHING, Action.KILL, seed=_SEED, rounds=_ROUNDS):
            await mesh.inflict(fault)
            # One that a task was hit by is its last.
            await load.settles()
    ended = await after_the_fault(mesh, load, may_end=_ENDS)
    succeeded = [each for each in ended.values() if each.task.state in EXPECTED]
    assert len(succeeded) > 0.9 * len(ended)


async def test_kill_9_of_those_who_wake_waiting_tasks(mesh: FaultMesh) -> None:
    """Every timer runs out once, every parent has the results of its children once."""
    hurt = (NATS, *COORDINATORS, *EXECUTORS)
    tenants = tenants_of("waiting")
    async with users(
        mesh.address, seed=_SEED, per_second=_PER_SECOND, kinds=MIXED, tenants=tenants
    ) as load:
        for fault in in_turn(hurt, Action.KILL, seed=_SEED, rounds=_ROUNDS):
            if fault.target in EXECUTORS:
                # Two who die in one and the same step of a task look like what it did.
                await load.settles()
            await mesh.inflict(fault)
    await after_the_fault(mesh, load)
