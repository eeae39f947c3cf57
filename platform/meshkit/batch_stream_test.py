"""Tests of batches that follow each other on one stream, over a real connection."""

import asyncio

import pytest

from meshkit.errors import (
    Conflict,
    DeadlineExceeded,
    Internal,
    QueueFull,
    TooLarge,
)
from meshkit.tool_calls import (
    Tools,
    call_item,
    calling,
    shout,
)
from meshtest.eventually import eventually


@pytest.fixture(params=[False, True], ids=["grpc", "wire"])
def single_address(request: pytest.FixtureRequest) -> bool:
    """Whether calls are made by gRPC's own channels, or as those to a proxy are."""
    return request.param


async def test_batches_follow_each_other_on_one_stream(single_address: bool) -> None:
    """Calls that come one after another share a stream, and each gets its own answer."""
    tools = Tools(shout)
    async with calling(tools, single_address=single_address) as calls:
        for number in range(20):
            assert (await calls.call(call_item(f"t{number}"))).result.text == f"t{number} for ada"
        assert tools.streams < 20


async def test_an_idle_stream_ends(single_address: bool) -> None:
    """Some time after the last call no stream is left."""
    tools = Tools(shout)
    async with calling(tools, single_address=single_address) as calls:
        await calls.call(call_item("one"))
        await eventually(lambda: tools.open == 0)
        await calls.call(call_item("two"))
        assert tools.streams == 2


async def test_many_at_once_get_their_own_answers_and_errors(single_address: bool) -> None:
    """An error is that of its item alone; a fault's text stays inside."""
    async with calling(Tools(shout), max_items=3, single_address=single_address) as calls:
        names = [f"t{number}" for number in range(20)] + ["broken", "faulty"]
        outcomes = await asyncio.gather(
            *(calls.call(call_item(name)) for name in names), return_exceptions=True
        )
    texts = [each.result.text for each in outcomes[:20] if not isinstance(each, BaseException)]
    assert texts == [f"t{number} for ada" for number in range(20)]
    assert isinstance(outcomes[20], Conflict)
    assert isinstance(outcomes[21], Internal)
    assert "secret" not in str(outcomes[21])


async def test_a_slow_item_holds_nobody_up(single_address: bool) -> None:
    """What is done is answered while another item of the same stream still runs."""
    go_on = asyncio.Event()

    async def execute(tool: str) -> str:
        if tool == "slow":
            await go_on.wait()
        return tool

    async with calling(Tools(execute), single_address=single_address) as calls:
        slow = asyncio.ensure_future(calls.call(call_item("slow")))
        for number in range(5):
            assert (await calls.call(call_item(f"t{number}"))).result.text == f"t{number}"
        assert not slow.done()
        go_on.set()
        assert (await slow).result.text == "slow"


async def test_a_call_that_is_cancelled_is_stopped_and_its_neighbours_go_on(
    single_address: bool,
) -> None:
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

    tools = Tools(execute)
    async with calling(tools, single_address=single_address) as calls:
        slow = [asyncio.ensure_future(calls.call(call_item(tool))) for tool in ("first", "second")]
        await eventually(lambda: running == {"first", "second"})
        other = asyncio.ensure_future(calls.call(call_item("other")))
        await eventually(lambda: running == {"first", "second", "other"})
        # At most four are open, so that the first ones take in no more by then.
        while tools.streams < 9:
            await calls.call(call_item("quick"))
        other.cancel()
        await eventually(lambda: running == {"first", "second"})
        go_on.set()
        assert [(await each).result.text for each in slow] == ["first", "second"]
        await eventually(lambda: tools.open == 0)


async def test_one_call_of_a_batch_that_is_cancelled_is_stopped_alone(single_address: bool) -> None:
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

    async with calling(Tools(execute), single_address=single_address) as calls:
        unwanted, neighbour = (
            asyncio.ensure_future(calls.call(call_item(tool))) for tool in ("unwanted", "neighbour")
        )
        await eventually(lambda: running == {"unwanted", "neighbour"})
        unwanted.cancel()
        await eventually(lambda: running == {"neighbour"})
        go_on.set()
        assert (await neighbour).result.text == "neighbour"


async def test_calls_that_are_too_large_together_go_in_several_messages(
    single_address: bool,
) -> None:
    """So do their answers: nobody fails for the size of others."""

    async def execute(tool: str) -> str:
        return tool * 200_000

    async with calling(Tools(execute), single_address=single_address) as calls:
        answers = await asyncio.gather(
            *(calls.call(call_item("x", argument="y" * 200_000)) for _ in range(64))
        )
    assert [len(each.result.text) for each in answers] == [200_000] * 64


async def test_an_item_whose_helper_was_cancelled_is_answered_with_a_fault(
    single_address: bool,
) -> None:
    """Nobody cancelled the item itself, and its caller does not wait for the deadline."""

    async def execute(tool: str) -> str:
        helper = asyncio.get_running_loop().create_future()
        helper.cancel()
        await helper
        return tool

    async with calling(Tools(execute), single_address=single_address) as calls:
        with pytest.raises(Internal):
            await asyncio.wait_for(calls.call(call_item("one")), 60)


async def test_an_answer_that_is_too_large_takes_nobody_along(single_address: bool) -> None:
    """It is answered with TooLarge, and its stream goes on."""
    go_on = asyncio.Event()

    async def execute(tool: str) -> str:
        if tool == "large":
            return "x" * 9_000_000
        await go_on.wait()
        return tool

    async with calling(Tools(execute), single_address=single_address) as calls:
        small, large = (
            asyncio.ensure_future(calls.call(call_item(tool))) for tool in ("small", "large")
        )
        with pytest.raises(TooLarge, match=r"^An answer of 90000\d\d bytes is over the limit"):
            await large
        go_on.set()
        assert (await small).result.text == "small"


async def test_a_peer_that_does_not_answer_in_time_fails_the_batch(single_address: bool) -> None:
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

    async with calling(Tools(execute), timeout_seconds=0.5, single_address=single_address) as calls:
        with pytest.raises(DeadlineExceeded) as caught:
            await calls.call(call_item("one"))
        assert caught.value.message == "tool did not answer within 0.5 seconds."
        assert caught.value.metadata == {"limit": "call", "dependency": "tool"}
        # A busy machine may not have begun with it.
        await eventually(lambda: stopped.is_set() or not running.is_set())


async def test_a_large_item_that_is_refused_takes_nobody_along(single_address: bool) -> None:
    """It travels on a stream of its own, which ends with TooLarge; others are answered."""
    go_on = asyncio.Event()

    async def execute(tool: str) -> str:
        await go_on.wait()
        return tool

    async with calling(Tools(execute), max_items=1, single_address=single_address) as calls:
        small = asyncio.ensure_future(calls.call(call_item("small")))
        with pytest.raises(TooLarge):
            await calls.call(call_item("large", argument="x" * 9_000_000))
        go_on.set()
        assert (await small).result.text == "small"


async def test_more_than_a_stream_may_hold_is_refused(single_address: bool) -> None:
    """An item beyond the bound is answered with QueueFull, the others in their time."""
    go_on = asyncio.Event()

    async def execute(tool: str) -> str:
        await go_on.wait()
        return tool

    async with calling(Tools(execute, max_unanswered=2), single_address=single_address) as calls:
        items = [asyncio.ensure_future(calls.call(call_item(f"t{number}"))) for number in range(3)]
        with pytest.raises(QueueFull, match="2 calls wait for an answer already"):
            await items[2]
        go_on.set()
        assert [(await each).result.text for each in items[:2]] == ["t0", "t1"]
