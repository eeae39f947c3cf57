"""Tests of batches that follow each other on one stream, over a real connection."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from agentmesh.common.v1.batch_pb2 import ItemContext
from agentmesh.common.v1.conversation_pb2 import ToolCall, ToolResult
from agentmesh.tool.v1 import tool_service_pb2 as pb
from agentmesh.tool.v1 import tool_service_pb2_grpc as pb_grpc
from meshkit import identity
from meshkit.batch import serve_stream
from meshkit.batch_stream import BatchStream
from meshkit.client import Channels
from meshkit.coalesce import Coalescer
from meshkit.constants import UNREACHED_KEY
from meshkit.errors import (
    Conflict,
    DeadlineExceeded,
    DependencyUnavailable,
    Internal,
    MeshError,
    NotImplementedYet,
    QueueFull,
    TooLarge,
    is_retryable,
    to_status,
)
from meshkit.server import Registration
from meshtest.eventually import eventually
from meshtest.proxy import FaultProxy
from meshtest.serving import serving

_Calls = Coalescer[pb.BatchExecuteToolsItem, pb.ExecuteToolResponse]
_Execute = Callable[[str], Awaitable[str]]


# What it does not serve is not asked for.
_Servicer: Any = pb_grpc.ToolServiceServicer


class _Tools(_Servicer):
    """Answers each call's tool with what `execute` makes of it."""

    def __init__(self, execute: _Execute, *, max_unanswered: int = 100) -> None:
        self.execute = execute
        self.streams = 0
        self.open = 0
        self._max_unanswered = max_unanswered

    async def BatchExecuteToolsStream(
        self, request_iterator: AsyncIterator[pb.BatchExecuteToolsStreamRequest], context: Any
    ) -> AsyncIterator[pb.BatchExecuteToolsStreamResponse]:
        async def one(item: pb.BatchExecuteToolsItem) -> pb.ExecuteToolResponse:
            text = await self.execute(item.request.call.tool)
            return pb.ExecuteToolResponse(result=ToolResult(text=text))

        self.streams += 1
        self.open += 1
        try:
            async for some in serve_stream(
                request_iterator,
                lambda item: item.context,
                one,
                max_unanswered=self._max_unanswered,
            ):
                yield pb.BatchExecuteToolsStreamResponse(
                    results=[
                        pb.BatchExecuteToolsResult(index=index, error=to_status(outcome))
                        if isinstance(outcome, MeshError)
                        else pb.BatchExecuteToolsResult(index=index, response=outcome)
                        for index, outcome in some
                    ]
                )
        finally:
            self.open -= 1


def _registration(tools: _Tools) -> Registration:
    return Registration(
        service_name="agentmesh.tool.v1.ToolService",
        add=pb_grpc.add_ToolServiceServicer_to_server,
        servicer=tools,
    )


@asynccontextmanager
async def _calling(
    tools: _Tools, *, timeout_seconds: float = 120, max_items: int = 64
) -> AsyncGenerator[_Calls]:
    async with serving([_registration(tools)]) as channels:
        yield _calls(channels, timeout_seconds=timeout_seconds, max_items=max_items)


def _calls(channels: Channels, *, timeout_seconds: float = 120, max_items: int = 64) -> _Calls:
    stream = BatchStream[pb.BatchExecuteToolsItem](
        pb_grpc.ToolServiceStub(channels.get("tool")).BatchExecuteToolsStream,
        pb.BatchExecuteToolsStreamRequest,
        who="tool",
        timeout_seconds=timeout_seconds,
        withdraws=True,
        open_seconds=0.1,
    )
    return _Calls(stream.send, withdraw=stream.withdraw, max_items=max_items, release_seconds=0.01)


def _item(tool: str, *, argument: str = "", seconds: int = 120) -> pb.BatchExecuteToolsItem:
    call = ToolCall(tool=tool)
    call.arguments.update({"text": argument})
    return pb.BatchExecuteToolsItem(
        context=ItemContext(tenant="ada", caller="service:test", timeout=Duration(seconds=seconds)),
        request=pb.ExecuteToolRequest(call=call),
    )


async def _shout(tool: str) -> str:
    if tool == "broken":
        raise Conflict("It is taken.")
    if tool == "faulty":
        raise ValueError("a secret")
    return f"{tool} for {identity.current().tenant}"


