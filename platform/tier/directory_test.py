"""The health of all services in one place, in plain text and with mutual TLS."""

import asyncio
import io
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from meshkit import log
from meshkit.clock import SystemClock
from meshkit.server import MeshServer, Registration
from meshkit.tls import TlsSettings
from meshtest.child_server import free_port
from tier.authority import Authority
from tier.directory import Directory
from tier.identities import host_name
from tier.service_tls import Callee, DirectoryTls, ServiceTls, tls_settings
from tier.serving import open_channel, who_serves_not

_TOOL: Final = "agentmesh.tool.v1.ToolService"


class _Fault:
    """What a service depends on, and is not there."""

    name = "store"

    async def check(self) -> None:
        raise OSError("no store")


@asynccontextmanager
async def _serving(settings: TlsSettings | None, *faults: _Fault) -> AsyncGenerator[int]:
    """The tool service, as far as its health goes; the port."""
    server = MeshServer(
        name="tool",
        address="127.0.0.1:0",
        registrations=[Registration(_TOOL, None, None, faults)],
        log=log.get("test", stream=io.StringIO()),
        default_tenant="default",
        tls=settings,
    )
    task = asyncio.create_task(server.serve())
    await server.started()
    try:
        yield server.port
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def _directory(target: int, tls: DirectoryTls | None) -> AsyncGenerator[str]:
    """Of the tool service alone; the address."""
    port = free_port()
    directory = Directory(port, {_TOOL: f"127.0.0.1:{target}"}, tls)
    await directory.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await directory.stop()


def _issue(folder: Path) -> None:
    authority = Authority.open(folder, clock=SystemClock())
    for name in ("gateway", "supervisor", "tool"):
        authority.issue(name)


async def test_it_tells_of_every_service() -> None:
    """What serves does, under its own name and for the mesh as a whole."""
    async with _serving(None) as port, _directory(port, None) as address:
        assert await who_serves_not(address, ["", _TOOL]) == {}
        assert await who_serves_not(address, ["other"]) == {
            "other": "The mesh has no such service."
        }
    async with _serving(None, _Fault()) as port, _directory(port, None) as address:
        assert await who_serves_not(address, ["", _TOOL]) == {
            "": "not serving",
            _TOOL: "not serving",
        }


async def test_it_describes_the_contracts() -> None:
    """Reflection names the services that have one."""

    async def questions() -> AsyncGenerator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="*")

    async with (
        _serving(None) as port,
        _directory(port, None) as address,
        open_channel(address, None) as channel,
    ):
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast(Any, channel))
        (answer,) = [each async for each in stub.ServerReflectionInfo(questions(), timeout=60)]
        assert [each.name for each in answer.list_services_response.service] == [
            _TOOL,
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        ]


async def test_with_mutual_tls_it_answers_the_gateway_alone(tmp_path: Path) -> None:
    """It asks the services as the supervisor, which they let in; others are refused."""
    _issue(tmp_path)
    tool = ServiceTls(tmp_path, "tool")
    async with (
        _serving(tool.settings) as port,
        _directory(port, DirectoryTls(tmp_path, {_TOOL: "tool"})) as address,
    ):
        gateway = Callee(tls_settings(tmp_path, "gateway"), host_name("supervisor"))
        assert await who_serves_not(address, ["", _TOOL], gateway) == {}
        other = Callee(tls_settings(tmp_path, "tool"), host_name("supervisor"))
        assert await who_serves_not(address, [_TOOL], other) == {
            _TOOL: "The caller's certificate is of spiffe://agentmesh.local/tool,"
            " which may not call this service directly."
        }
        assert list(await who_serves_not(address, [_TOOL])) == [_TOOL]


async def test_a_service_is_asked_by_its_name(tmp_path: Path) -> None:
    """The supervisor asks the service that it means, or nobody."""
    _issue(tmp_path)
    tool = ServiceTls(tmp_path, "tool")
    async with _serving(tool.settings) as port:
        address = f"127.0.0.1:{port}"
        assert await who_serves_not(address, [""], tool.callee) == {}
        memory = ServiceTls(tmp_path, "memory").callee
        assert list(await who_serves_not(address, [""], memory)) == [""]


async def test_health_is_watched_through_it(tmp_path: Path) -> None:
    """Until the service's process ends."""
    _issue(tmp_path)
    tls = DirectoryTls(tmp_path, {_TOOL: "tool"})
    gateway = Callee(tls_settings(tmp_path, "gateway"), host_name("supervisor"))
    async with (
        _serving(ServiceTls(tmp_path, "tool").settings) as port,
        _directory(port, tls) as address,
        open_channel(address, gateway) as channel,
    ):
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=_TOOL), timeout=60)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Watch(health_pb2.HealthCheckRequest(), timeout=60).read()
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
