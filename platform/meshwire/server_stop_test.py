"""A server that stops takes nothing back from who has come to it."""

import asyncio
import socket
import ssl
from typing import Any, cast

import pytest
import trustme

from meshtest.eventually import eventually
from meshwire import frames, kinds
from meshwire.raw_client import RawClient, call, serving

_GRACE_SECONDS = 60.0


def _tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cast(Any, authority.issue_cert("127.0.0.1")).configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    cast(Any, authority).configure_trust(client)
    for each in (server, client):
        each.set_alpn_protocols(["h2"])
    return server, client


async def test_who_has_connected_when_it_stops_is_answered() -> None:
    """Though the server has not seen it: its call may have come with it."""
    async with serving({"unary_unary": kinds.say}) as (server, port):
        # The kernel lets it in; the loop has no turn until the server stops.
        early = socket.create_connection(("127.0.0.1", port))
        early.sendall(frames.PREFACE + frames.settings({}) + call(1, "unary_unary", b"hello"))
        stopping = asyncio.create_task(server.stop(_GRACE_SECONDS))
        client = RawClient(*await asyncio.open_connection(sock=early))
        said, content = await client.answer(1)
        assert said["grpc-status"] == "0"
        assert content.endswith(b"hello")
        client.writer.close()
        await stopping


async def test_who_is_at_its_handshake_when_it_stops_is_answered() -> None:
    """It finds a server that has it leave after its call."""
    by_server, by_client = _tls()
    async with serving({"unary_unary": kinds.say}, lambda: by_server) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        stopping = asyncio.create_task(server.stop(_GRACE_SECONDS))
        await asyncio.sleep(0)
        await writer.start_tls(by_client, server_hostname="127.0.0.1")
        client = RawClient(reader, writer)
        client.send(frames.PREFACE, frames.settings({}), call(1, "unary_unary", b"hello"))
        said, _ = await client.answer(1)
        assert said["grpc-status"] == "0"
        writer.transport.abort()
        await stopping


async def test_who_never_begins_its_handshake_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has as long as others have to leave, and not all of the grace."""
    monkeypatch.setattr("meshwire.server._LEAVE_SECONDS", 0.01)
    by_server, _ = _tls()
    async with serving({"unary_unary": kinds.say}, lambda: by_server, handshake_seconds=3600.0) as (
        server,
        port,
    ):
        with socket.create_connection(("127.0.0.1", port)):
            async with asyncio.timeout(30):
                await server.stop(3600.0)


async def test_nobody_is_let_in_by_a_server_that_has_stopped() -> None:
    """Its port is free again."""
    async with serving({"unary_unary": kinds.say}) as (server, port):
        await server.stop(_GRACE_SECONDS)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_where_no_file_is_left_it_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has connected meanwhile is served then."""
    monkeypatch.setattr("meshwire.server._ACCEPT_PAUSE_SECONDS", 0.01)
    accept, failures = socket.socket.accept, iter([OSError(24, "Too many open files")])

    def failing(listener: socket.socket) -> Any:
        for error in failures:
            raise error
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", failing)
    async with serving({"unary_unary": kinds.say}) as (server, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await eventually(lambda: len(server.connections) == 1)
        writer.transport.abort()
