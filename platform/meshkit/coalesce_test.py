"""Tests of calls that travel together."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkit import deadline, identity, urgency
from meshkit.coalesce import Coalescer
from meshkit.errors import Conflict, Internal, MeshError, QueueFull, ShuttingDown
from meshkit.identity import Identity
from meshtest.eventually import eventually

_Items = Sequence[tuple[int, int]]
_Answers = AsyncIterator[tuple[int, int | MeshError]]


class _Peer:
    """Answers each number with its double, when it is let."""

    def __init__(self, *, open_: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        if open_:
            self.gate.set()

    async def send(self, items: _Items) -> _Answers:
        self.batches.append([item for _, item in items])
        await self.gate.wait()
        for number, item in items:
            yield number, item * 2


async def test_a_single_call_goes_at_once() -> None:
    """With nothing on its way, a call travels alone and right away."""
    peer = _Peer(open_=True)
    assert await Coalescer(peer.send).call(21) == 42
    assert peer.batches == [[21]]


async def test_calls_of_one_moment_go_together() -> None:
    """Calls made in the same turn of the loop travel in one batch."""
    peer = _Peer(open_=True)
    coalescer = Coalescer(peer.send)
    assert await asyncio.gather(*(coalescer.call(each) for each in range(5))) == [0, 2, 4, 6, 8]
    assert peer.batches == [[0, 1, 2, 3, 4]]


async def test_calls_wait_for_each_other_while_batches_are_out() -> None:
    """What comes while the batches are on their way goes together in the next."""
    peer = _Peer()
    coalescer = Coalescer(peer.send, max_in_flight=1, release_seconds=60)
    first = asyncio.ensure_future(coalescer.call(0))
    await eventually(lambda: peer.batches == [[0]])
    others = [asyncio.ensure_future(coalescer.call(each)) for each in range(1, 6)]
    await asyncio.sleep(0)
    assert peer.batches == [[0]]
    peer.gate.set()
    assert await asyncio.gather(first, *others) == [0, 2, 4, 6, 8, 10]
    assert peer.batches == [[0], [1, 2, 3, 4, 5]]


async def test_urgent_calls_travel_apart_from_others() -> None:
    """And say so; of those that wait each kind has its turn."""
    peer = _Peer(open_=True)
    said: list[tuple[bool, list[int]]] = []

    async def send(items: _Items) -> _Answers:
        said.append((urgency.is_urgent(), [item for _, item in items]))
        async for each in peer.send(items):
            yield each

    coalescer = Coalescer(send, max_in_flight=1, max_items=2)

    async def call(item: int, *, urgent: bool) -> int:
        with urgency.use(urgent):
            return await coalescer.call(item)

    calls = [call(each, urgent=each < 4) for each in range(8)]
    assert await asyncio.gather(*calls) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert said == [(True, [0, 1]), (False, [4, 5]), (True, [2, 3]), (False, [6, 7])]


async def test_slow_answers_hold_nobody_up() -> None:
    """A batch that takes long stops counting, so that later calls still go."""
    peer = _Peer()
    coalescer = Coalescer(peer.send, max_in_flight=1)
    calls = [asyncio.ensure_future(coalescer.call(0))]
    await eventually(lambda: len(peer.batches) == 1)
    calls.append(asyncio.ensure_future(coalescer.call(1)))
    await eventually(lambda: len(peer.batches) == 2)
    peer.gate.set()
    assert await asyncio.gather(*calls) == [0, 2]


async def test_a_cancelled_caller_is_not_sent() -> None:
    """A call that is cancelled while it waits never leaves."""
    peer = _Peer()
    coalescer = Coalescer(peer.send, max_in_flight=1, release_seconds=60)
    first = asyncio.ensure_future(coalescer.call(0))
    await eventually(lambda: peer.batches)
    gone = asyncio.ensure_future(coalescer.call(1))
    stays = asyncio.ensure_future(coalescer.call(2))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    peer.gate.set()
    assert await asyncio.gather(first, stays) == [0, 4]
    assert peer.batches == [[0], [2]]


async def test_an_item_on_its_way_is_withdrawn_when_its_caller_is_cancelled() -> None:
    """It alone, by its number; what is answered or not sent yet is not."""
    withdrawn: list[int] = []
    reached = asyncio.Event()
    end = asyncio.Event()

    async def send(items: _Items) -> _Answers:
        yield items[0][0], 0
        reached.set()
        await end.wait()

    coalescer = Coalescer[int, int](send, withdraw=withdrawn.append, max_in_flight=1)
    callers = [asyncio.ensure_future(coalescer.call(each)) for each in range(3)]
    await reached.wait()
    for caller in reversed(callers):
        caller.cancel()
    await asyncio.wait(callers)
    assert callers[0].result() == 0
    assert withdrawn == [2, 1]
    end.set()
    await coalescer.close()


async def test_who_calls_a_slow_peer_waits_for_little_company() -> None:
    """After a batch whose answer took long, the next ones are released ten times as soon.

    Six, for which five fifths of a second were to be waited, are on their way before three of
    another, whose peer is quick and which wait for two times two fifths.
    """
    peer, quick_peer = _Peer(), _Peer()
    coalescer = Coalescer(peer.send, max_in_flight=1, release_seconds=0.2)
    other = Coalescer(quick_peer.send, max_in_flight=1, release_seconds=0.4)
    loop = asyncio.get_running_loop()
    began = loop.time()
    slow = await _next_batch(coalescer, peer)
    await eventually(lambda: loop.time() - began > 2)
    peer.gate.set()
    await slow
    peer.gate.clear()

    async def released(
        coalescer: Coalescer[int, int], peer: _Peer, count: int
    ) -> list[asyncio.Future[int]]:
        return [await _next_batch(coalescer, peer) for _ in range(count)]

    soon = asyncio.ensure_future(released(coalescer, peer, 6))
    later = asyncio.ensure_future(released(other, quick_peer, 3))
    await asyncio.wait((soon, later), return_when=asyncio.FIRST_COMPLETED)
    assert soon.done()
    assert not later.done()
    calls = [*await soon, *await later]
    peer.gate.set()
    quick_peer.gate.set()
    await asyncio.gather(*calls)


async def _next_batch(coalescer: Coalescer[int, int], peer: _Peer) -> asyncio.Future[int]:
    """One more call, that has been sent."""
    batches = len(peer.batches)
    call = asyncio.ensure_future(coalescer.call(0))
    await eventually(lambda: len(peer.batches) > batches)
    return call


async def test_too_many_waiting_calls_are_refused() -> None:
    """Beyond the bound a call raises QueueFull instead of waiting."""
    peer = _Peer()
    coalescer = Coalescer(peer.send, max_waiting=2)
    calls = [asyncio.ensure_future(coalescer.call(each)) for each in range(2)]
    await eventually(lambda: peer.batches)
    with pytest.raises(QueueFull, match=r"^2 calls wait for an answer already"):
        await coalescer.call(3)
    peer.gate.set()
    await asyncio.gather(*calls)
    assert await coalescer.call(4) == 8


async def test_each_item_fails_by_itself() -> None:
    """An error that answers one item is raised to its caller alone."""

    async def send(items: _Items) -> _Answers:
        for number, item in items:
            yield number, Conflict("taken") if item == 1 else item

    coalescer = Coalescer[int, int](send)
    outcomes = await asyncio.gather(
        *(coalescer.call(each) for each in range(3)), return_exceptions=True
    )
    assert (outcomes[0], outcomes[2]) == (0, 2)
    assert isinstance(outcomes[1], Conflict)


async def test_a_broken_batch_fails_who_was_not_answered() -> None:
    """What was answered before the break stands; the rest get the error."""

    async def send(items: _Items) -> _Answers:
        yield items[0]
        raise Conflict("broke")

    coalescer = Coalescer[int, int](send)
    outcomes = await asyncio.gather(
        *(coalescer.call(each) for each in range(2)), return_exceptions=True
    )
    assert outcomes[0] == 0
    assert isinstance(outcomes[1], Conflict)


async def test_a_batch_that_forgets_an_item_is_a_fault() -> None:
    """An item that is never answered raises Internal, not silence."""

    async def send(items: _Items) -> _Answers:
        for each in items[1:]:
            yield each

    with pytest.raises(Internal, match="ended without this answer"):
        await Coalescer[int, int](send).call(1)


async def test_a_batch_has_nobodys_identity_and_deadline() -> None:
    """The batch acts for no tenant and has no caller's deadline."""
    seen: list[tuple[Identity, float | None]] = []

    async def send(items: _Items) -> _Answers:
        seen.append((identity.current(), deadline.remaining_seconds()))
        for each in items:
            yield each

    with identity.use(Identity("ada", "user:1")), deadline.limit(5):
        await Coalescer[int, int](send).call(1)
    assert seen == [(identity.BATCH, None)]


