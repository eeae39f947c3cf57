"""How a server ends connections, and what it answers who is no client of gRPC's."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import trustme
import uvloop

from meshtest.eventually import eventually
from meshwire import frames, kinds
from meshwire.frames import END_HEADERS, END_STREAM, HEADERS, frame
from meshwire.raw_client import (
    Frame,
    RawClient,
    begin,
    block,
    call,
    connected,
    request,
    serving,
)
from meshwire.stream import message

_POST, _SCHEME, _PATH, _TE, _TYPE = request("unary_unary")
_PONG = frame(frames.PING, frames.ACK, 0, b"leaving!")


@pytest.mark.parametrize(
    "said",
    [
        ((":method", "GET"), _SCHEME, _PATH, _TE, _TYPE),
        (_POST, _SCHEME, _PATH, _TE),
        (_POST, _SCHEME, _PATH, _TE, ("content-type", "application/json")),
        (_POST, _SCHEME, _PATH, _TE, ("content-type", "application/grpc-web+proto")),
    ],
)
async def test_who_does_not_speak_grpc_is_told_so(said: tuple[Any, ...]) -> None:
    """By a status of HTTP, without a reset where nothing more comes."""
    async with serving({"unary_unary": kinds.say}) as (server, port), connected(port) as client:
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(*said)))
        assert await client.answer(1) == ({":status": "415"}, b"")
        assert not [each for each in await client.ping() if each.stream]
        assert (server.calls_started, server.calls_failed) == (1, 1)


async def test_a_content_type_may_say_more() -> None:
    """Of the messages, which the handler knows."""
    async with serving({"unary_unary": kinds.say}) as (_, port), connected(port) as client:
        said = (_POST, _SCHEME, _PATH, _TE, ("content-type", "application/grpc+proto"))
        client.send(frame(HEADERS, END_HEADERS, 1, block(*said)))
        client.send(frame(frames.DATA, END_STREAM, 1, message(b"a")))
        assert (await client.answer(1))[1] == message(b"a")


@pytest.mark.parametrize(
    ("more", "status", "text"),
    [
        ((":path", "/nothing"), "12", "Nothing is served as /nothing."),
        (("grpc-timeout", "soon"), "13", "'soon' is no timeout"),
        (("grpc-timeout", "1"), "13", "'1' is no timeout"),
        (("grpc-timeout", "123456789S"), "13", "'123456789S' is no timeout"),
        (("a-bin", "%"), "13", "binary metadata that is no base64"),
    ],
)
async def test_what_cannot_be_served_has_its_status_at_once(
    more: tuple[str, str], status: str, text: str
) -> None:
    """In headers alone; the client need send no more."""
    async with serving({"unary_unary": kinds.say}) as (_, port), connected(port) as client:
        said = [each for each in request("unary_unary") if each[0] != more[0]]
        said.insert(0 if more[0].startswith(":") else len(said), more)
        client.send(frame(HEADERS, END_HEADERS, 1, block(*said)))
        answer, content = await client.answer(1)
        assert (answer["grpc-status"], answer["grpc-message"], content) == (status, text, b"")
        reset, _ = await client.until(frames.RST_STREAM, 1)
        assert reset.number == frames.NO_ERROR


async def test_a_call_without_its_request_is_refused() -> None:
    """And so is one with two of them."""
    async with serving({"unary_unary": kinds.say}) as (_, port), connected(port) as client:
        client.send(begin(1, "unary_unary"), frame(frames.DATA, END_STREAM, 1))
        assert (await client.answer(1))[0]["grpc-message"] == "The request is missing."
        client.send(begin(3, "unary_unary"), frame(frames.DATA, 0, 3, message(b"a") * 2))
        said, _ = await client.answer(3)
        assert said["grpc-message"] == "More than one request for a call that takes one."


async def test_all_headers_that_a_proxy_lets_pass_are_read() -> None:
    """60 KiB of them, however many they are, and what the proxy says besides."""
    async with serving({"unary_unary": kinds.say}) as (_, port), connected(port) as client:
        more = [(f"x-{number}", "v" * 120) for number in range(500)]
        said = block(*request("unary_unary"), *more)
        assert len(said) > 60 * 1024
        client.send(frames.header_frames(1, said, frames.FIRST_FRAME_BYTES, ended=False))
        client.send(frame(frames.DATA, END_STREAM, 1, message(b"a")))
        assert (await client.answer(1))[1] == message(b"a")


async def _goaway(client: RawClient) -> Frame:
    goaway, _ = await client.until(frames.GOAWAY)
    return goaway


def _last(goaway: Frame) -> int:
    return int.from_bytes(goaway.content[:4])


async def test_a_server_that_stops_serves_what_is_on_its_way() -> None:
    """Calls that were sent before a client knew of it, and no others."""
    go_on = asyncio.Event()

    async def wait(request: bytes, context: Any) -> bytes:
        await go_on.wait()
        return request

    async with serving({"unary_unary": wait}) as (server, port), connected(port) as client:
        client.send(call(1, "unary_unary", b"a"))
        await client.ping()
        stopping = asyncio.create_task(server.stop(60))
        assert _last(await _goaway(client)) == frames.LAST_STREAM
        client.send(call(3, "unary_unary", b"b"), _PONG)
        assert _last(await _goaway(client)) == 3
        # What comes too late is not served, and does not harm what is.
        client.send(call(5, "unary_unary", b"c"))
        assert not [each for each in await client.ping() if each.stream]
        go_on.set()
        answers = {1: b"", 3: b""}
        while not all(answers.values()):
            each, _ = await client.until(frames.DATA, next(n for n in answers if not answers[n]))
            answers[each.stream] = each.content
        assert answers == {1: message(b"a"), 3: message(b"b")}
        await client.ends()
        await stopping
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_calls_that_take_longer_than_the_grace_are_cancelled() -> None:
    """And the connection ends, whatever its client does."""
    cancelled = asyncio.Event()

    async def wait(request: bytes, context: Any) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return b""

    async with serving({"unary_unary": wait}) as (server, port), connected(port) as client:
        client.send(call(1, "unary_unary", b"a"))
        await client.ping()
        await server.stop(0.05)
        assert cancelled.is_set()
        *_, last = await client.ends()
        assert (last.kind, last.content[8:]) == (frames.GOAWAY, b"the server has stopped")
        assert not server.connections


async def test_a_handler_that_cannot_be_cancelled_does_not_keep_the_server() -> None:
    """It has its time for it, and the process ends without it."""
    go_on = asyncio.Event()

    async def stay(request: bytes, context: Any) -> bytes:
        while not go_on.is_set():
            with suppress(asyncio.CancelledError):
                await go_on.wait()
        return request

    limits = {"cancel_seconds": 0.05}
    async with serving({"unary_unary": stay}, **limits) as (server, port):
        async with connected(port) as client:
            client.send(call(1, "unary_unary", b"a"))
            await eventually(lambda: server.calls_started == 1)
            await asyncio.wait_for(server.stop(0), 30)
        go_on.set()


async def test_an_old_connection_is_left() -> None:
    """What runs on it goes on, and has its own time to end."""

    async def wait(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for each in requests:
            yield each

    limits = {"most_age_seconds": 0.05, "most_age_grace_seconds": 0.3}
    async with (
        serving({"stream_stream": wait}, **limits) as (server, port),
        connected(port) as client,
    ):
        client.send(begin(1, "stream_stream"))
        assert _last(await _goaway(client)) == frames.LAST_STREAM
        client.send(_PONG)
        assert _last(await _goaway(client)) == 1
        client.send(frame(frames.DATA, 0, 1, message(b"a")))
        answer, _ = await client.until(frames.DATA, 1)
        assert answer.content == message(b"a")
        *_, last = await client.ends()
        assert (last.kind, last.content[8:]) == (frames.GOAWAY, b"max_age")
        await eventually(lambda: not server.connections)


async def test_a_client_that_answers_no_pings_has_gone() -> None:
    """One that answers them has not, however little it says."""
    limits = {"keepalive_seconds": 0.05, "keepalive_timeout_seconds": 2.0}
    async with (
        serving({}, **limits) as (server, port),
        connected(port) as alive,
        connected(port) as dead,
    ):
        await eventually(lambda: len(server.connections) == 2)

        async def answer() -> None:
            while (each := await alive.next()) is not None:
                if each.kind == frames.PING:
                    alive.send(frame(frames.PING, frames.ACK, 0, each.content))

        answering = asyncio.create_task(answer())
        assert [each.kind for each in await dead.ends()][-1] == frames.PING
        assert len(server.connections) == 1
        assert not answering.done()
        answering.cancel()


async def test_a_handshake_that_does_not_end_holds_up_nobody() -> None:
    """Neither others nor the server's end; and it has a limit."""
    authority: Any = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.set_alpn_protocols(["h2"])
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async with serving({"unary_unary": kinds.say}, lambda: context, handshake_seconds=60) as (
        server,
        port,
    ):
        silent, _ = await asyncio.open_connection("127.0.0.1", port)
        garbage, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await asyncio.wait_for(garbage.read(), 60)
        client = RawClient(*await asyncio.open_connection("127.0.0.1", port, ssl=trusting))
        client.send(frames.PREFACE, frames.settings({}), call(1, "unary_unary", b"a"))
        assert (await client.answer(1))[1] == message(b"a")
        client.writer.transport.abort()
        await asyncio.wait_for(server.stop(60), 30)
        assert await asyncio.wait_for(silent.read(), 60) == b""
        writer.close()


async def test_a_handshake_has_a_limit() -> None:
    """Who says nothing is cut off."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    async with serving({}, lambda: context, handshake_seconds=0.05) as (_, port):
        silent, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(silent.read(), 60) == b""
        writer.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_server_may_be_stopped_at_any_moment_of_a_connection(run: Any) -> None:
    """Also in the turn of the loop in which it comes about: nothing goes on then."""

    async def stop(turns: int) -> None:
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
        async with serving({}) as (_, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(turns):
                await asyncio.sleep(0)
        writer.close()
        assert not faults

    for turns in range(8):
        run(stop(turns))
