"""Requests that follow the SDK's own first one are like it, and fail as it would."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from services.reasoning.http_client import http_client
from services.reasoning.openai_calls import OpenAICalls

_HOST = "127.0.0.1"
_EVENTS = b'data: {"n": 1}\n\ndata: {"n": 2}\n\ndata: [DONE]\n\n'


class _Server:
    """Answers with what it is told, and keeps what it was sent."""

    def __init__(self) -> None:
        # Of the next requests: status, content type, content. None to say nothing.
        self.answer: tuple[int, str, bytes] | None = (200, "application/json", b'{"ok": true}')
        self.connections = 0
        self.heads: list[list[bytes]] = []
        self.bodies: list[Any] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length: ")[2].split(b"\r")[0])
                self.heads.append(
                    [each for each in head.split(b"\r\n") if b"content-length" not in each]
                )
                self.bodies.append(json.loads(await reader.readexactly(length)))
                if self.answer is not None:
                    status, kind, content = self.answer
                    writer.write(
                        b"HTTP/1.1 %d X\r\ncontent-type: %s\r\ncontent-length: %d\r\n"
                        b"retry-after: 7\r\n\r\n%s" % (status, kind.encode(), len(content), content)
                    )
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def _calls(timeout_seconds: float = 60.0) -> AsyncGenerator[tuple[OpenAICalls, _Server]]:
    server = _Server()
    async with await asyncio.start_server(server.serve, _HOST, 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with http_client() as http:
            client = openai.AsyncOpenAI(
                api_key="sk-1",
                base_url=f"http://{_HOST}:{port}/v1",
                http_client=http,
                max_retries=0,
                timeout=timeout_seconds,
            )
            yield OpenAICalls(client, http, {"X-Extra": "yes"}), server


async def test_later_requests_differ_from_the_first_in_their_content_alone() -> None:
    """The same address, the same headers with the key, another conversation."""
    async with _calls() as (calls, server):
        bodies = [{"n": 1}, {"n": 2, "text": "Grüße, \U0001f600"}, {"n": 3}]
        for body in bodies:
            assert await calls.whole(body) == {"ok": True}
    assert server.bodies == bodies
    first, second, third = server.heads
    assert sorted(first) == sorted(second) == sorted(third)
    assert first[0] == b"post /v1/chat/completions http/1.1"
    assert {b"authorization: bearer sk-1", b"x-extra: yes"} <= set(first)


@pytest.mark.parametrize("before", [0, 1], ids=["first", "later"])
async def test_a_stream_gives_chunks(before: int) -> None:
    """As plain values, to their end; the connection serves the next request."""
    async with _calls() as (calls, server):
        for _ in range(before):
            await calls.whole({})
        server.answer = (200, "text/event-stream", _EVENTS)
        stream = await calls.stream({})
        async with stream:
            assert [each async for each in stream] == [{"n": 1}, {"n": 2}]
        server.answer = (200, "application/json", b"[]")
        assert await calls.whole({}) == []
    assert server.connections == 1


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("before", [0, 1], ids=["first", "later"])
async def test_a_refusal_says_what_the_server_said(before: int, streamed: bool) -> None:
    """Its status, its code, the parameter at fault, and when to come back."""
    async with _calls() as (calls, server):
        for _ in range(before):
            await calls.whole({})
        error = {"error": {"message": "No.", "code": "wrong", "param": "seed"}}
        server.answer = (429, "application/json", json.dumps(error).encode())
        with pytest.raises(openai.APIStatusError) as caught:
            await (calls.stream if streamed else calls.whole)({})
    assert (caught.value.status_code, caught.value.code, caught.value.param) == (
        429, "wrong", "seed",
    )  # fmt: skip
    assert caught.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("before", [0, 1], ids=["first", "later"])
async def test_a_refusal_that_is_no_json_is_one_all_the_same(before: int) -> None:
    """Whatever stands before the server may answer so."""
    async with _calls() as (calls, server):
        for _ in range(before):
            await calls.whole({})
        server.answer = (502, "text/html", b"<html>")
        with pytest.raises(openai.APIStatusError) as caught:
            await calls.whole({})
    assert caught.value.status_code == 502


@pytest.mark.parametrize("before", [0, 1], ids=["first", "later"])
async def test_silence_is_the_sdks_timeout(before: int) -> None:
    """After the client's own time."""
    async with _calls(timeout_seconds=1.0) as (calls, server):
        for _ in range(before):
            await calls.whole({})
        server.answer = None
        with pytest.raises(openai.APITimeoutError):
            await calls.whole({})


@pytest.mark.parametrize("before", [0, 1], ids=["first", "later"])
async def test_an_answer_that_is_no_json_is_a_wrong_value(before: int) -> None:
    """Whatever type it says it has."""
    async with _calls() as (calls, server):
        for _ in range(before):
            await calls.whole({})
        server.answer = (200, "application/json", b"{oops")
        with pytest.raises(ValueError, match="Expecting property name"):
            await calls.whole({})
