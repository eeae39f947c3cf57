"""Requests over connections that stay open, against servers that do what servers do."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import h11
import httpx2
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from meshtest.eventually import eventually
from services.reasoning.http_body import Body
from services.reasoning.http_head import NotHttp, read_head
from services.reasoning.http_transport import HttpTransport

_HOST = "127.0.0.1"
_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class _Server:
    """Answers each request with what it is told; knows its connections."""

    def __init__(self, *answers: bytes, then_closes: bool = False) -> None:
        self.answers = list(answers)
        self.then_closes = then_closes
        self.requests: list[bytes] = []
        self.connections = 0
        self.gone = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0] or 0)
                self.requests.append(head + await reader.readexactly(length))
                writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
                await writer.drain()
                if self.then_closes:
                    writer.close()
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone += 1
            writer.close()


@asynccontextmanager
async def _serving(server: _Server) -> AsyncGenerator[str]:
    listening = await asyncio.start_server(server.serve, _HOST, 0)
    async with listening:
        yield f"http://{_HOST}:{listening.sockets[0].getsockname()[1]}/v1"


@asynccontextmanager
async def _client(
    *, most_connections: int = 4, idle_seconds: float = 30, **timeouts: float
) -> AsyncGenerator[httpx2.AsyncClient]:
    transport = HttpTransport(
        most_connections=most_connections, most_idle_connections=4, idle_seconds=idle_seconds
    )
    timeout = httpx2.Timeout(60.0, **timeouts)
    async with httpx2.AsyncClient(transport=transport, timeout=timeout, trust_env=False) as client:
        yield client


async def test_one_connection_serves_one_request_after_the_other() -> None:
    """What is sent arrives as it is."""
    server = _Server(_OK)
    async with _serving(server) as url, _client() as client:
        for number in range(3):
            answer = await client.post(f"{url}/a?b=c%20d", json={"n": number})
            assert (answer.status_code, answer.text) == (200, "ok")
    assert server.connections == 1
    assert server.requests[0].startswith(b"POST /v1/a?b=c%20d HTTP/1.1\r\n")
    assert [each.rpartition(b"\r\n\r\n")[2] for each in server.requests] == [
        b'{"n":0}', b'{"n":1}', b'{"n":2}',
    ]  # fmt: skip


async def test_requests_at_once_have_a_connection_each() -> None:
    """They are kept for those that follow."""
    server = _Server(_OK)
    async with _serving(server) as url, _client() as client:
        for _ in range(2):
            await asyncio.gather(*(client.get(url) for _ in range(4)))
    assert server.connections == 4
    await eventually(lambda: server.gone == 4)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        b"1\r\no\r\n1;x=y\r\nk\r\n0\r\na: b\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + _OK,
        b"HTTP/1.1 200\nContent-Length:2\n\nok",
    ],
    ids=["chunked", "interim heads", "bare line feeds"],
)
async def test_answers_in_other_shapes_are_read_to_their_end(answer: bytes) -> None:
    """And the connection serves the next request."""
    server = _Server(answer)
    async with _serving(server) as url, _client() as client:
        assert [(await client.get(url)).text for _ in range(2)] == ["ok", "ok"]
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n",
    ],
    ids=["close", "HTTP/1.0", "more than was asked for"],
)
async def test_some_answers_end_their_connection(answer: bytes) -> None:
    """Nothing of one answer is ever taken for a part of the next."""
    server = _Server(answer)
    async with _serving(server) as url, _client() as client:
        assert [(await client.get(url)).text for _ in range(2)] == ["ok", "ok"]
    assert server.connections == 2


@pytest.mark.parametrize("head", ["204 No Content", "200 OK\r\ncontent-length: 0"])
async def test_what_follows_an_empty_answer_is_not_the_next_one(head: str) -> None:
    """A server cannot put an answer of its own before that to the next request."""
    server = _Server(b"HTTP/1.1 %s\r\n\r\n%s" % (head.encode(), _OK))
    async with _serving(server) as url, _client() as client:
        assert [(await client.get(url)).text for _ in range(2)] == ["", ""]
    assert server.connections == 2


async def test_what_comes_after_the_end_of_an_answer_is_not_the_next_one() -> None:
    """Also where it comes before that end was looked at."""
    first: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
    server = _Server(_OK)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not first.done():
            first.set_result(writer)
        await server.serve(reader, writer)

    listening = await asyncio.start_server(serve, _HOST, 0)
    url = f"http://{_HOST}:{listening.sockets[0].getsockname()[1]}"
    async with listening, _client() as client:
        async with client.stream("GET", url) as answer:
            parts = answer.aiter_raw()
            assert await anext(parts) == b"ok"
            (await first).write(_OK.replace(b"ok", b"no"))
            # By the time of another connection's answer, it has come.
            assert (await client.get(url)).text == "ok"
            assert [part async for part in parts] == []
        answers = await asyncio.gather(*(client.get(url) for _ in range(2)))
        assert [each.text for each in answers] == ["ok", "ok"]


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    """As HTTP/1.0 had it."""
    server = _Server(b"HTTP/1.1 200 OK\r\n\r\nok", then_closes=True)
    async with _serving(server) as url, _client() as client:
        assert (await client.get(url)).text == "ok"


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"", "sent no answer"),
        (b"nonsense\r\n\r\n", "sent no status line"),
        (b"HTTP/1.1 200 OK\r\n bad\r\n\r\n", "sent a malformed header"),
        (b"HTTP/1.1 200 OK\r\na : b\r\n\r\n", "sent a malformed header"),
        (b"HTTP/1.1 200 OK\r\na: b\rc: d\r\n\r\n", "sent a malformed header"),
        (b"HTTP/1.1 200 OK\r\na: b\r\r\n\r\n", "sent a malformed header"),
        (b"HTTP/1.1 200 OK\r\na:" + b" " * 50_000 + b"\0\r\n\r\n", "sent a malformed header"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "sent a malformed content-length"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            "sent a malformed content-length",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
            "does not say where its answer ends",
        ),
        (b"HTTP/1.1 101 Switching\r\n\r\n", "wants to speak another protocol"),
        (b"HTTP/1.1 200 OK\r\na: " + b"x" * 70_000, "sent endless headers"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", "broke off"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok", "broke off"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "sent a malformed chunk"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nokk\r\n",
            "sent a malformed chunk",
        ),
    ],
)
async def test_what_is_no_answer_fails(answer: bytes, complaint: str) -> None:
    """And its connection is closed."""
    server = _Server(answer, then_closes=True)
    async with _serving(server) as url, _client() as client:
        with pytest.raises(httpx2.RemoteProtocolError) as caught:
            await client.get(url)
        assert str(caught.value) == complaint


async def test_a_server_that_says_nothing_fails_in_its_time() -> None:
    """Before its answer, and in the middle of it."""
    for begun in (b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"):
        server = _Server(begun)
        async with _serving(server) as url, _client(read=0.05) as client:
            with pytest.raises(httpx2.ReadTimeout):
                await client.get(url)
            await eventually(lambda server=server: server.gone == 1)


async def test_nobody_at_the_address_is_a_failure_to_connect() -> None:
    """At once."""
    listening = await asyncio.start_server(_Server(_OK).serve, _HOST, 0)
    port = listening.sockets[0].getsockname()[1]
    listening.close()
    await listening.wait_closed()
    async with _client() as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get(f"http://{_HOST}:{port}")


async def test_a_caller_that_leaves_closes_the_connection() -> None:
    """Before the answer and within it: the server stops to work for nobody."""
    for begun in (b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"):
        server = _Server(begun)
        async with _serving(server) as url, _client() as client:
            call = asyncio.create_task(client.get(url))
            await eventually(lambda server=server: server.requests)
            call.cancel()
            await eventually(lambda server=server: server.gone == 1)


async def test_a_stream_that_is_left_early_closes_its_connection() -> None:
    """What was not read is not waited for."""
    server = _Server(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok")
    async with _serving(server) as url, _client() as client:
        async with client.stream("GET", url) as answer:
            async for part in answer.aiter_raw():
                assert part == b"ok"
                break
        await eventually(lambda: server.gone == 1)


async def test_more_than_may_be_in_use_wait_for_their_turn() -> None:
    """And fail where that does not come in time."""
    server = _Server(b"")
    async with _serving(server) as url, _client(most_connections=1, pool=0.05) as client:
        first = asyncio.create_task(client.get(url))
        await eventually(lambda: server.requests)
        with pytest.raises(httpx2.PoolTimeout):
            await client.get(url)
        first.cancel()
        server.answers = [_OK]
        await asyncio.gather(first, return_exceptions=True)
        assert (await client.get(url)).text == "ok"


async def test_idle_connections_are_closed_after_their_time() -> None:
    """Nobody has to ask for that."""
    server = _Server(_OK)
    async with _serving(server) as url, _client(idle_seconds=0.05) as client:
        await client.get(url)
        await eventually(lambda: server.gone == 1)
        await client.get(url)
    assert server.connections == 2


async def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    """The next request has another."""
    server = _Server(_OK, then_closes=True)
    async with _serving(server) as url, _client() as client:
        for number in range(3):
            assert (await client.get(url)).text == "ok"
            await asyncio.sleep(0)
            await eventually(lambda number=number: server.connections == number + 1)
            # Its end is on the way: the loop takes it in before anything is sent.
            await asyncio.sleep(0.01)


async def test_only_a_server_with_a_certificate_of_its_own_is_sent_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From an authority that is trusted, and for the name that was asked for."""
    # Any: what it takes besides Python's own contexts has no types.
    authority: Any = trustme.CA()
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    strangers = httpx2.create_ssl_context(trust_env=False)
    for known, name, answers in [
        (trusted, _HOST, True),
        (trusted, "other.example", False),
        (strangers, _HOST, False),
    ]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(name).configure_cert(context)
        server = _Server(_OK)
        listening = await asyncio.start_server(server.serve, _HOST, 0, ssl=context)
        url = f"https://{_HOST}:{listening.sockets[0].getsockname()[1]}"
        made: list[bool] = []

        def create(*, trust_env: bool, known: ssl.SSLContext = known) -> ssl.SSLContext:
            made.append(trust_env)  # noqa: B023 - called in this round
            return known

        monkeypatch.setattr(httpx2, "create_ssl_context", create)
        async with listening, _client() as client:
            if answers:
                assert [(await client.get(url)).text for _ in range(2)] == ["ok", "ok"]
                assert server.connections == 1
            else:
                with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                    await client.get(url)
                assert server.requests == []
        assert made == [False]


