"""Live counters of a server, by the contract that gRPC's own tools ask: channelz.

grpcio's servicer knows the objects of its C core alone.
"""

import asyncio
import ipaddress
import ssl
import time
from collections.abc import Iterable
from typing import Any, Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import Int64Value
from grpc_channelz.v1 import channelz_pb2

from meshwire.server import Server, ServerConnection

_SERVER: Final = 1
# What a page holds at most, and where the question does not say.
_PAGE: Final = 100


class ChannelzServicer:
    """Answers for one server. There are no channels: those of clients are not counted."""

    def __init__(self, server: Server) -> None:
        """`server` is the one that is asked about, by the number 1."""
        self._server: Final = server

    async def GetTopChannels(self, request: Any, context: Any) -> Any:
        """None."""
        await _page_size(request, context)
        return channelz_pb2.GetTopChannelsResponse(end=True)

    async def GetServers(self, request: Any, context: Any) -> Any:
        """The server."""
        await _page_size(request, context)
        servers = [self._described()] if request.start_server_id <= _SERVER else []
        return channelz_pb2.GetServersResponse(server=servers, end=True)

    async def GetServer(self, request: Any, context: Any) -> Any:
        """The server, and where it listens."""
        if request.server_id != _SERVER:
            await _not_found(context, "server", request.server_id)
        return channelz_pb2.GetServerResponse(server=self._described())

    async def GetServerSockets(self, request: Any, context: Any) -> Any:
        """Its connections, from the oldest on."""
        size = await _page_size(request, context)
        if request.server_id != _SERVER:
            await _not_found(context, "server", request.server_id)
        found = [
            each for each in self._server.connections.values() if each.id >= request.start_socket_id
        ]
        return channelz_pb2.GetServerSocketsResponse(
            socket_ref=[_reference(each) for each in found[:size]], end=len(found) <= size
        )

    async def GetChannel(self, request: Any, context: Any) -> Any:
        """Not found."""
        await _not_found(context, "channel", request.channel_id)

    async def GetSubchannel(self, request: Any, context: Any) -> Any:
        """Not found."""
        await _not_found(context, "subchannel", request.subchannel_id)

    async def GetSocket(self, request: Any, context: Any) -> Any:
        """A connection, or what the server listens on."""
        connection = self._server.connections.get(request.socket_id)
        if connection is not None:
            return channelz_pb2.GetSocketResponse(socket=_connection(connection))
        address = self._server.listens_on.get(request.socket_id)
        if address is not None:
            reference = _listener(request.socket_id, address)
            listener = channelz_pb2.Socket(ref=reference, local=_address(address))
            return channelz_pb2.GetSocketResponse(socket=listener)
        return await _not_found(context, "socket", request.socket_id)

    def _described(self) -> channelz_pb2.Server:
        server = self._server
        return channelz_pb2.Server(
            ref=channelz_pb2.ServerRef(server_id=_SERVER),
            data=channelz_pb2.ServerData(
                calls_started=server.calls_started,
                calls_succeeded=server.calls_succeeded,
                calls_failed=server.calls_failed,
                last_call_started_timestamp=_when(server.last_call_at),
            ),
            listen_socket=[_listener(*each) for each in server.listens_on.items()],
        )


async def _page_size(request: Any, context: Any) -> int:
    if request.max_results < 0:
        await context.abort(
            grpc.StatusCode.INVALID_ARGUMENT, "Field max_results must not be negative."
        )
    return min(request.max_results or _PAGE, _PAGE)


async def _not_found(context: Any, kind: str, number: int) -> None:
    await context.abort(grpc.StatusCode.NOT_FOUND, f"There is no {kind} {number}.")


def _reference(connection: ServerConnection) -> channelz_pb2.SocketRef:
    return channelz_pb2.SocketRef(socket_id=connection.id, name=connection.peer)


def _listener(number: int, address: tuple[Any, ...]) -> channelz_pb2.SocketRef:
    return channelz_pb2.SocketRef(socket_id=number, name=f"listens on {address[0]}:{address[1]}")


def _connection(connection: ServerConnection) -> channelz_pb2.Socket:
    failed = connection.streams_failed
    data = channelz_pb2.SocketData(
        streams_started=connection.streams_started,
        streams_succeeded=connection.streams_started - failed - len(connection.streams),
        streams_failed=failed,
        messages_sent=connection.messages_sent,
        messages_received=connection.messages_received,
        keep_alives_sent=connection.keepalive.sent,
        last_remote_stream_created_timestamp=_when(connection.last_call_at),
        last_message_received_timestamp=_when(connection.last_message_at),
        local_flow_control_window=Int64Value(value=connection.allowed),
        remote_flow_control_window=Int64Value(value=connection.window),
    )
    return channelz_pb2.Socket(
        ref=_reference(connection),
        data=data,
        local=_address(connection.extra_info("sockname")),
        remote=_address(connection.extra_info("peername")),
        security=_security(connection.extra_info("ssl_object")),
    )


def _when(at: float | None) -> Timestamp | None:
    """The moment at which the loop's clock showed `at`; None for never."""
    if at is None:
        return None
    ago_seconds = asyncio.get_running_loop().time() - at
    when = Timestamp()
    when.FromMicroseconds(int((time.time() - ago_seconds) * 1e6))
    return when


def _address(address: Iterable[Any] | None) -> channelz_pb2.Address | None:
    """None where the other end had gone before it was asked."""
    if not address:
        return None
    host, port, *_ = address
    of_host = ipaddress.ip_address(host.partition("%")[0]).packed
    return channelz_pb2.Address(
        tcpip_address=channelz_pb2.Address.TcpIpAddress(ip_address=of_host, port=port)
    )


def _security(secure: Any) -> channelz_pb2.Security | None:
    """None in plain text."""
    if secure is None:
        return None
    pem = ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True))
    return channelz_pb2.Security(
        tls=channelz_pb2.Security.Tls(
            standard_name=secure.cipher()[0], remote_certificate=pem.encode()
        )
    )
