"""How quick and how frugal the prototype mesh is: start, one task at a time, idle.

    ./bazelw run //bench:prototype [-- --tasks 100 --idle-seconds 20]

Starts a mesh of its own on a free port in a temporary folder.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from cli import servers
from meshkit import identity
from meshkit.client import Channels
from meshkit.identity import Identity
from tier.api import MeshOptions, RunningMesh, start

_WARM_UP_TASKS = 10
_SETTLE_SECONDS = 10.0


async def _one_task(stub: CoordinatorServiceStub, number: int) -> float:
    """Milliseconds from submitted to done, by the task's own times."""
    request = pb.RunTaskRequest(
        parent="tenants/default",
        task=Task(input=TaskInput(text=f"What is {number} * 3?"), lane=tier_pb2.LANE_INTERACTIVE),
    )
    task = Task()
    async for update in stub.RunTask(request, timeout=30):
        if update.HasField("task"):
            task = update.task
    return (task.end_time.ToNanoseconds() - task.create_time.ToNanoseconds()) / 1e6


def _cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in processes)


async def _measure(mesh: RunningMesh, tasks: int, idle_seconds: float) -> dict[str, float]:
    processes = [psutil.Process(each.pid) for each in mesh.state.processes]
    async with Channels({"gateway": mesh.address}, caller="user:bench") as channels:
        stub = CoordinatorServiceStub(channels.get("gateway"))
        with identity.use(Identity("default", "user:bench")):
            for number in range(_WARM_UP_TASKS):
                await _one_task(stub, number)
            taken = sorted([await _one_task(stub, number) for number in range(tasks)])
    # What is loaded a little after the start is not what idling costs.
    await asyncio.sleep(_SETTLE_SECONDS)
    before, begun = _cpu_seconds(processes), time.monotonic()
    await asyncio.sleep(idle_seconds)
    idle = (_cpu_seconds(processes) - before) / (time.monotonic() - begun)
    return {
        "submitted_to_done_ms_median": round(statistics.median(taken), 1),
        "submitted_to_done_ms_p95": round(taken[int(len(taken) * 0.95)], 1),
        "idle_percent_of_a_core": round(idle * 100, 2),
        "memory_mb": round(sum(each.memory_info().rss for each in processes) / 1e6),
    }


async def _run(tasks: int, idle_seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="agentmesh-bench-") as folder:
        begun = time.monotonic()
        options = MeshOptions(data_dir=Path(folder), port=0)
        async with await start(options, lambda event: None) as mesh:
            ready = round(time.monotonic() - begun, 2)
            return {"ready_seconds": ready, **await _measure(mesh, tasks, idle_seconds)}


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=100, help="tasks to run, one at a time")
    parser.add_argument("--idle-seconds", type=float, default=20.0, help="how long to watch idle")
    arguments = parser.parse_args()
    servers.provide(os.environ)
    print(json.dumps(asyncio.run(_run(arguments.tasks, arguments.idle_seconds)), indent=2))


if __name__ == "__main__":
    main()
