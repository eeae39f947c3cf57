"""Messages of five megabytes, sent to a real coordinator through the gateway."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest_asyncio

from agentmesh.coordinator.v1.coordinator_service_pb2 import SubmitTaskRequest
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from meshkit import identity
from meshkit.client import Channels
from meshkit.errors import TooLarge
from meshkit.identity import Identity
from meshtest.nats_server import NatsServer
from tests.gateway.running_gateway import gateway
from tier import ports
from tier.backoff import RestartPolicy
from tier.child import Child
from tier.data_dir import DataDir
from tier.events import Reporter
from tier.ports import HOST
from tier.service_child import service_child

pytest_plugins = ["meshtest.fixtures"]

_MEGABYTE = 1 << 20
_SIZE = 5 * _MEGABYTE
_ROUNDS, _AT_A_TIME = 12, 4
# A quarter of what is sent; a process keeps some of the memory that it has once used.
_GROWTH_BYTES = _ROUNDS * _AT_A_TIME * _SIZE // 4


@dataclass(frozen=True, slots=True)
class Behind:
    """A coordinator in a process of its own, called through a gateway."""

    pids: tuple[int, int]
    tasks: Any


@pytest_asyncio.fixture
async def behind(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Behind]:
    """Both of them answer."""
    data_dir = DataDir(tmp_path / "service")
    data_dir.prepare()
    (port,) = ports.free_ports(1)
    values = {
        "nats_url": nats_server.url,
        # Nobody is there: what is refused is refused before it would be asked.
        "redis_url": f"redis://{HOST}:1",
        "targets": {"governor": f"{HOST}:1"},
        "data_dir": str(data_dir.path),
    }
    child = Child(
        service_child(
            data_dir, "coordinator", port, program=("services.coordinator.main",), values=values
        ),
        Reporter(lambda _: None),
        RestartPolicy(),
    )
    child.spawn()
    try:
        await child.ready()
        async with (
            gateway(tmp_path, [port]) as front,
            Channels({"gateway": front.address}, caller="user:test") as channels,
        ):
            with identity.use(Identity("default", "user:test")):
                stub = CoordinatorServiceStub(channels.get("gateway"))
                yield Behind((front.pid, child.record.pid), stub)
    finally:
        await child.stop()


async def test_they_are_refused_with_flat_memory(behind: Behind) -> None:
    """The limit is named each time, and neither the gateway nor the service grows by it."""
    task = Task(input=TaskInput(text="x" * _SIZE))
    request = SubmitTaskRequest(parent="tenants/default", request_id="large", task=task)

    async def send() -> int:
        try:
            await behind.tasks.SubmitTask(request, timeout=60)
        except TooLarge as error:
            return int(error.metadata["limit_bytes"])
        return _SIZE

    async def send_some() -> None:
        assert max(await asyncio.gather(*(send() for _ in range(_AT_A_TIME)))) < _SIZE

    processes = [psutil.Process(pid) for pid in behind.pids]
    # What the first calls take stays taken.
    for _ in range(4):
        await send_some()
    before = [each.memory_info().rss for each in processes]
    for _ in range(_ROUNDS):
        await send_some()
    growth = [each.memory_info().rss - was for each, was in zip(processes, before, strict=True)]
    print(f"memory grew by {[f'{each / _MEGABYTE:.1f}' for each in growth]} MiB")
    assert max(growth) < _GROWTH_BYTES
