"""An audit of a mesh at work finds nothing: what is under way is no fault."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from audit import api
from audit.report import Report
from meshkit import redis_store
from meshkit.bus import Bus
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from meshtest.redis_server import RedisServer
from tests.audit.later_clock import LaterClock
from tests.audit.real_mesh import TENANT, RealMesh

pytest_plugins = ["meshtest.fixtures"]

_TASKS_AT_MOST = 2_000
_AT_ONCE = 20
_AUDITS_AT_LEAST = 3


async def _submit(calls: CoordinatorServiceStub, number: int) -> str:
    task = Task(input=TaskInput(text=f"What is {number} * 7?"))
    request = pb.SubmitTaskRequest(parent=f"tenants/{TENANT}", task=task)
    return (await calls.SubmitTask(request, timeout=10)).task.name


async def _ended(calls: CoordinatorServiceStub, name: str) -> None:
    async def ended() -> bool:
        task = (await calls.GetTask(pb.GetTaskRequest(name=name), timeout=10)).task
        assert task.state == task_pb2.TASK_STATE_SUCCEEDED, task
        return True

    await eventually(ended, 60)


async def _work(calls: CoordinatorServiceStub, seen: Callable[[], bool]) -> int:
    """Has tasks done until they were `seen` at it; how many there were."""
    done = 0
    while not seen() and done < _TASKS_AT_MOST:
        names = await asyncio.gather(*(_submit(calls, done + n) for n in range(_AT_ONCE)))
        await asyncio.gather(*(_ended(calls, name) for name in names))
        done += _AT_ONCE
    return done


async def test_a_mesh_at_work_passes_every_time(
    nats_server: NatsServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Tasks are submitted, started and ended while it reads; charges and calls are made."""
    mesh = RealMesh(tmp_path, nats_server, redis_server)
    redis = redis_store.connect(redis_server.url)
    async with await Bus.connect(nats_server.url, name="audit") as bus, mesh.running() as calls:
        reports: list[Report] = []

        def seen() -> bool:
            at_work = [
                each for each in reports if each.tasks.get("RUNNING") or each.tasks.get("QUEUED")
            ]
            return len(at_work) >= _AUDITS_AT_LEAST

        work = asyncio.create_task(_work(calls, seen))
        while not work.done():
            reports.append(await api.run(bus, redis, clock=LaterClock()))
        done = await work
        reports.append(await api.run(bus, redis, clock=LaterClock()))
    await redis.aclose()
    assert [each.findings for each in reports] == [()] * len(reports)
    # Else it was not at work when it was looked at.
    assert seen()
    assert reports[-1].tasks == {"SUCCEEDED": done}
