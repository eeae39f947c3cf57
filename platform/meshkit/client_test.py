"""Calls to peers that are away for a moment, or for good."""

import asyncio
import io
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from meshkit import log
from meshkit.client import Channels
from meshkit.constants import UNREACHED_KEY
from meshkit.errors import DependencyUnavailable
from meshkit.server import MeshServer
from meshtest.child_server import free_port
from meshtest.echo import EchoServicer, EchoStub, add_echo, registration
from meshtest.eventually import eventually
from meshtest.serving import serving


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


@pytest.fixture(params=[False, True], ids=["grpc", "wire"])
def single_address(request: pytest.FixtureRequest) -> bool:
    """Whether calls are made by gRPC's own channels, or as those to a proxy are."""
    return request.param


async def test_no_proxy_of_the_environment_gets_plain_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call in plain text, which may show a key, goes to its target and nowhere else."""
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    port = free_port()
    targets = {"memory": f"127.0.0.1:{port}"}
    async with _serving(port), Channels(targets, caller="user:x", bearer="a key") as channels:
        answer = await EchoStub(channels.get("memory")).Say(StringValue(value="hi"), timeout=60)
    assert answer.value == "hi"


async def test_a_peer_that_is_started_again_is_waited_for(single_address: bool) -> None:
    """Calls of every kind that begin while it is away are answered when it is back."""
    port = free_port()
    targets = {"memory": f"127.0.0.1:{port}"}
    async with Channels(
        targets, caller="service:x", patience_seconds=60.0, single_address=single_address
    ) as channels:
        stub = EchoStub(channels.get("memory"))
        async with _serving(port):
            await stub.Say(StringValue(value="before"), timeout=60)

        async def one() -> str:
            return (await stub.Say(StringValue(value="a"), timeout=60)).value

        async def many() -> str:
            return "".join(
                [each.value async for each in stub.Repeat(StringValue(value="bc"), timeout=60)]
            )

        answers = asyncio.gather(one(), many(), one())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(answers), 0.3)
        async with _serving(port):
            assert await answers == ["a", "bc", "a"]


@pytest.mark.parametrize(
    ("timeout", "patience_seconds", "least_seconds"), [(60.0, 0.5, 0.5), (4.0, 60.0, 2.0)]
)
async def test_a_peer_that_stays_away_is_told_as_unreachable(
    timeout: float, patience_seconds: float, least_seconds: float, single_address: bool
) -> None:
    """Patience ends, and before the call's own time does, which would be told as that."""
    targets = {"memory": "127.0.0.1:1"}
    async with Channels(
        targets,
        caller="service:x",
        patience_seconds=patience_seconds,
        single_address=single_address,
    ) as channels:
        stub = EchoStub(channels.get("memory"))
        begun = time.monotonic()
        with pytest.raises(DependencyUnavailable, match=r"^Failed to reach memory: "):
            await stub.Say(StringValue(value="a"), timeout=timeout)
        assert time.monotonic() - begun >= least_seconds
        with pytest.raises(DependencyUnavailable, match=r"^Failed to reach memory: "):
            async for _ in stub.Repeat(StringValue(value="a"), timeout=timeout):
                pass


async def test_a_stream_that_is_dropped_while_it_waits_never_begins(single_address: bool) -> None:
    """Cancelling the answers ends the wait for the peer, too."""
    targets = {"memory": "127.0.0.1:1"}
    async with Channels(
        targets, caller="service:x", patience_seconds=60.0, single_address=single_address
    ) as channels:
        answers = EchoStub(channels.get("memory")).Repeat(StringValue(value="a"), timeout=120)
        reading = asyncio.create_task(anext(aiter(answers)))
        await asyncio.sleep(0)
        answers.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(reading, 60)


