"""A channel talks to whom its certificates are for, and says why it does not."""

import asyncio
import ssl
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
import trustme

from meshtest.eventually import eventually
from meshwire.channel import WireChannel
from meshwire.scripted_server import Peer, scripted, serve
from meshwire.wire_calls import failure, nothing_is_left, reach, say

_CODE = grpc.StatusCode


def _server(authority: trustme.CA, name: str = "127.0.0.1", alpn: str = "h2") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cast(Any, authority.issue_cert(name)).configure_cert(context)
    cast(Any, authority).configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols([alpn])
    return context


def _client(trusted: trustme.CA, own: trustme.CA | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    cast(Any, trusted).configure_trust(context)
    if own is not None:
        cast(Any, own.issue_cert("client.test")).configure_cert(context)
    context.set_alpn_protocols(["h2"])
    return context


async def test_calls_travel_under_certificates() -> None:
    """Those of both ends; the server is told that it is called so."""
    authority, schemes = trustme.CA(), list[str]()

    async def answer(peer: Peer) -> None:
        await peer.greet()
        number, said = await peer.call()
        schemes.append(said[":scheme"])
        peer.answer(number, b"served")
        await peer.ended()

    context = _client(authority, authority)
    async with (
        scripted(answer, tls=_server(authority)) as server,
        WireChannel(server.target, reach(), lambda: context) as channel,
    ):
        assert await say(channel) == b"served"
        assert schemes == ["https"]


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("a server of another authority", "CERTIFICATE_VERIFY_FAILED"),
        ("a server of another name", "IP address mismatch"),
        ("a client of another authority", "it was closed"),
        ("a client without a certificate", "it was closed"),
        ("a server without TLS", "WRONG_VERSION_NUMBER"),
        ("a server that breaks off", "it broke the connection off"),
    ],
)
async def test_whom_one_end_does_not_trust_is_told_as_unavailable(case: str, why: str) -> None:
    """With the cause, whichever end it was, and the channel is never ready."""
    authority, other = trustme.CA(), trustme.CA()
    by_server: ssl.SSLContext | None = _server(authority)
    if case == "a server of another authority":
        by_server = _server(other)
    elif case == "a server of another name":
        by_server = _server(authority, "127.0.0.2")
    elif case.startswith("a server "):
        by_server = None
    own = None if case == "a client without a certificate" else authority
    by_client = _client(authority, other if case == "a client of another authority" else own)

    async def answer(peer: Peer) -> None:
        if case == "a server without TLS":
            peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await peer.ended()
        elif by_server is not None:
            await serve(peer)

    states = set[grpc.ChannelConnectivity]()
    async with (
        scripted(answer, tls=by_server) as server,
        WireChannel(server.target, reach(), lambda: by_client) as channel,
    ):
        call = say(channel)

        def ended(_: object) -> None:
            states.add(channel.get_state())

        call.add_done_callback(ended)
        error = await failure(call)
        assert error.code() is _CODE.UNAVAILABLE
        details = error.details() or ""
        assert details.startswith(f"Failed to connect to {server.target}: ")
        assert why in details
        assert states == {grpc.ChannelConnectivity.TRANSIENT_FAILURE}


async def test_a_server_under_tls_that_speaks_something_else_is_none() -> None:
    """It has chosen no HTTP/2, and answers so."""
    authority = trustme.CA()
    context = _client(authority, authority)

    async def answer(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.ended()

    async with (
        scripted(answer, tls=_server(authority, alpn="http/1.1")) as server,
        WireChannel(server.target, reach(), lambda: context) as channel,
    ):
        error = await failure(say(channel))
        assert error.code() is _CODE.UNAVAILABLE
        start = f"Failed to connect to {server.target}: it did not begin to speak HTTP/2: "
        assert (error.details() or "").startswith(start)


async def test_renewed_certificates_count_from_the_next_call_on() -> None:
    """By another connection; calls that are under way end where they began."""
    authority, came, go_on = trustme.CA(), asyncio.Event(), asyncio.Event()
    context = _client(authority, authority)

    async def wait(peer: Peer) -> None:
        await peer.greet()
        number, _ = await peer.call()
        came.set()
        await go_on.wait()
        peer.answer(number, b"by the old one")
        await peer.ended()

    async with (
        scripted(wait, serve, tls=_server(authority)) as server,
        WireChannel(server.target, reach(), lambda: context) as channel,
    ):
        old = say(channel)
        await came.wait()
        context = _client(authority, authority)
        assert await say(channel) == b"served"
        assert await say(channel) == b"served"
        go_on.set()
        assert await old == b"by the old one"
        await eventually(lambda: nothing_is_left(channel))
        assert len(server.came) == 2


async def test_certificates_that_cannot_be_read_leave_a_connection_as_it_is() -> None:
    """Amid being replaced; who has none yet is told."""
    authority = trustme.CA()
    context, is_whole = _client(authority, authority), True

    def newest() -> ssl.SSLContext:
        if is_whole:
            return context
        return _unreadable()

    async with (
        scripted(serve, tls=_server(authority)) as server,
        WireChannel(server.target, reach(), newest) as channel,
    ):
        assert await say(channel) == b"served"
        is_whole = False
        assert await say(channel) == b"served"
        async with WireChannel(server.target, reach(), newest) as other:
            error = await failure(say(other))
            assert error.code() is _CODE.UNAVAILABLE
            assert "No such file" in (error.details() or "")


def _unreadable() -> Any:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(Path("/nowhere"))
