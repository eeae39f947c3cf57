"""The bare client for gRPC is understood by gRPC's own server, and says where a call failed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from bench.gateway.grpc_calls import GrpcCalls
from bench.gateway.http_calls import CallFailed

# Of one answer: less than a server may send before it is told to go on.
_LARGE = 900_000


@asynccontextmanager
async def _calls() -> AsyncGenerator[GrpcCalls]:
    """Calls of a server with four methods."""

    async def echo(request: bytes, context: Any) -> bytes:
        tenant = dict(context.invocation_metadata())["x-tenant"]
        return tenant.encode() + b":" + request

    async def count(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    async def large(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for _ in range(9):
            yield bytes(_LARGE // 9)

    async def refuse(request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "No.")
        return b""

    unary: Any = grpc.unary_unary_rpc_method_handler
    streamed: Any = grpc.unary_stream_rpc_method_handler
    handlers = {
        "Echo": unary(echo),
        "Count": streamed(count),
        "Large": streamed(large),
        "Refuse": unary(refuse),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.S", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    calls = GrpcCalls(f"127.0.0.1:{port}", {"x-tenant": "bench"})
    try:
        yield calls
    finally:
        calls.close()
        await server.stop(None)


async def _messages(calls: GrpcCalls, method: str, request: bytes) -> list[bytes]:
    messages: list[bytes] = []
    await calls.ask(f"/test.S/{method}", request, messages.append)
    return messages


async def test_a_call_has_one_answer_and_the_headers_go_with_it() -> None:
    """One call after the other, over one connection."""
    async with _calls() as calls:
        assert await _messages(calls, "Echo", b"1") == [b"bench:1"]
        assert await _messages(calls, "Echo", b"x" * 10_000) == [b"bench:" + b"x" * 10_000]


async def test_calls_at_once_have_an_answer_each() -> None:
    """Each its own."""
    async with _calls() as calls:
        asked = [_messages(calls, "Echo", b"%d" % number) for number in range(90)]
        answers = await asyncio.gather(*asked)
    assert answers == [[b"bench:%d" % number] for number in range(90)]


async def test_a_stream_is_given_message_by_message() -> None:
    """In their order, an empty stream as none."""
    async with _calls() as calls:
        assert await _messages(calls, "Count", b"5") == [b"0", b"1", b"2", b"3", b"4"]
        assert await _messages(calls, "Count", b"0") == []


async def test_answers_may_be_more_together_than_may_be_sent_at_once() -> None:
    """The connection's window is widened as they come."""
    async with _calls() as calls:
        for _ in range(10):
            sizes = [len(each) for each in await _messages(calls, "Large", b"")]
            assert sum(sizes) == _LARGE


async def test_a_refusal_is_no_answer() -> None:
    """Who called sees that there is none; the connection goes on."""
    async with _calls() as calls:
        assert await _messages(calls, "Refuse", b"") == []
        assert await _messages(calls, "Echo", b"1") == [b"bench:1"]


async def test_a_connection_that_breaks_fails_the_calls_under_way() -> None:
    """They are not counted as quick ones, and the next call has a new one."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\0\0\0\0\x01x")
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        calls = GrpcCalls(f"127.0.0.1:{port}", {})
        for _ in range(2):
            with pytest.raises(CallFailed) as caught:
                await _messages(calls, "Echo", b"x")
            assert str(caught.value) == "broke the connection"


async def test_what_is_no_header_of_the_benchmark_is_refused() -> None:
    """Its length would take more than a byte."""
    with pytest.raises(ValueError, match="is longer than a header of the benchmark may be"):
        await GrpcCalls("127.0.0.1:1", {"x-tenant": "x" * 200}).ask("/S/M", b"", lambda _: None)
