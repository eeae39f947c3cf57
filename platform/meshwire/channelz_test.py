"""What channelz says of a server and of its connections."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc

from meshtest.eventually import eventually
from meshwire.channelz import ChannelzServicer
from meshwire.server import Limits, Server

_LOOPBACK: Final = bytes((127, 0, 0, 1))


async def _say(request: bytes, context: Any) -> bytes:
    return request


async def _refuse(request: bytes, context: Any) -> None:
    await context.abort(grpc.StatusCode.NOT_FOUND, "no")


async def _wait(request: bytes, context: Any) -> None:
    await asyncio.Event().wait()


class _Registrar:
    def __init__(self, server: Server) -> None:
        self.add_registered_method_handlers = server.add

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        pass


@asynccontextmanager
async def _serving() -> AsyncGenerator[int]:
    server = Server(Limits(most_message_bytes=1000))
    handlers = {"Say": _say, "Refuse": _refuse, "Wait": _wait}
    server.add(
        "t", {name: grpc.unary_unary_rpc_method_handler(each) for name, each in handlers.items()}
    )
    generated: Any = channelz_pb2_grpc
    generated.add_ChannelzServicer_to_server(ChannelzServicer(server), _Registrar(server))
    port = await server.listen("127.0.0.1:0")
    try:
        yield port
    finally:
        await server.stop(0)


def _connect(port: int) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
    )


def _stub(channel: grpc.aio.Channel) -> Any:
    generated: Any = channelz_pb2_grpc
    return generated.ChannelzStub(channel)


async def _call(channel: grpc.aio.Channel, method: str) -> None:
    await cast(Any, channel).unary_unary(f"/t/{method}")(b"a", timeout=60)


async def _sockets(stub: Any, **question: int) -> Any:
    return await stub.GetServerSockets(
        channelz_pb2.GetServerSocketsRequest(server_id=1, **question), timeout=60
    )


async def test_a_server_counts_its_calls() -> None:
    """Those that began, that ended well, and that ended otherwise or were given up."""
    before = datetime.now(UTC)
    async with _serving() as port, _connect(port) as channel, _connect(port) as asking:
        await _call(channel, "Say")
        await _call(channel, "Say")
        for method in ("Refuse", "Nothing"):
            with pytest.raises(grpc.aio.AioRpcError):
                await _call(channel, method)
        waits = cast(Any, channel).unary_unary("/t/Wait")(b"", timeout=60)
        stub = _stub(asking)

        async def counted(failed: int) -> bool:
            (server,) = (await stub.GetServers(channelz_pb2.GetServersRequest(), timeout=60)).server
            data, asked = server.data, server.data.calls_started - 5
            assert (data.calls_succeeded, data.calls_failed) == (asked + 1, failed)
            age = data.last_call_started_timestamp.ToDatetime(UTC) - before
            assert timedelta(seconds=-1) < age < timedelta(minutes=1)
            return True

        await eventually(lambda: counted(2))
        waits.cancel()
        await eventually(lambda: counted(3))


async def test_a_connection_counts_what_it_carries() -> None:
    """Streams and messages, and whose connection it is."""
    async with _serving() as port, _connect(port) as channel, _connect(port) as asking:
        await _call(channel, "Say")
        stub = _stub(asking)
        first, second = (await _sockets(stub)).socket_ref
        assert first.name.startswith("ipv4:127.0.0.1:")
        assert first.name != second.name
        with pytest.raises(grpc.aio.AioRpcError):
            await _call(channel, "Refuse")
        waits = cast(Any, channel).unary_unary("/t/Wait")(b"", timeout=60)

        async def counted(failed: int) -> bool:
            question = channelz_pb2.GetSocketRequest(socket_id=first.socket_id)
            socket = (await stub.GetSocket(question, timeout=60)).socket
            assert socket.ref == first
            data = socket.data
            assert (data.streams_started, data.streams_succeeded) == (3, 2)
            assert (data.streams_failed, data.messages_received) == (failed, 3)
            assert data.messages_sent == 1
            assert data.HasField("last_remote_stream_created_timestamp")
            assert data.HasField("last_message_received_timestamp")
            assert data.local_flow_control_window.value > 0
            assert data.remote_flow_control_window.value > 0
            assert socket.local.tcpip_address.port == port
            assert socket.remote.tcpip_address.ip_address == _LOOPBACK
            assert first.name.endswith(f":{socket.remote.tcpip_address.port}")
            assert not socket.HasField("security")
            return True

        await eventually(lambda: counted(0))
        waits.cancel()
        await eventually(lambda: counted(1))


async def test_a_connection_that_has_gone_is_not_shown() -> None:
    """Neither among the server's nor by its number."""
    async with _serving() as port, _connect(port) as asking:
        stub = _stub(asking)
        async with _connect(port) as channel:
            await _call(channel, "Say")
            gone = (await _sockets(stub)).socket_ref[0].socket_id

        async def left() -> bool:
            return len((await _sockets(stub)).socket_ref) == 1

        await eventually(left)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetSocket(channelz_pb2.GetSocketRequest(socket_id=gone), timeout=60)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert caught.value.details() == f"There is no socket {gone}."


