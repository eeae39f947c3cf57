"""Envoy with each of the shipped configurations, and a client before it."""

import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from agentmesh.coordinator.v1 import coordinator_service_pb2, coordinator_service_pb2_grpc
from agentmesh.memory.v1 import memory_service_pb2, memory_service_pb2_grpc
from meshkit.constants import CALLER_KEY, TENANT_KEY
from meshtest.eventually import eventually
from tests.gateway.running_gateway import gateway
from tier import binaries, parts, ports
from tier.backoff import RestartPolicy
from tier.child import Child
from tier.data_dir import DataDir
from tier.endpoint_files import EndpointFiles
from tier.envoy_admin import admin_socket
from tier.events import Reporter
from tier.http_get import get
from tier.ports import HOST
from tier.proxy_child import NAME, proxy_child

_CALL_SECONDS: Final = 60.0
_TOLD_WITHIN_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Front:
    """An Envoy, and two calls of a service behind it."""

    port: int
    # The socket at which the Envoy is asked how it is.
    admin: Path
    pid: int
    # Where the service is.
    cluster: str
    # A call that may be repeated, and one that may not; each takes a number.
    read: Callable[[int], Any]
    affect: Callable[[int], Any]
    # What the first begins with, for who makes it by hand.
    headers: Sequence[tuple[str, str]]

    @property
    def address(self) -> str:
        """For channels."""
        return f"{HOST}:{self.port}"

    async def statistics(self, name: str) -> int:
        """One of Envoy's figures of the cluster."""

        async def told() -> bytes | None:
            try:
                _, body = await get(self.admin, f"/stats?filter=^cluster.{self.cluster}.{name}$")
            except OSError:
                # On a machine with much to do.
                return None
            return body or b"0"

        body = await eventually(told, _TOLD_WITHIN_SECONDS)
        assert body is not None
        return int(body.decode().strip().rpartition(": ")[2])

    async def healthy(self, count: int) -> bool:
        """Whether Envoy takes so many of the instances for well."""
        return await self.statistics("membership_healthy") == count


@asynccontextmanager
async def gateway_front(folder: Path, places: Sequence[int]) -> AsyncGenerator[Front]:
    """The gateway before coordinators at these ports."""
    async with (
        gateway(folder, places) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        stub: Any = coordinator_service_pb2_grpc.CoordinatorServiceStub(channel)

        def read(number: int) -> Any:
            name = f"tenants/default/tasks/t{number}"
            request = coordinator_service_pb2.GetTaskRequest(name=name)
            return stub.GetTask(request, timeout=_CALL_SECONDS)

        def affect(number: int) -> Any:
            request = coordinator_service_pb2.SubmitTaskRequest(
                parent="tenants/default", request_id=f"r{number}"
            )
            return stub.SubmitTask(request, timeout=_CALL_SECONDS)

        yield Front(
            running.port,
            running.admin,
            running.pid,
            "coordinator",
            read,
            affect,
            _headers("/agentmesh.coordinator.v1.CoordinatorService/GetTask", ()),
        )


@asynccontextmanager
async def proxy_front(folder: Path, places: Sequence[int]) -> AsyncGenerator[Front]:
    """The proxy before memories at these ports, all of it in plain text."""
    data_dir = DataDir(folder / "proxied")
    data_dir.prepare()
    endpoints = EndpointFiles(data_dir.run)
    called = {name for part in parts.PARTS for name in part.calls}
    own_ports = dict(zip(sorted(called), ports.free_ports(len(called)), strict=True))
    for name in called:
        endpoints.write(name, places)
    child = Child(
        proxy_child(
            binaries.find(binaries.ENVOY, os.environ),
            data_dir,
            binaries.repository_root(),
            ports=own_ports,
            endpoints=endpoints.folder,
            certificates=None,
        ),
        Reporter(lambda _: None),
        RestartPolicy(),
    )
    child.spawn()
    port = own_ports["memory"]
    try:
        await child.ready()
        async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
            stub: Any = memory_service_pb2_grpc.MemoryServiceStub(channel)

            tool = ((CALLER_KEY, "service:tool"), (TENANT_KEY, "default"))

            def read(_: int) -> Any:
                request = memory_service_pb2.SearchRequest()
                return stub.Search(request, timeout=_CALL_SECONDS, metadata=tool)

            def affect(_: int) -> Any:
                return stub.AppendMessages(
                    memory_service_pb2.AppendMessagesRequest(),
                    timeout=_CALL_SECONDS,
                    metadata=((CALLER_KEY, "service:executor"), (TENANT_KEY, "default")),
                )

            yield Front(
                port,
                admin_socket(data_dir.run, NAME),
                child.record.pid,
                "memory",
                read,
                affect,
                _headers("/agentmesh.memory.v1.MemoryService/Search", tool),
            )
    finally:
        await child.stop()


def _headers(path: str, metadata: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    return (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", HOST),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *metadata,
    )