class _Endless(EchoServicer):
    """Answers without an end, and says when it is stopped."""

    def __init__(self) -> None:
        self.stopped = asyncio.Event()

    async def Repeat(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        try:
            yield request
            await asyncio.Event().wait()
        finally:
            self.stopped.set()


async def test_who_drops_answers_cancels_the_call(single_address: bool) -> None:
    """Nobody could read them any more; the handler is stopped long before the deadline."""
    endless = _Endless()
    async with serving([registration(endless)], single_address=single_address) as channels:
        async for answer in EchoStub(channels.get("echo")).Repeat(
            StringValue(value="a"), timeout=600
        ):
            assert answer.value == "a"
            break
        await eventually(endless.stopped.is_set)


async def test_credentials_that_a_channel_cannot_use_are_not_left_out() -> None:
    """Then gRPC's own channel is one that can: nothing goes in plain text."""

    class _Own:
        credentials = grpc.ssl_channel_credentials()

    port = free_port()
    targets = {"memory": f"127.0.0.1:{port}"}
    async with (
        _serving(port),
        Channels(targets, caller="user:x", single_address=True, tls=_Own()) as channels,
    ):
        with pytest.raises(DependencyUnavailable, match=r"^Failed to reach memory: "):
            await EchoStub(channels.get("memory")).Say(StringValue(value="a"), timeout=60)


class _Stopping(EchoServicer):
    """Breaks off as many calls as a server does that begins to stop: with a bare code."""

    def __init__(self, breaks_off: int) -> None:
        self._left = breaks_off

    async def Say(self, request: StringValue, context: Any) -> StringValue:
        await self._break_off(context)
        return request

    async def Talk(
        self, request_iterator: AsyncIterator[StringValue], context: Any
    ) -> AsyncIterator[StringValue]:
        await self._break_off(context)
        async for each in super().Talk(request_iterator, context):
            yield each

    async def _break_off(self, context: Any) -> None:
        self._left -= 1
        if self._left >= 0:
            await context.abort(grpc.StatusCode.CANCELLED)


@asynccontextmanager
async def _stopping(breaks_off: int) -> AsyncGenerator[EchoStub]:
    server = grpc.aio.server()
    add_echo(_Stopping(breaks_off), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Channels({"memory": f"127.0.0.1:{port}"}, caller="service:x") as channels:
            yield EchoStub(channels.get("memory"))
    finally:
        await server.stop(None)


async def _letters() -> AsyncIterator[StringValue]:
    for letter in "ab":
        yield StringValue(value=letter)


async def test_a_call_that_a_stopping_peer_did_not_take_is_made_again() -> None:
    """Nobody notices, whatever kind of call it is."""
    async with _stopping(breaks_off=1) as stub:
        assert await stub.Say(StringValue(value="a"), timeout=60) == StringValue(value="a")
    async with _stopping(breaks_off=1) as stub:
        assert [each.value async for each in stub.Talk(_letters(), timeout=60)] == ["a", "b"]


async def test_a_peer_that_breaks_off_again_and_again_is_told_as_unavailable() -> None:
    """So that whoever called tries it later."""
    async with _stopping(breaks_off=100) as stub:
        with pytest.raises(DependencyUnavailable) as unary:
            await stub.Say(StringValue(value="a"), timeout=60)
        assert unary.value.message == "memory broke off /meshtest.v1.EchoService/Say."
        assert unary.value.metadata == {"dependency": "memory"}
        with pytest.raises(DependencyUnavailable, match=r"^memory broke off .*/Talk\.$"):
            async for _ in stub.Talk(_letters(), timeout=60):
                pass


class _Proxy(EchoServicer):
    """Says, as a proxy does, of as many calls that nobody was there."""

    def __init__(self, unreached: int) -> None:
        self.calls = 0
        self._left = unreached

    async def Say(self, request: StringValue, context: Any) -> StringValue:
        await self._turn_away(context)
        return request

    async def Repeat(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        await self._turn_away(context)
        async for each in super().Repeat(request, context):
            yield each

    async def _turn_away(self, context: Any) -> None:
        self.calls += 1
        self._left -= 1
        if self._left >= 0:
            unreached = ((UNREACHED_KEY, "1"),)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "no healthy upstream", unreached)


@asynccontextmanager
async def _proxied(proxy: EchoServicer, patience_seconds: float) -> AsyncGenerator[EchoStub]:
    server = grpc.aio.server()
    add_echo(proxy, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Channels(
            {"memory": f"127.0.0.1:{port}"},
            caller="service:x",
            patience_seconds=patience_seconds,
            single_address=True,
        ) as channels:
            yield EchoStub(channels.get("memory"))
    finally:
        await server.stop(None)


async def test_a_call_of_which_a_proxy_says_that_nobody_was_there_waits_for_somebody() -> None:
    """Whether it has one answer or many."""
    async with _proxied(_Proxy(unreached=2), patience_seconds=60.0) as stub:
        assert (await stub.Say(StringValue(value="a"), timeout=60)).value == "a"
    async with _proxied(_Proxy(unreached=2), patience_seconds=60.0) as stub:
        answers = [each.value async for each in stub.Repeat(StringValue(value="bc"), timeout=60)]
        assert answers == ["b", "c"]


async def test_patience_with_a_proxy_ends() -> None:
    """And who has none does not wait at all."""
    proxy = _Proxy(unreached=1000)
    async with _proxied(proxy, patience_seconds=0.4) as stub:
        with pytest.raises(DependencyUnavailable) as caught:
            await stub.Say(StringValue(value="a"), timeout=60)
        assert caught.value.message == "Failed to reach memory: no healthy upstream"
        assert caught.value.metadata == {"dependency": "memory"}
        # After 0.05, 0.15 and 0.35 seconds, or later.
        assert proxy.calls <= 4
    proxy = _Proxy(unreached=1000)
    async with _proxied(proxy, patience_seconds=0.0) as stub:
        with pytest.raises(DependencyUnavailable):
            await stub.Say(StringValue(value="a"), timeout=60)
        assert proxy.calls == 1


async def test_what_a_service_behind_a_proxy_answered_is_not_asked_again() -> None:
    """That is for the proxy, or for the caller, to repeat."""
    stopping = _Stopping(breaks_off=1)
    async with _proxied(stopping, patience_seconds=60.0) as stub:
        with pytest.raises(DependencyUnavailable, match=r"^memory broke off "):
            await stub.Say(StringValue(value="a"), timeout=60)
