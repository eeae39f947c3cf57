"""How soon an interactive task goes on after the death of its executor.

    ./bazelw run //bench:recovery [-- --deaths 20 --queues 1000 --seed 1]

Runs a staging mesh with two executors of its own in a temporary folder. Each death
is a kill -9 in the middle of a tool call; the other executor takes the task over.
Beside the queues of those who ask meanwhile there are `--queues` of other tenants,
each of which had a task before.
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
from meshtest.eventually import eventually
from tasklog import lifecycle
from tests.faults.fault import Action
from tests.faults.fault_mesh import running
from tests.faults.load import Load, one_user
from tests.faults.question import sum_of
from tests.faults.recovery import Recovery, recoveries
from tests.faults.trap import Trap, laid
from tests.faults.verdict import after_the_fault

_DEAD_SECONDS = 6.0
# How many of the other tenants ask at once, and how long each waits for the end of its task.
_AT_ONCE = 32
_ENDS_WITHIN_SECONDS = 60.0


async def _run(deaths: int, queues: int, seed: int) -> list[Recovery]:
    # It stays dead until its task has long ended: who dies twice in a step is not tried again.
    trap = Trap(Action.KILL, lasts=_DEAD_SECONDS, times=deaths)
    lanes = (tier_pb2.LANE_INTERACTIVE,)
    with tempfile.TemporaryDirectory(prefix="agentmesh-bench-") as folder:
        async with running(Path(folder)) as mesh:
            async with one_user(mesh.address, seed=seed, lanes=lanes) as load:
                await _make_queues(load, queues)
                async with load.going_on(per_second=5.0), laid(mesh, trap) as sprung:
                    pass
            return recoveries(sprung, await after_the_fault(mesh, load))


async def _make_queues(load: Load, count: int) -> None:
    """A queue is there once its tenant has submitted a task."""
    few = asyncio.Semaphore(_AT_ONCE)

    async def make(number: int) -> None:
        tenant = f"other-{number}"
        async with few:
            name = await load.submit(sum_of(tenant, tenant, tier_pb2.LANE_INTERACTIVE, number))

            async def ended() -> bool:
                return (await load.get(name)).state in lifecycle.TERMINAL

            await eventually(ended, _ENDS_WITHIN_SECONDS)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(make(number))


def _figures(seconds: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(seconds), 2), "max": round(max(seconds), 2)}


def main() -> None:
    """Prints the figures as JSON, in seconds from the death."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deaths", type=int, default=20, help="how many executors die")
    parser.add_argument("--queues", type=int, default=0, help="of how many other tenants")
    parser.add_argument("--seed", type=int, default=1, help="of the load")
    arguments = parser.parse_args()
    servers.provide(os.environ)
    found = asyncio.run(_run(arguments.deaths, arguments.queues, arguments.seed))
    figures = {
        "taken_over_seconds": _figures([each.taken_over for each in found]),
        "ended_seconds": _figures([each.ended for each in found]),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
