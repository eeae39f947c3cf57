"""Chunks of streams are what the SDK gives, and fail as it does."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx2
import openai
import pytest

from services.reasoning.http_client import UnreadableAnswer, http_client
from services.reasoning.http_transport import Patience, Server
from services.reasoning.openai_chunks import OpenAIChunks

_HOST = "127.0.0.1"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_ASKED = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\r\n"
_MOST_BYTES = 10_000


def _request() -> httpx2.Request:
    return httpx2.Request("POST", "http://127.0.0.1/v1/chat/completions")


def _chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


class _Upstream:
    """Answers each request with `answer`, and knows when its connections end."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.connections = 0
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
            writer.close()


Begin = Callable[[], Awaitable[OpenAIChunks]]


@asynccontextmanager
async def _streams(upstream: _Upstream, *, read_seconds: float = 30.0) -> AsyncGenerator[Begin]:
    async with await asyncio.start_server(upstream.serve, _HOST, 0) as listening:
        server = Server("http", _HOST, listening.sockets[0].getsockname()[1])
        async with http_client(most_answer_bytes=_MOST_BYTES) as http:

            async def begin() -> OpenAIChunks:
                answer = await http.send_wire(server, _ASKED, Patience(read=read_seconds))
                return OpenAIChunks(answer, _request)

            yield begin


async def test_chunks_come_as_plain_values_until_the_stream_says_that_it_is_done() -> None:
    """What a server says beyond that is not looked at; the connection serves the next stream."""
    events = (b'data: {"n": 1}\n\nda', b"ta: [2]\n\n", b"data: [DONE]\n\n", b"data: {oops\n\n")
    upstream = _Upstream(_HEAD + _chunked(*events))
    async with _streams(upstream) as begin:
        for _ in range(3):
            async with await begin() as chunks:
                assert [each async for each in chunks] == [{"n": 1}, [2]]
    assert upstream.connections == 1


async def test_a_stream_may_end_without_saying_so() -> None:
    """Whether the answer is whole is told by its chunks."""
    upstream = _Upstream(_HEAD + _chunked(b'data: {"n": 1}\n\ndata: {"n": 2}\n'))
    async with _streams(upstream) as begin, await begin() as chunks:
        assert [each async for each in chunks] == [{"n": 1}]


async def test_an_error_within_a_stream_is_the_sdks() -> None:
    """With the code that the server gives."""
    upstream = _Upstream(_HEAD + _chunked(b'data: {"error": {"code": "429", "message": "x"}}\n\n'))
    async with _streams(upstream) as begin, await begin() as chunks:
        with pytest.raises(openai.APIError) as caught:
            await anext(chunks)
    assert (caught.value.code, str(caught.value)) == ("429", "An error occurred during streaming")


@pytest.mark.parametrize(
    ("event", "complaint"),
    [(b"data: {oops\n\n", "Expecting property name"), (b"data: \xff\n\n", "can't decode byte")],
    ids=["no JSON", "no UTF-8"],
)
async def test_a_chunk_that_is_none_is_a_wrong_value(event: bytes, complaint: str) -> None:
    """Whoever reads it says whose fault that is."""
    upstream = _Upstream(_HEAD + _chunked(event))
    async with _streams(upstream) as begin, await begin() as chunks:
        with pytest.raises(ValueError, match=complaint):
            await anext(chunks)


async def test_a_stream_that_says_nothing_is_the_sdks_timeout() -> None:
    """After the client's own time, and the server is left."""
    upstream = _Upstream(_HEAD + b'10\r\ndata: {"n": 1}\n\n\r\n')
    async with _streams(upstream, read_seconds=1.0) as begin, await begin() as chunks:
        assert await anext(chunks) == {"n": 1}
        with pytest.raises(openai.APITimeoutError):
            await anext(chunks)
        await asyncio.wait_for(upstream.left.wait(), 30)


async def test_an_endless_stream_is_broken_off() -> None:
    """Where it has said more than any answer is long."""
    upstream = _Upstream(_HEAD + _chunked(*[b": " + b"x" * 998] * 20)[: -len(b"0\r\n\r\n")])
    async with _streams(upstream) as begin, await begin() as chunks:
        with pytest.raises(UnreadableAnswer) as caught:
            await anext(chunks)
        await asyncio.wait_for(upstream.left.wait(), 30)
    assert str(caught.value) == f"sent more than {_MOST_BYTES} bytes"


async def test_a_stream_that_is_left_early_ends_at_the_server() -> None:
    """Nobody pays for words that nobody reads."""
    upstream = _Upstream(_HEAD + b'10\r\ndata: {"n": 1}\n\n\r\n')
    async with _streams(upstream) as begin:
        async with await begin() as chunks:
            assert await anext(chunks) == {"n": 1}
        await asyncio.wait_for(upstream.left.wait(), 30)