async def test_connections_come_in_pages() -> None:
    """From a number on, as many as asked for, and it is said whether there are more."""
    async with _serving() as port, _connect(port) as one, _connect(port) as two:
        await _call(one, "Say")
        await _call(two, "Say")
        stub = _stub(one)
        everything = await _sockets(stub)
        assert everything.end
        older, newer = everything.socket_ref
        page = await _sockets(stub, max_results=1)
        assert (list(page.socket_ref), page.end) == ([older], False)
        page = await _sockets(stub, max_results=1, start_socket_id=older.socket_id + 1)
        assert (list(page.socket_ref), page.end) == ([newer], True)
        page = await _sockets(stub, start_socket_id=newer.socket_id + 1)
        assert (list(page.socket_ref), page.end) == ([], True)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _sockets(stub, max_results=-1)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == "Field max_results must not be negative."


async def test_a_server_says_where_it_listens() -> None:
    """By a socket of its own, which is no connection."""
    async with _serving() as port, _connect(port) as channel:
        stub = _stub(channel)
        server = (
            await stub.GetServer(channelz_pb2.GetServerRequest(server_id=1), timeout=60)
        ).server
        (listens,) = server.listen_socket
        assert listens.name == f"listens on 127.0.0.1:{port}"
        question = channelz_pb2.GetSocketRequest(socket_id=listens.socket_id)
        socket = (await stub.GetSocket(question, timeout=60)).socket
        assert socket.local.tcpip_address.port == port
        after = await stub.GetServers(
            channelz_pb2.GetServersRequest(start_server_id=server.ref.server_id + 1), timeout=60
        )
        assert (list(after.server), after.end) == ([], True)


async def test_what_a_server_does_not_have_is_not_found() -> None:
    """It has no channels, and only one server."""
    async with _serving() as port, _connect(port) as channel:
        stub = _stub(channel)
        top = await stub.GetTopChannels(channelz_pb2.GetTopChannelsRequest(), timeout=60)
        assert (list(top.channel), top.end) == ([], True)
        for call, kind in (
            (stub.GetChannel(channelz_pb2.GetChannelRequest(channel_id=7), timeout=60), "channel"),
            (
                stub.GetSubchannel(channelz_pb2.GetSubchannelRequest(subchannel_id=7), timeout=60),
                "subchannel",
            ),
            (stub.GetSocket(channelz_pb2.GetSocketRequest(socket_id=77), timeout=60), "socket"),
            (stub.GetServer(channelz_pb2.GetServerRequest(server_id=7), timeout=60), "server"),
            (
                stub.GetServerSockets(
                    channelz_pb2.GetServerSocketsRequest(server_id=7), timeout=60
                ),
                "server",
            ),
        ):
            assert await call.code() is grpc.StatusCode.NOT_FOUND
            assert (await call.details()).startswith(f"There is no {kind} 7")