async def test_batches_follow_each_other_on_one_stream() -> None:
    """Calls that come one after another share a stream, and each gets its own answer."""
    tools = _Tools(_shout)
    async with _calling(tools) as calls:
        for number in range(20):
            assert (await calls.call(_item(f"t{number}"))).result.text == f"t{number} for ada"
        assert tools.streams < 20


async def test_an_idle_stream_ends() -> None:
    """Some time after the last call no stream is left."""
    tools = _Tools(_shout)
    async with _calling(tools) as calls:
        await calls.call(_item("one"))
        await eventually(lambda: tools.open == 0)
        await calls.call(_item("two"))
        assert tools.streams == 2


async def test_many_at_once_get_their_own_answers_and_errors() -> None:
    """An error is that of its item alone; a fault's text stays inside."""
    async with _calling(_Tools(_shout), max_items=3) as calls:
        names = [f"t{number}" for number in range(20)] + ["broken", "faulty"]
        outcomes = await asyncio.gather(
            *(calls.call(_item(name)) for name in names), return_exceptions=True
        )
    texts = [each.result.text for each in outcomes[:20] if not isinstance(each, BaseException)]
    assert texts == [f"t{number} for ada" for number in range(20)]
    assert isinstance(outcomes[20], Conflict)
    assert isinstance(outcomes[21], Internal)
    assert "secret" not in str(outcomes[21])


async def test_a_slow_item_holds_nobody_up() -> None:
    """What is done is answered while another item of the same stream still runs."""
    go_on = asyncio.Event()

    async def execute(tool: str) -> str:
        if tool == "slow":
            await go_on.wait()
        return tool

    async with _calling(_Tools(execute)) as calls:
        slow = asyncio.ensure_future(calls.call(_item("slow")))
        for number in range(5):
            assert (await calls.call(_item(f"t{number}"))).result.text == f"t{number}"
        assert not slow.done()
        go_on.set()
        assert (await slow).result.text == "slow"


async def test_a_call_that_is_cancelled_is_stopped_and_its_neighbours_go_on() -> None:
    """The peer hears of it at once, even after its stream takes in no more batches."""
    running: set[str] = set()
    go_on = asyncio.Event()

    async def execute(tool: str) -> str:
        if tool != "quick":
            running.add(tool)
            try:
                await go_on.wait()
            finally:
                running.discard(tool)
        return tool

    tools = _Tools(execute)
    async with _calling(tools) as calls:
        slow = [asyncio.ensure_future(calls.call(_item(tool))) for tool in ("first", "second")]
        await eventually(lambda: running == {"first", "second"})
        other = asyncio.ensure_future(calls.call(_item("other")))
        await eventually(lambda: running == {"first", "second", "other"})
        # At most four are open, so that the first ones take in no more by then.
        while tools.streams < 9:
            await calls.call(_item("quick"))
        other.cancel()
        await eventually(lambda: running == {"first", "second"})
        go_on.set()
        assert [(await each).result.text for each in slow] == ["first", "second"]
        await eventually(lambda: tools.open == 0)


async def test_one_call_of_a_batch_that_is_cancelled_is_stopped_alone() -> None:
    """At once, though its neighbours of the same message go on, and after they are answered."""
    running: set[str] = set()
    go_on = asyncio.Event()

    async def execute(tool: str) -> str:
        running.add(tool)
        try:
            await (go_on if tool == "neighbour" else asyncio.Event()).wait()
        finally:
            running.discard(tool)
        return tool

    async with _calling(_Tools(execute)) as calls:
        unwanted, neighbour = (
            asyncio.ensure_future(calls.call(_item(tool))) for tool in ("unwanted", "neighbour")
        )
        await eventually(lambda: running == {"unwanted", "neighbour"})
        unwanted.cancel()
        await eventually(lambda: running == {"neighbour"})
        go_on.set()
        assert (await neighbour).result.text == "neighbour"


async def test_calls_that_are_too_large_together_go_in_several_messages() -> None:
    """So do their answers: nobody fails for the size of others."""

    async def execute(tool: str) -> str:
        return tool * 200_000

    async with _calling(_Tools(execute)) as calls:
        answers = await asyncio.gather(
            *(calls.call(_item("x", argument="y" * 200_000)) for _ in range(64))
        )
    assert [len(each.result.text) for each in answers] == [200_000] * 64


