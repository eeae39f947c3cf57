"""The stub upstream speaks OpenAI's API, and the bare client of the benchmark understands it."""

import asyncio
import time
from collections.abc import AsyncIterator

import openai
import pytest

from bench.gateway import reference_call
from bench.gateway.http_calls import CallFailed, HttpCalls
from bench.gateway.upstream import Upstream

_HOST = "127.0.0.1"
_PATH = "/v1/chat/completions"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(Upstream, _HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_the_official_client_reads_its_answers(port: int) -> None:
    """A whole answer and a streamed one say the same and count the same."""
    async with openai.AsyncOpenAI(
        base_url=f"http://{_HOST}:{port}/v1", api_key="none", max_retries=0
    ) as client:
        whole = await client.chat.completions.create(
            model=reference_call.MODEL, messages=[{"role": "user", "content": "Hello"}]
        )
        assert whole.choices[0].message.content == reference_call.ANSWER
        assert whole.choices[0].finish_reason == "stop"
        assert whole.usage is not None
        assert whole.usage.completion_tokens == reference_call.OUTPUT_TOKENS
        stream = await client.chat.completions.create(
            model=reference_call.MODEL,
            messages=[{"role": "user", "content": "Hello"}],
            stream=True,
        )
        chunks = [chunk async for chunk in stream]
    words = [each.choices[0].delta.content for each in chunks if each.choices]
    assert [word for word in words if word] == list(reference_call.WORDS)
    assert chunks[-1].usage == whole.usage


async def test_the_bare_client_takes_whole_answers_over_one_connection(port: int) -> None:
    """Each answer is complete before the next call."""
    calls = HttpCalls(_HOST, port, _PATH)
    for _ in range(3):
        await calls.whole()
    calls.close()


async def test_the_first_token_of_a_stream_comes_before_its_end(port: int) -> None:
    """It is told once, when most of the time of the stream is still to come."""
    calls = HttpCalls(_HOST, port, _PATH)

    async def share() -> float:
        """Of the stream's time, what passed before the first token."""
        firsts: list[float] = []
        begun = time.perf_counter()
        await calls.stream(lambda: firsts.append(time.perf_counter()))
        took = time.perf_counter() - begun
        (first,) = firsts
        assert took >= reference_call.PIECE_SECONDS * len(reference_call.WORDS) * 0.9
        return (first - begun) / took

    # A machine that stands still for a moment brings several tokens at once.
    shares = [await share() for _ in range(5)]
    calls.close()
    assert min(shares) < 0.5


async def test_calls_at_once_have_a_connection_each(port: int) -> None:
    """As many as are under way at a time, kept for those that follow."""
    calls = HttpCalls(_HOST, port, _PATH)
    for _ in range(2):
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(calls.whole())
    calls.close()


async def _answer_with(response: bytes) -> asyncio.Server:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, _HOST, 0)


@pytest.mark.parametrize(
    ("response", "complaint"),
    [
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", "answered b'HTTP/1.1 500 Oops"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "answered b'{}'"),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", "does not say where its answer ends"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", "broke the connection"),
    ],
)
async def test_an_answer_that_is_none_fails_the_call(response: bytes, complaint: str) -> None:
    """It is not counted as a quick one."""
    async with await _answer_with(response) as server:
        calls = HttpCalls(_HOST, server.sockets[0].getsockname()[1], _PATH)
        with pytest.raises(CallFailed) as caught:
            await calls.whole()
    assert str(caught.value).startswith(complaint)
