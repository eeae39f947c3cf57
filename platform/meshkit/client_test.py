"""Calls to peers that are away for a moment, or for good."""

import asyncio
import io
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from meshkit import log
from meshkit.client import Channels
from meshkit.errors import DependencyUnavailable
from meshkit.server import MeshServer
from meshtest.child_server import free_port
from meshtest.echo import EchoServicer, EchoStub, registration


@asynccontextmanager
async def _serving(port: int) -> AsyncGenerator[None]:
    server = MeshServer(
        name="test",
        address=f"127.0.0.1:{port}",
        registrations=[registration(EchoServicer())],
        log=log.get("test", stream=io.StringIO()),
        default_tenant="default",
        drain_seconds=0.1,
    )
    serving = asyncio.create_task(server.serve())
    await server.started()
    try:
        yield
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def test_a_peer_that_is_started_again_is_waited_for() -> None:
    """Calls of every kind that begin while it is away are answered when it is back."""
    port = free_port()
    targets = {"memory": f"127.0.0.1:{port}"}
    async with Channels(targets, caller="service:x", patience_seconds=5.0) as channels:
        stub = EchoStub(channels.get("memory"))
        async with _serving(port):
            await stub.Say(StringValue(value="before"), timeout=10)

        async def one() -> str:
            return (await stub.Say(StringValue(value="a"), timeout=10)).value

        async def many() -> str:
            return "".join(
                [each.value async for each in stub.Repeat(StringValue(value="bc"), timeout=10)]
            )

        answers = asyncio.gather(one(), many(), one())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(answers), 0.3)
        async with _serving(port):
            assert await answers == ["a", "bc", "a"]


@pytest.mark.parametrize(("timeout", "most_seconds"), [(10.0, 0.5), (0.4, 0.2)])
async def test_a_peer_that_stays_away_is_told_as_unreachable(
    timeout: float, most_seconds: float
) -> None:
    """Patience ends, and in good time before the call's own time does."""
    targets = {"memory": "127.0.0.1:1"}
    async with Channels(targets, caller="service:x", patience_seconds=0.5) as channels:
        stub = EchoStub(channels.get("memory"))
        begun = time.monotonic()
        with pytest.raises(DependencyUnavailable, match=r"^Failed to reach memory: "):
            await stub.Say(StringValue(value="a"), timeout=timeout)
        assert most_seconds <= time.monotonic() - begun < most_seconds + 0.15
        with pytest.raises(DependencyUnavailable, match=r"^Failed to reach memory: "):
            async for _ in stub.Repeat(StringValue(value="a"), timeout=timeout):
                pass


async def test_a_stream_that_is_dropped_while_it_waits_never_begins() -> None:
    """Cancelling the answers ends the wait for the peer, too."""
    targets = {"memory": "127.0.0.1:1"}
    async with Channels(targets, caller="service:x", patience_seconds=60.0) as channels:
        answers = EchoStub(channels.get("memory")).Repeat(StringValue(value="a"), timeout=120)
        reading = asyncio.create_task(anext(aiter(answers)))
        await asyncio.sleep(0)
        answers.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(reading, 5)