async def test_an_item_whose_helper_was_cancelled_is_answered_with_a_fault() -> None:
    """Nobody cancelled the item itself, and its caller does not wait for the deadline."""

    async def execute(tool: str) -> str:
        helper = asyncio.get_running_loop().create_future()
        helper.cancel()
        await helper
        return tool

    async with _calling(_Tools(execute)) as calls:
        with pytest.raises(Internal):
            await asyncio.wait_for(calls.call(_item("one")), 60)


async def test_an_answer_that_is_too_large_takes_nobody_along() -> None:
    """It is answered with TooLarge, and its stream goes on."""
    go_on = asyncio.Event()

    async def execute(tool: str) -> str:
        if tool == "large":
            return "x" * 9_000_000
        await go_on.wait()
        return tool

    async with _calling(_Tools(execute)) as calls:
        small, large = (
            asyncio.ensure_future(calls.call(_item(tool))) for tool in ("small", "large")
        )
        with pytest.raises(TooLarge, match=r"^An answer of 90000\d\d bytes is over the limit"):
            await large
        go_on.set()
        assert (await small).result.text == "small"


async def test_a_peer_that_does_not_answer_in_time_fails_the_batch() -> None:
    """DeadlineExceeded names the peer, and the peer stops what it does."""
    running = asyncio.Event()
    stopped = asyncio.Event()

    async def execute(tool: str) -> str:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return tool

    async with _calling(_Tools(execute), timeout_seconds=0.5) as calls:
        with pytest.raises(DeadlineExceeded) as caught:
            await calls.call(_item("one"))
        assert caught.value.message == "tool did not answer within 0.5 seconds."
        assert caught.value.metadata == {"limit": "call", "dependency": "tool"}
        # A busy machine may not have begun with it.
        await eventually(lambda: stopped.is_set() or not running.is_set())


async def test_a_large_item_that_is_refused_takes_nobody_along() -> None:
    """It travels on a stream of its own, which ends with TooLarge; others are answered."""
    go_on = asyncio.Event()

    async def execute(tool: str) -> str:
        await go_on.wait()
        return tool

    async with _calling(_Tools(execute), max_items=1) as calls:
        small = asyncio.ensure_future(calls.call(_item("small")))
        with pytest.raises(TooLarge):
            await calls.call(_item("large", argument="x" * 9_000_000))
        go_on.set()
        assert (await small).result.text == "small"


async def test_more_than_a_stream_may_hold_is_refused() -> None:
    """An item beyond the bound is answered with QueueFull, the others in their time."""
    go_on = asyncio.Event()

    async def execute(tool: str) -> str:
        await go_on.wait()
        return tool

    async with _calling(_Tools(execute, max_unanswered=2)) as calls:
        items = [asyncio.ensure_future(calls.call(_item(f"t{number}"))) for number in range(3)]
        with pytest.raises(QueueFull, match="2 calls wait for an answer already"):
            await items[2]
        go_on.set()
        assert [(await each).result.text for each in items[:2]] == ["t0", "t1"]


async def test_a_stream_that_breaks_fails_what_is_unanswered_and_the_next_call_opens_another() -> (
    None
):
    """The callers get DependencyUnavailable; what was answered before stands."""
    breaks = True

    class _Leaving(_Tools):
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

    async with _calling(_Leaving(execute)) as calls:
        slow, quick = await asyncio.gather(
            calls.call(_item("slow")), calls.call(_item("quick")), return_exceptions=True
        )
        assert isinstance(quick, pb.ExecuteToolResponse)
        assert isinstance(slow, DependencyUnavailable)
        assert slow.message == "tool ended the stream before it had answered."
        breaks = False
        assert (await calls.call(_item("again"))).result.text == "again"