async def test_a_header_cannot_begin_another_one() -> None:
    """Whatever is in a key: nothing is sent."""
    server = _Server(_OK)
    async with _serving(server) as url, _client() as client:
        with pytest.raises((httpx2.LocalProtocolError, ValueError)):
            await client.get(url, headers={"authorization": "Bearer a\r\nx-evil: b"})
    assert server.requests == []


def _read_by_us(data: bytes, cuts: Sequence[int]) -> Any:
    """Status and body; None for no answer or an incomplete one."""
    head_bytes, blank, rest = data.partition(b"\r\n\r\n")
    if not blank:
        return None
    try:
        head = read_head(head_bytes)
        body, content, waiting = Body(head), b"", bytearray()
        for part in _cut(rest, cuts):
            waiting += part
            while not body.complete and (taken := body.feed(waiting)):
                content += taken
        return (head.status, content) if body.end() else None
    except NotHttp:
        return None


def _read_by_h11(data: bytes) -> Any:
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/", headers=[("host", "h")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(data)
    reader.receive_data(b"")
    status, content = 0, b""
    try:
        while True:
            match reader.next_event():
                case h11.Response(status_code=code):
                    status = code
                case h11.Data(data=part):
                    content += bytes(part)
                case h11.EndOfMessage():
                    return status, content
                case _:
                    return None
    except h11.RemoteProtocolError:
        return None


