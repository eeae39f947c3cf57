"""Processes are killed, one after the other, while users go on asking."""

import os
from pathlib import Path

from tests.faults.fault import Action, in_turn
from tests.faults.fault_mesh import EVERYTHING, running
from tests.faults.load import users
from tests.faults.verdict import after_the_fault

# More of them than each once: FAULTS_ROUNDS=20.
_ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "1"))
_SEED = int(os.environ.get("FAULTS_SEED", "1"))


async def test_kill_9_of_every_process_in_turn(tmp_path: Path) -> None:
    """Whatever dies, every accepted task ends once, with its own answer and its effects once."""
    async with running(tmp_path) as mesh:
        async with users(mesh.address, seed=_SEED) as load:
            for fault in in_turn(EVERYTHING, Action.KILL, seed=_SEED, rounds=_ROUNDS):
                await mesh.inflict(fault)
        await after_the_fault(mesh, load)