async def test_closing_answers_everybody() -> None:
    """On close, batches that are out are waited for, and waiting calls are refused."""
    peer = _Peer()
    coalescer = Coalescer(peer.send, max_in_flight=1, release_seconds=60)
    out = asyncio.ensure_future(coalescer.call(0))
    await eventually(lambda: peer.batches)
    waiting = asyncio.ensure_future(coalescer.call(1))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(coalescer.close())
    with pytest.raises(ShuttingDown):
        await waiting
    peer.gate.set()
    await closing
    assert await out == 0
    with pytest.raises(ShuttingDown):
        await coalescer.call(2)


@settings(max_examples=60, deadline=None)
@given(
    calls=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    cancelled=st.sets(st.integers(0, 59)),
    max_items=st.integers(1, 8),
    max_in_flight=st.integers(1, 3),
)
def test_every_call_gets_its_own_answer_once(
    calls: list[int], cancelled: set[int], max_items: int, max_in_flight: int
) -> None:
    """However calls and cancellations fall, each call gets its answer and no batch is too large."""

    async def run() -> None:
        largest = 0
        sent: list[int] = []

        async def send(items: _Items) -> _Answers:
            nonlocal largest
            largest = max(largest, len(items))
            sent.extend(item for _, item in items)
            for number, item in reversed(items):
                await asyncio.sleep(0)
                yield number, item * 2

        coalescer = Coalescer[int, int](send, max_items=max_items, max_in_flight=max_in_flight)
        tasks: list[asyncio.Task[int]] = []
        for number, turns in enumerate(calls):
            for _ in range(turns):
                await asyncio.sleep(0)
            tasks.append(asyncio.create_task(coalescer.call(number)))
            if number in cancelled:
                tasks[number // 2].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await coalescer.close()
        for number, outcome in enumerate(outcomes):
            assert outcome == number * 2 or isinstance(outcome, asyncio.CancelledError)
        assert largest <= max_items
        assert len(sent) == len(set(sent))

    asyncio.run(run())
