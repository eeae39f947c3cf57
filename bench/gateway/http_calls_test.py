"""The bare client for HTTP does as others do where a server has closed an idle connection."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from bench.gateway import reference_call
from bench.gateway.http_calls import CallFailed, HttpCalls

_HOST = "127.0.0.1"
_ANSWER = reference_call.chat_answer()
_WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(_ANSWER), _ANSWER)
_HALF = _WHOLE[:-20]


class _Server:
    """Answers each request with the next of `answers`, and then closes where it is told to."""

    def __init__(self, *answers: tuple[bytes, bool]) -> None:
        self._answers = list(answers)
        self.connections = 0
        self.requests = 0
        self.closed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.partition(b"content-length: ")[2]))
                self.requests += 1
                answer, closes = self._answers.pop(0)
                writer.write(answer)
                if closes:
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()
        self.closed.set()


@asynccontextmanager
async def _calls(server: _Server) -> AsyncGenerator[HttpCalls]:
    async with await asyncio.start_server(server.serve, _HOST, 0) as listening:
        calls = HttpCalls(_HOST, listening.sockets[0].getsockname()[1], "/v1/chat/completions")
        try:
            yield calls
        finally:
            calls.close()


async def test_a_connection_that_was_closed_while_idle_is_not_used_again() -> None:
    """The call is made over a new one, and nobody sees a failure."""
    server = _Server((_WHOLE, True), (_WHOLE, False))
    async with _calls(server) as calls:
        await calls.whole()
        await server.closed.wait()
        await calls.whole()
    assert (server.connections, server.requests) == (2, 2)


async def test_a_call_whose_connection_is_closed_in_that_moment_is_made_over_a_new_one() -> None:
    """The server has heard of it and says nothing: once more, as clients of HTTP do."""
    server = _Server((_WHOLE, False), (b"", True), (_WHOLE, False))
    async with _calls(server) as calls:
        await calls.whole()
        await calls.whole()
    assert (server.connections, server.requests) == (2, 3)


async def test_a_new_connection_that_is_closed_fails_the_call() -> None:
    """Nothing says that a third would be better."""
    server = _Server((_WHOLE, False), (b"", True), (b"", True), (_WHOLE, False))
    async with _calls(server) as calls:
        await calls.whole()
        with pytest.raises(CallFailed) as caught:
            await calls.whole()
    assert str(caught.value) == "broke the connection"
    assert server.requests == 3


async def test_a_call_of_which_something_was_answered_is_not_made_again() -> None:
    """What it was made for has been done."""
    server = _Server((_WHOLE, False), (_HALF, True), (_WHOLE, False))
    async with _calls(server) as calls:
        await calls.whole()
        with pytest.raises(CallFailed) as caught:
            await calls.whole()
    assert str(caught.value) == "broke the connection"
    assert server.requests == 2