def _cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in pairwise(places)]


_CHUNK: Callable[[bytes], bytes] = lambda part: b"%x\r\n%s\r\n" % (len(part), part)  # noqa: E731
_BODIES = st.one_of(
    st.binary(max_size=40).map(
        lambda body: b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    ),
    st.lists(st.binary(min_size=1, max_size=20), max_size=4).map(
        lambda parts: (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            + b"".join(map(_CHUNK, parts))
            + b"0\r\n\r\n"
        )
    ),
    st.binary(max_size=40).map(lambda body: b"HTTP/1.1 201 Made\r\nx: y\r\n\r\n" + body),
)


@given(_BODIES, st.integers(0, 30), st.lists(st.integers(0, 200), max_size=5))
def test_answers_are_read_as_another_reader_reads_them(
    data: bytes, lost: int, cuts: Sequence[int]
) -> None:
    """However they are cut into parts, and wherever they break off."""
    data = data[: len(data) - lost] if lost < 10 else data
    if b"\r\n\r\n" in data:
        assert _read_by_us(data, cuts) == _read_by_h11(data)


@given(st.binary(max_size=200))
def test_nonsense_never_breaks_the_reader(data: bytes) -> None:
    """It is refused as such."""
    _read_by_us(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + data, [7, 50])
    _read_by_us(data + b"\r\n\r\n", [])
