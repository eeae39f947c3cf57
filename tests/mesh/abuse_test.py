"""Clients that mean harm, before the gateway and the proxy as they ship.

Meanwhile others are served, and nobody's memory grows.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress

import psutil
import pytest
import pytest_asyncio

from meshtest.eventually import eventually
from tests.mesh.fronts import Front
from tests.mesh.instances import Mesh, running
from tests.mesh.raw_http2 import (
    END_HEADERS,
    END_STREAM,
    Frame,
    Headers,
    RawHttp2,
    connected,
    encoded,
)
from tests.mesh.steady_load import steady
from tier.ports import HOST

pytestmark = pytest.mark.asyncio(loop_scope="module")

_MEGABYTE = 1 << 20
# What any of these processes may take more after an attack, which sends far more than that.
_GROWTH_BYTES = 24 * _MEGABYTE
_OTHERS_PER_SECOND = 20.0
# So long nobody else waits, even on a machine with much more to do than it can.
_OTHERS_WAIT_SECONDS = 30.0
_PATIENCE_SECONDS = 60.0
# HTTP/2's error code for who is too lively.
_ENHANCE_YOUR_CALM = 11


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """Two instances, started once for all tests here."""
    async with running(tmp_path_factory.mktemp("mesh"), 2) as each:
        yield each


@pytest_asyncio.fixture(loop_scope="module", params=["gateway", "proxy"])
async def front(mesh: Mesh, request: pytest.FixtureRequest) -> AsyncIterator[Front]:
    """Each of the Envoys in turn; after the test, others were served and memory was flat."""
    chosen: Front = {"gateway": mesh.gateway, "proxy": mesh.proxy}[request.param]
    processes = [psutil.Process(pid) for pid in (chosen.pid, *(one.pid for one in mesh.instances))]
    async with steady(chosen.read, per_second=_OTHERS_PER_SECOND) as others:
        await eventually(lambda: others.last_are_answered(20), _PATIENCE_SECONDS)
        before = [each.memory_info().rss for each in processes]
        yield chosen
    growth = [each.memory_info().rss - was for each, was in zip(processes, before, strict=True)]
    print(f"memory grew by {[f'{each / _MEGABYTE:.1f}' for each in growth]} MiB")
    assert max(growth) < _GROWTH_BYTES
    assert others.failures == []
    assert max(each.took_seconds for each in others.outcomes) < _OTHERS_WAIT_SECONDS


async def test_rapid_reset(front: Front) -> None:
    """Who takes requests back as soon as they are made is cut off, as often as he comes back."""
    for _ in range(3):
        async with connected(front.port) as client:
            streams = itertools.count(1, 2)

            async def make_and_reset(
                client: RawHttp2 = client, streams: Iterator[int] = streams
            ) -> None:
                while await client.sent():
                    for stream in itertools.islice(streams, 20):
                        client.request(stream, front.headers)
                        client.reset(stream)

            await asyncio.wait_for(make_and_reset(), _PATIENCE_SECONDS)
        print(f"cut off after at most {next(streams) // 2} requests")


async def test_slow_headers(front: Front) -> None:
    """A request whose headers do not come to an end is ended, and so it is over HTTP/1.1."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(front.port)) for _ in range(50)]
        for each in clients:
            each.request(1, front.headers[:3], flags=0)
        trickles = [asyncio.create_task(_trickle(front.port)) for _ in range(50)]
        for each in clients:
            await eventually(lambda each=each: _is_over(each), _PATIENCE_SECONDS)
        await asyncio.wait_for(asyncio.gather(*trickles), _PATIENCE_SECONDS)


@pytest.mark.parametrize("listening", [True, False], ids=["listening", "deaf"])
async def test_pings_without_end(front: Front, listening: bool) -> None:
    """Whoever sends them as fast as possible is cut off, and no answers are kept for the deaf."""
    async with connected(front.port, listening=listening) as client:

        async def ping_on() -> None:
            while await client.sent():
                client.send(Frame.PING, 0, b"are you?", times=100)

        await asyncio.wait_for(ping_on(), _PATIENCE_SECONDS)


@pytest.mark.parametrize(
    "more",
    [
        [(f"x-more-{number}", "1") for number in range(100)],
        [("x-more", "m" * 100_000)],
    ],
    ids=["too many", "huge"],
)
async def test_headers_beyond_the_limits(front: Front, more: Headers) -> None:
    """The request is refused."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(front.port)) for _ in range(50)]
        for each in clients:
            _in_pieces(each, 1, [*front.headers, *more])
        for each in clients:
            await eventually(lambda each=each: _is_over(each), _PATIENCE_SECONDS)


async def test_headers_without_end(front: Front) -> None:
    """Who goes on sending pieces of headers is cut off before long."""
    sent = 0
    async with connected(front.port) as client:
        client.request(1, front.headers, flags=0)
        for _ in range(2_000):
            client.send(Frame.CONTINUATION, 1, b"\0" + b"\x01x" + b"\x7f\x80\x7f" + b"m" * 16_000)
            sent += 1
            if not await client.sent():
                break
        await asyncio.wait_for(client.ended.wait(), _PATIENCE_SECONDS)
    print(f"cut off after at most {sent} pieces")
    assert sent < 2_000


async def test_a_service_cuts_off_who_pings_without_end(mesh: Mesh) -> None:
    """A service itself bears no more pings than its proxies send."""
    async with connected(mesh.instances[0].port) as client:
        # In one piece: who still writes when the service has ended loses what it was told before.
        client.send(Frame.PING, 0, b"are you?", times=10)
        await asyncio.wait_for(client.ended.wait(), _PATIENCE_SECONDS)
    assert client.told_to_go == _ENHANCE_YOUR_CALM


async def _trickle(port: int) -> None:
    """Sends headers over HTTP/1.1, a few letters a second; returns when it is ended."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n")
    try:
        while not writer.is_closing():
            writer.write(b"x-slow: yes\r\n")
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    if not await reader.read(1024):
                        return
    except OSError:
        return
    finally:
        writer.transport.abort()


def _in_pieces(client: RawHttp2, stream: int, headers: Headers) -> None:
    """A request whose headers need more than one frame."""
    block = encoded(headers)
    pieces = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
    kinds = [Frame.HEADERS, *[Frame.CONTINUATION] * (len(pieces) - 1)]
    for number, (kind, piece) in enumerate(zip(kinds, pieces, strict=True)):
        is_last = number == len(pieces) - 1
        flags = (END_STREAM if number == 0 else 0) | (END_HEADERS if is_last else 0)
        client.send(kind, stream, piece, flags=flags)


def _is_over(client: RawHttp2) -> bool:
    """Whether its only request has ended."""
    return (
        client.ended.is_set()
        or client.received[Frame.RST_STREAM] + client.received[Frame.HEADERS] > 0
    )
