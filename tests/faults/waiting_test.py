"""Processes are killed while tasks wait for times and for other tasks."""

import os
from pathlib import Path

from tests.faults.fault import Action, in_turn
from tests.faults.fault_mesh import COORDINATORS, EXECUTORS, NATS, running
from tests.faults.load import users
from tests.faults.question import MIXED
from tests.faults.verdict import after_the_fault

_ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "1"))
_SEED = int(os.environ.get("FAULTS_SEED", "1"))


async def test_kill_9_of_those_who_wake_waiting_tasks(tmp_path: Path) -> None:
    """Every timer runs out once, every parent has the results of its children once."""
    hurt = (NATS, *COORDINATORS, *EXECUTORS)
    async with running(tmp_path) as mesh:
        async with users(mesh.address, seed=_SEED, per_second=10.0, kinds=MIXED) as load:
            for fault in in_turn(hurt, Action.KILL, seed=_SEED, rounds=_ROUNDS):
                await mesh.inflict(fault)
        await after_the_fault(mesh, load)
