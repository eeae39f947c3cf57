"""Answers for the mesh as a whole: the health of every service by name, and all contracts.

The gateway sends health checks and reflection here where services are
processes of their own, each of which knows only itself.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any, Final, cast

import grpc
from google.protobuf import descriptor_pool
from grpc_channelz.v1 import channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshkit import constants
from meshkit.peers import Peers
from meshkit.reflection import add_reflection
from meshkit.registrar import Registrar
from meshkit.tls import server_contexts
from meshwire.channelz import ChannelzServicer
from meshwire.server import Limits, Server
from tier.descriptors import descriptor_set
from tier.ports import HOST
from tier.service_tls import DirectoryTls
from tier.serving import open_channel

_CHECK_SECONDS: Final = 2.0
_STOP_SECONDS: Final = 1.0
_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING


class Directory:
    """A small server that passes each health check on to the service that it names."""

    def __init__(
        self, port: int, targets: Mapping[str, str], tls: DirectoryTls | None = None
    ) -> None:
        """`targets`: address by full service name. Without `tls` all is in plain text."""
        self._port: Final = port
        self._tls: Final = tls
        self._targets: Final = targets
        self._stack: Final = AsyncExitStack()

    async def start(self) -> None:
        """Returns when it takes calls."""
        stubs: dict[str, Any] = {}
        for service, address in self._targets.items():
            callee = self._tls.callee(service) if self._tls else None
            channel = await self._stack.enter_async_context(open_channel(address, callee))
            stubs[service] = health_pb2_grpc.HealthStub(channel)
        server = Server(Limits(most_message_bytes=constants.MAX_MESSAGE_BYTES))
        settings = self._tls.settings if self._tls else None
        registrar: Any = Registrar(server, Peers(settings.peers).wrap if settings else None)
        health_pb2_grpc.add_HealthServicer_to_server(_Health(stubs), registrar)
        # Reflection finds what the generated modules put into the common pool.
        descriptor_set()
        add_reflection([*described(self._targets), "grpc.health.v1.Health"], registrar)
        cast(Any, channelz_pb2_grpc).add_ChannelzServicer_to_server(
            ChannelzServicer(server), registrar
        )
        await server.listen(f"{HOST}:{self._port}", settings and server_contexts(settings))
        self._stack.push_async_callback(server.stop, _STOP_SECONDS)

    async def stop(self) -> None:
        """Ends it."""
        await self._stack.aclose()


def described(services: Iterable[str]) -> list[str]:
    """Those that have a contract: the executor has a name for its health alone."""
    pool = descriptor_pool.Default()
    found: list[str] = []
    for service in services:
        with suppress(KeyError):
            pool.FindServiceByName(service)
            found.append(service)
    return found


class _Health(health_pb2_grpc.HealthServicer):
    def __init__(self, stubs: Mapping[str, Any]) -> None:
        self._stubs: Final = stubs

    async def Check(self, request: Any, context: Any) -> Any:
        """The status of one service, or of all for the empty name."""
        if request.service:
            stub = self._stubs.get(request.service)
            if stub is None:
                await context.abort(grpc.StatusCode.NOT_FOUND, "The mesh has no such service.")
            return health_pb2.HealthCheckResponse(status=await _status(stub, request.service))
        serving = all(each == _SERVING for each in (await self._all()).values())
        return health_pb2.HealthCheckResponse(status=_SERVING if serving else _NOT_SERVING)

    async def List(self, request: Any, context: Any) -> Any:
        """The status of every service."""
        statuses = {
            name: health_pb2.HealthCheckResponse(status=each)
            for name, each in (await self._all()).items()
        }
        return cast(Any, health_pb2).HealthListResponse(statuses=statuses)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """The status of one service as it changes; ends when its process does."""
        stub = self._stubs.get(request.service)
        if stub is None:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, "The mesh has no such service; name one to watch it."
            )
            return
        async for each in stub.Watch(request):
            yield each

    async def _all(self) -> Mapping[str, Any]:
        statuses = (_status(stub, name) for name, stub in self._stubs.items())
        return dict(zip(self._stubs, await asyncio.gather(*statuses), strict=True))


async def _status(stub: Any, service: str) -> Any:
    try:
        request = health_pb2.HealthCheckRequest(service=service)
        return (await stub.Check(request, timeout=_CHECK_SECONDS)).status
    except grpc.aio.AioRpcError:
        return _NOT_SERVING
