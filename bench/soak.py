"""A mesh under mixed load whose processes are killed, restarted and frozen at random.

    ./bazelw run //bench:soak [-- --minutes 30 --seed 1 --per-second 10]

Tells of every fault and, each minute, of the load. At the end every accepted task must
have ended once and the audit must find nothing; otherwise the exit code is 1. The same
seed makes the same faults.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from cli import servers
from tasklog import lifecycle
from tests.faults.fault import Action, at_random
from tests.faults.fault_mesh import EVERYTHING, FaultMesh, running
from tests.faults.load import Load, users
from tests.faults.question import MIXED
from tests.faults.verdict import after_the_fault

_ACTIONS = (Action.KILL, Action.KILL, Action.RESTART, Action.FREEZE)
_TELL_SECONDS = 60.0


async def _soak(minutes: float, seed: int, per_second: float) -> None:
    with tempfile.TemporaryDirectory(prefix="agentmesh-soak-") as folder:
        async with running(Path(folder)) as mesh:
            async with users(mesh.address, seed=seed, per_second=per_second, kinds=MIXED) as load:
                telling = asyncio.create_task(_tell(load))
                faults = await _hurt(mesh, seed, minutes * 60)
                telling.cancel()
            print(f"{faults} faults; now everything has to end")
            # What was away for long may cost a task its attempts, and that is how it ends.
            await after_the_fault(mesh, load, may_end=lifecycle.TERMINAL)


async def _hurt(mesh: FaultMesh, seed: int, seconds: float) -> int:
    end = time.monotonic() + seconds
    for count, fault in enumerate(at_random(EVERYTHING, _ACTIONS, seed=seed)):
        if time.monotonic() > end:
            return count
        await mesh.inflict(fault)
    return 0


async def _tell(load: Load) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(_TELL_SECONDS)
        print(
            f"{(time.monotonic() - began) / 60:.0f} min: {len(load.accepted)} tasks accepted,"
            f" {len(load.first_errors)} calls repeated, {len(load.refused)} refused twice",
            flush=True,
        )


def main() -> None:
    """Ends with 1 where a promise was broken, after saying which."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long")
    parser.add_argument("--seed", type=int, default=1, help="of the faults and the load")
    parser.add_argument("--per-second", type=float, default=10.0, help="tasks submitted")
    arguments = parser.parse_args()
    servers.provide(os.environ)
    try:
        asyncio.run(_soak(arguments.minutes, arguments.seed, arguments.per_second))
    except AssertionError as error:
        print(f"broken: {error}")
        sys.exit(1)
    print("every promise was kept")


if __name__ == "__main__":
    main()