async def test_a_peer_of_an_earlier_version_is_as_one_that_is_away() -> None:
    """What it does not serve yet may be tried again; what an item is refused for is its own."""

    async def execute(tool: str) -> str:
        if tool == "refused":
            raise NotImplementedYet("There are no such tools yet.")
        return tool

    earlier: Any = _Servicer()
    registration = Registration(
        service_name="agentmesh.tool.v1.ToolService",
        add=pb_grpc.add_ToolServiceServicer_to_server,
        servicer=earlier,
    )
    async with serving([registration]) as channels:
        with pytest.raises(DependencyUnavailable) as caught:
            await _calls(channels).call(_item("one"))
    assert caught.value.message == "tool is of a version that does not serve this call yet."
    assert caught.value.metadata == {"dependency": "tool"}
    assert is_retryable(caught.value)
    async with _calling(_Tools(execute)) as calls:
        with pytest.raises(NotImplementedYet, match=r"^There are no such tools yet\.$"):
            await calls.call(_item("refused"))


async def test_a_peer_that_breaks_off_between_two_answers_may_be_asked_again() -> None:
    """A bare CANCELLED of a stream that has begun is no cancel of ours; gRPC does not repeat it."""

    class _BreakingOff(_Tools):
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
    async with _calling(tools) as calls:
        slow, quick = await asyncio.gather(
            calls.call(_item("slow")), calls.call(_item("quick")), return_exceptions=True
        )
    assert isinstance(quick, pb.ExecuteToolResponse)
    assert isinstance(slow, DependencyUnavailable)
    assert slow.message == "tool broke off /agentmesh.tool.v1.ToolService/BatchExecuteToolsStream."
    assert is_retryable(slow)
    assert tools.streams == 1


@pytest.mark.parametrize("executed", [True, False], ids=["executed", "underway"])
async def test_a_connection_that_breaks_fails_what_is_on_its_way_and_asks_nothing_twice(
    executed: bool,
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
        serving([_registration(_Tools(execute))]) as direct,
        FaultProxy(int(direct.address("tool").rpartition(":")[2])) as proxy,
        Channels({"tool": f"127.0.0.1:{proxy.port}"}, caller="service:test") as channels,
    ):
        calls = _calls(channels)
        # A new connection is answered first.
        assert (await calls.call(_item("before"))).result.text == "before"
        proxy.swallow_answers = executed
        tools = [f"t{number}" for number in range(200)]
        on_their_way = [asyncio.ensure_future(calls.call(_item(tool))) for tool in tools]
        await eventually(lambda: asked.keys() >= set(tools))
        proxy.swallow_answers = False
        proxy.cut()
        outcomes = await asyncio.gather(*on_their_way, return_exceptions=True)
        go_on.set()
        assert (await calls.call(_item("after"))).result.text == "after"
    assert {type(each) for each in outcomes} == {DependencyUnavailable}
    assert all(isinstance(each, Exception) and is_retryable(each) for each in outcomes)
    assert set(asked.values()) == {1}


async def _echo(tool: str) -> str:
    return tool


class _TurnsAway(_Tools):
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
async def _behind_a_proxy(unreached: int, *, patience_seconds: float) -> AsyncGenerator[_Calls]:
    server = grpc.aio.server()
    pb_grpc.add_ToolServiceServicer_to_server(_TurnsAway(unreached), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Channels(
            {"tool": f"127.0.0.1:{port}"},
            caller="service:test",
            patience_seconds=patience_seconds,
            proxied=True,
        ) as channels:
            yield _calls(channels)
    finally:
        await server.stop(None)


async def test_items_that_reached_nobody_are_sent_again_when_somebody_is_there() -> None:
    """All of them, and each is answered once."""
    async with _behind_a_proxy(3, patience_seconds=60.0) as calls:
        answers = await asyncio.gather(*(calls.call(_item(str(n))) for n in range(5)))
        assert [each.result.text for each in answers] == [str(n) for n in range(5)]


async def test_items_that_reach_nobody_for_too_long_fail() -> None:
    """With what the proxy said."""
    async with _behind_a_proxy(1000, patience_seconds=0.3) as calls:
        with pytest.raises(DependencyUnavailable) as caught:
            await calls.call(_item("a"))
        assert caught.value.message == "Failed to reach tool: no healthy upstream"


async def test_an_item_that_waits_for_somebody_may_be_given_up() -> None:
    """Its caller need not wait, and nobody else is disturbed."""
    async with _behind_a_proxy(6, patience_seconds=60.0) as calls:
        given_up = asyncio.create_task(calls.call(_item("a")))
        kept = asyncio.create_task(calls.call(_item("b")))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(given_up, 0.03)
        assert (await kept).result.text == "b"
