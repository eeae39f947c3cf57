"""Processes are killed, one after the other, while users go on asking."""

import os
from pathlib import Path

from agentmesh.coordinator.v1 import task_pb2
from tests.faults.fault import Action, in_turn
from tests.faults.fault_mesh import EVERYTHING, running
from tests.faults.load import users
from tests.faults.verdict import EXPECTED, after_the_fault

# More of them than each once: FAULTS_ROUNDS=20.
_ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "1"))
_SEED = int(os.environ.get("FAULTS_SEED", "1"))
# There is one of each service that tasks need. One that takes long to start again may cost a
# task all of its attempts, or its time.
_ENDS = EXPECTED | {task_pb2.TASK_STATE_PARTIAL, task_pb2.TASK_STATE_DEAD_LETTERED}


async def test_kill_9_of_every_process_in_turn(tmp_path: Path) -> None:
    """Whatever dies, every accepted task ends once, with its own answer and its effects once."""
    async with running(tmp_path) as mesh:
        async with users(mesh.address, seed=_SEED) as load:
            for fault in in_turn(EVERYTHING, Action.KILL, seed=_SEED, rounds=_ROUNDS):
                await mesh.inflict(fault)
        ended = await after_the_fault(mesh, load, may_end=_ENDS)
    succeeded = [each for each in ended.values() if each.task.state in EXPECTED]
    assert len(succeeded) > 0.9 * len(ended)
