"""How soon an interactive task goes on after the death of its executor.

    ./bazelw run //bench:recovery [-- --deaths 20 --seed 1]

Runs a staging mesh with two executors of its own in a temporary folder. Each death
is a kill -9 in the middle of a tool call; the other executor takes the task over.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
from pathlib import Path

from agentmesh.common.v1 import tier_pb2
from cli import servers
from tests.faults.fault import Action
from tests.faults.fault_mesh import running
from tests.faults.load import users
from tests.faults.recovery import Recovery, recoveries
from tests.faults.trap import Trap, laid
from tests.faults.verdict import after_the_fault

_DEAD_SECONDS = 6.0


async def _run(deaths: int, seed: int) -> list[Recovery]:
    # It stays dead until its task has long ended: who dies twice in a step is not tried again.
    trap = Trap(Action.KILL, lasts=_DEAD_SECONDS, times=deaths)
    lanes = (tier_pb2.LANE_INTERACTIVE,)
    with tempfile.TemporaryDirectory(prefix="agentmesh-bench-") as folder:
        async with running(Path(folder)) as mesh:
            async with (
                users(mesh.address, seed=seed, per_second=5.0, lanes=lanes) as load,
                laid(mesh, trap) as sprung,
            ):
                pass
            return recoveries(sprung, await after_the_fault(mesh, load))


def _figures(seconds: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(seconds), 2), "max": round(max(seconds), 2)}


def main() -> None:
    """Prints the figures as JSON, in seconds from the death."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deaths", type=int, default=20, help="how many executors die")
    parser.add_argument("--seed", type=int, default=1, help="of the load")
    arguments = parser.parse_args()
    servers.provide(os.environ)
    found = asyncio.run(_run(arguments.deaths, arguments.seed))
    figures = {
        "taken_over_seconds": _figures([each.taken_over for each in found]),
        "ended_seconds": _figures([each.ended for each in found]),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
