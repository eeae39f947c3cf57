"""Batches on a stream that breaks, or whose peer is away, or of an earlier version."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from agentmesh.tool.v1 import tool_service_pb2 as pb
from agentmesh.tool.v1 import tool_service_pb2_grpc as pb_grpc
from meshkit import identity
from meshkit.client import Channels
from meshkit.constants import UNREACHED_KEY
from meshkit.errors import (
    DependencyUnavailable,
    NotImplementedYet,
    is_retryable,
)
from meshkit.server import Registration
from meshkit.tool_calls import (
    Calls,
    Servicer,
    Tools,
    call_item,
    called,
    calling,
    registration_of,
)
from meshtest.eventually import eventually
from meshtest.proxy import FaultProxy
from meshtest.serving import serving


@pytest.fixture(params=[False, True], ids=["grpc", "wire"])
def single_address(request: pytest.FixtureRequest) -> bool:
    """Whether calls are made by gRPC's own channels, or as those to a proxy are."""
    return request.param


async def test_a_stream_that_breaks_fails_what_is_unanswered_and_the_next_call_opens_another(
    single_address: bool,
) -> None:
    """The callers get DependencyUnavailable; what was answered before stands."""
    breaks = True

    class _Leaving(Tools):
        async def BatchExecuteToolsStream(
            self, request_iterator: AsyncIterator[pb.BatchExecuteToolsStreamRequest], context: Any
        ) -> AsyncIterator[pb.BatchExecuteToolsStreamResponse]:
            answers = super().BatchExecuteToolsStream(request_iterator, context)
            async for each in answers:
                yield each
                if breaks:
                    return

    go_on = asyncio.Event()

    async def execute(tool: str) -> str:
        if tool == "slow":
            await go_on.wait()
        return tool

    async with calling(_Leaving(execute), single_address=single_address) as calls:
        slow, quick = await asyncio.gather(
            calls.call(call_item("slow")), calls.call(call_item("quick")), return_exceptions=True
        )
        assert isinstance(quick, pb.ExecuteToolResponse)
        assert isinstance(slow, DependencyUnavailable)
        assert slow.message == "tool ended the stream before it had answered."
        breaks = False
        assert (await calls.call(call_item("again"))).result.text == "again"


async def test_a_peer_of_an_earlier_version_is_as_one_that_is_away(single_address: bool) -> None:
    """What it does not serve yet may be tried again; what an item is refused for is its own."""

    async def execute(tool: str) -> str:
        if tool == "refused":
            raise NotImplementedYet("There are no such tools yet.")
        return tool

    earlier: Any = Servicer()
    registration = Registration(
        service_name="agentmesh.tool.v1.ToolService",
        add=pb_grpc.add_ToolServiceServicer_to_server,
        servicer=earlier,
    )
    async with serving([registration], single_address=single_address) as channels:
        with pytest.raises(DependencyUnavailable) as caught:
            await called(channels).call(call_item("one"))
    assert caught.value.message == "tool is of a version that does not serve this call yet."
    assert caught.value.metadata == {"dependency": "tool"}
    assert is_retryable(caught.value)
    async with calling(Tools(execute), single_address=single_address) as calls:
        with pytest.raises(NotImplementedYet, match=r"^There are no such tools yet\.$"):
            await calls.call(call_item("refused"))


async def test_a_peer_that_breaks_off_between_two_answers_may_be_asked_again(
    single_address: bool,
) -> None:
    """A bare CANCELLED of a stream that has begun is no cancel of ours; gRPC does not repeat it."""

    class _BreakingOff(Tools):
        async def BatchExecuteToolsStream(
            self, request_iterator: AsyncIterator[pb.BatchExecuteToolsStreamRequest], context: Any
        ) -> AsyncIterator[pb.BatchExecuteToolsStreamResponse]:
            async for each in super().BatchExecuteToolsStream(request_iterator, context):
                yield each
                await context.abort(grpc.StatusCode.CANCELLED)

    async def execute(tool: str) -> str:
        if tool == "slow":
            await asyncio.Event().wait()
        return tool

    tools = _BreakingOff(execute)
    async with calling(tools, single_address=single_address) as calls:
        slow, quick = await asyncio.gather(
            calls.call(call_item("slow")), calls.call(call_item("quick")), return_exceptions=True
        )
    assert isinstance(quick, pb.ExecuteToolResponse)
    assert isinstance(slow, DependencyUnavailable)
    assert slow.message == "tool broke off /agentmesh.tool.v1.ToolService/BatchExecuteToolsStream."
    assert is_retryable(slow)
    assert tools.streams == 1


