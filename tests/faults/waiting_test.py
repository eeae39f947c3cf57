"""Processes are killed while tasks wait for times and for other tasks."""

import os
from pathlib import Path

from agentmesh.coordinator.v1 import task_pb2
from tests.faults.fault import Action, in_turn
from tests.faults.fault_mesh import COORDINATORS, EXECUTORS, NATS, running
from tests.faults.load import users
from tests.faults.question import MIXED
from tests.faults.verdict import EXPECTED, after_the_fault

_ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "1"))
_SEED = int(os.environ.get("FAULTS_SEED", "1"))
# Two executors may die in one and the same step of a task, and then it looks like the cause.
_ENDS = EXPECTED | {task_pb2.TASK_STATE_DEAD_LETTERED}


async def test_kill_9_of_those_who_wake_waiting_tasks(tmp_path: Path) -> None:
    """Every timer runs out once, every parent has the results of its children once."""
    hurt = (NATS, *COORDINATORS, *EXECUTORS)
    async with running(tmp_path) as mesh:
        async with users(mesh.address, seed=_SEED, per_second=10.0, kinds=MIXED) as load:
            for fault in in_turn(hurt, Action.KILL, seed=_SEED, rounds=_ROUNDS):
                await mesh.inflict(fault)
        ended = await after_the_fault(mesh, load, may_end=_ENDS)
    dead = [each for each in ended.values() if each.task.state not in EXPECTED]
    assert all(each.task.error.message.startswith("The executor died during") for each in dead)
    assert len(dead) <= _ROUNDS
