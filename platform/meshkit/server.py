"""A gRPC server with everything around it: health, reflection, channelz, drain."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from grpc_channelz.v1 import channelz_pb2_grpc

from meshkit import constants
from meshkit.errors import DependencyUnavailable
from meshkit.health import Dependency, Health
from meshkit.log import Log
from meshkit.open_streams import OpenStreams
from meshkit.orca import CallStatistics, OrcaReporter
from meshkit.peers import Peers
from meshkit.reflection import add_reflection
from meshkit.registrar import Registrar
from meshkit.rpc_guard import RpcGuard
from meshkit.tls import TlsSettings, server_contexts
from meshwire.channelz import ChannelzServicer
from meshwire.server import Limits, Server

__all__ = ["Dependency", "MeshServer", "Registration"]

# gRPC cuts off what is this many times over the limit; up to it, the caller is told why.
_REFUSED_IN_WORDS: Final = 4


@dataclass(frozen=True)
class Registration:
    """A service to be served."""

    # The full name in the contract, such as `agentmesh.tool.v1.ToolService`.
    service_name: str
    # The generated `add_..._to_server`; None for a name that only its health is asked by.
    add: Callable[[Any, Any], None] | None
    # The object that has the methods.
    servicer: object
    # What the service cannot do without; its health follows these.
    dependencies: Sequence[Dependency] = ()
    # False for what proxies ask about each of their requests: such a call has no identity,
    # no trace and no log line, which are the larger part of what it would cost.
    guarded: bool = True


class MeshServer:
    """Serves registrations on one address until it is cancelled."""

    def __init__(
        self,
        *,
        name: str,
        address: str,
        registrations: Sequence[Registration],
        log: Log,
        default_tenant: str | None,
        drain_seconds: float = 10.0,
        max_message_bytes: int = constants.MAX_MESSAGE_BYTES,
        tls: TlsSettings | None = None,
        streams: OpenStreams | None = None,
    ) -> None:
        """`address` may end in `:0` for a free port; at the end calls get `drain_seconds`.

        With `tls` its peers alone may call, by their certificates; without, everybody may.
        With `streams` those end whose callers' credentials do.
        """
        self._name: Final = name
        self._address: Final = address
        self._registrations: Final = registrations
        self._log: Final = log
        self._tls: Final = tls
        self._peers: Final = Peers(tls.peers) if tls else None
        self._statistics: Final = CallStatistics()
        self._guard: Final = RpcGuard(
            log=log,
            default_tenant=default_tenant,
            max_message_bytes=max_message_bytes,
            statistics=self._statistics,
            peers=self._peers,
            streams=streams,
        )
        self._drain_seconds: Final = drain_seconds
        self._limits: Final = Limits(
            most_message_bytes=max_message_bytes * _REFUSED_IN_WORDS,
            keepalive_seconds=constants.CLIENT_KEEPALIVE_SECONDS,
            keepalive_timeout_seconds=constants.KEEPALIVE_TIMEOUT_SECONDS,
            least_ping_seconds=constants.SERVER_MINIMUM_PING_SECONDS,
            most_age_seconds=constants.MAX_CONNECTION_AGE_SECONDS,
            most_age_grace_seconds=constants.MAX_CONNECTION_AGE_GRACE_SECONDS,
        )
        self._health: Final = Health(
            {each.service_name: each.dependencies for each in registrations}, log=log
        )
        self._started: asyncio.Event = asyncio.Event()
        self._port = 0

    @property
    def port(self) -> int:
        """The port that is bound; 0 until `started`."""
        return self._port

    async def started(self) -> None:
        """Returns when the server takes calls."""
        await self._started.wait()

    async def serve(self) -> None:
        """Serves until cancelled; then shows NOT_SERVING, lets calls finish, and stops."""
        server = Server(self._limits)
        guarded: Any = Registrar(server, self._guard.wrap)
        plain: Any = Registrar(server, self._peers.wrap if self._peers else None)
        for each in self._registrations:
            if each.add is not None:
                each.add(each.servicer, guarded if each.guarded else plain)
        await self._health.register(plain)
        load = OrcaReporter(self._statistics)
        load.add_to(plain)
        names = [each.service_name for each in self._registrations]
        called = [each.service_name for each in self._registrations if each.add is not None]
        add_reflection([*called, "grpc.health.v1.Health"], plain)
        cast(Any, channelz_pb2_grpc).add_ChannelzServicer_to_server(ChannelzServicer(server), plain)
        try:
            self._port = await server.listen(
                self._address, self._tls and server_contexts(self._tls)
            )
        except OSError as error:
            raise DependencyUnavailable(
                f"Failed to listen on {self._address}: it is in use or not ours.",
                metadata={"dependency": self._address},
            ) from error
        self._log.info("server.started", server=self._name, port=self._port, services=names)
        try:
            await self._health.check_once()
            self._started.set()
            await self._health.follow()
        finally:
            await self._health.leave()
            load.end()
            await server.stop(self._drain_seconds)
            self._log.info("server.stopped", server=self._name, port=self._port)