@pytest.mark.parametrize("executed", [True, False], ids=["executed", "underway"])
async def test_a_connection_that_breaks_fails_what_is_on_its_way_and_asks_nothing_twice(
    executed: bool, single_address: bool
) -> None:
    """Whether answers were lost or not yet made; the next call goes over another connection."""
    asked = Counter[str]()
    go_on = asyncio.Event()

    async def execute(tool: str) -> str:
        asked[tool] += 1
        if tool != "before" and not executed:
            await go_on.wait()
        return tool

    async with (
        serving([registration_of(Tools(execute))]) as direct,
        FaultProxy(int(direct.address("tool").rpartition(":")[2])) as proxy,
        Channels(
            {"tool": f"127.0.0.1:{proxy.port}"},
            caller="service:test",
            single_address=single_address,
        ) as channels,
    ):
        calls = called(channels)
        # A new connection is answered first.
        assert (await calls.call(call_item("before"))).result.text == "before"
        proxy.swallow_answers = executed
        tools = [f"t{number}" for number in range(200)]
        on_their_way = [asyncio.ensure_future(calls.call(call_item(tool))) for tool in tools]
        await eventually(lambda: asked.keys() >= set(tools))
        proxy.swallow_answers = False
        proxy.cut()
        outcomes = await asyncio.gather(*on_their_way, return_exceptions=True)
        go_on.set()
        assert (await calls.call(call_item("after"))).result.text == "after"
    assert {type(each) for each in outcomes} == {DependencyUnavailable}
    assert all(isinstance(each, Exception) and is_retryable(each) for each in outcomes)
    assert set(asked.values()) == {1}


async def _echo(tool: str) -> str:
    return tool


class _TurnsAway(Tools):
    """Behind a proxy that says of the first streams that nobody was there."""

    def __init__(self, unreached: int) -> None:
        super().__init__(_echo)
        self._left = unreached

    async def BatchExecuteToolsStream(
        self, request_iterator: AsyncIterator[pb.BatchExecuteToolsStreamRequest], context: Any
    ) -> AsyncIterator[pb.BatchExecuteToolsStreamResponse]:
        self._left -= 1
        if self._left >= 0:
            unreached = ((UNREACHED_KEY, "1"),)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "no healthy upstream", unreached)
        identity.adopt(identity.BATCH)
        async for each in super().BatchExecuteToolsStream(request_iterator, context):
            yield each


@asynccontextmanager
async def _behind_a_proxy(unreached: int, *, patience_seconds: float) -> AsyncGenerator[Calls]:
    server = grpc.aio.server()
    pb_grpc.add_ToolServiceServicer_to_server(_TurnsAway(unreached), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Channels(
            {"tool": f"127.0.0.1:{port}"},
            caller="service:test",
            patience_seconds=patience_seconds,
            single_address=True,
        ) as channels:
            yield called(channels)
    finally:
        await server.stop(None)


async def test_items_that_reached_nobody_are_sent_again_when_somebody_is_there() -> None:
    """All of them, and each is answered once."""
    async with _behind_a_proxy(3, patience_seconds=60.0) as calls:
        answers = await asyncio.gather(*(calls.call(call_item(str(n))) for n in range(5)))
        assert [each.result.text for each in answers] == [str(n) for n in range(5)]


async def test_items_that_reach_nobody_for_too_long_fail() -> None:
    """With what the proxy said."""
    async with _behind_a_proxy(1000, patience_seconds=0.3) as calls:
        with pytest.raises(DependencyUnavailable) as caught:
            await calls.call(call_item("a"))
        assert caught.value.message == "Failed to reach tool: no healthy upstream"


async def test_an_item_that_waits_for_somebody_may_be_given_up() -> None:
    """Its caller need not wait, and nobody else is disturbed."""
    async with _behind_a_proxy(6, patience_seconds=60.0) as calls:
        given_up = asyncio.create_task(calls.call(call_item("a")))
        kept = asyncio.create_task(calls.call(call_item("b")))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(given_up, 0.03)
        assert (await kept).result.text == "b"
