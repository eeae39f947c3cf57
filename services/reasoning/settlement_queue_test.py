"""What must be settled is settled, however long it takes."""

import asyncio
import io
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from meshkit import log
from meshkit.errors import (
    AlreadySettled,
    DependencyUnavailable,
    Internal,
    InvalidField,
    MeshError,
)
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from services.reasoning.generation import Spending
from services.reasoning.governor import Admission, Settlement, Verdict
from services.reasoning.scripted_settlement_store import ScriptedSettlementStore
from services.reasoning.settlement_queue import Item, SettlementQueue

_TOGETHER_SECONDS = 0.1


class _Governor:
    """Settles, unless it is told to fail."""

    def __init__(self) -> None:
        # What becomes of the next items.
        self.failures: list[MeshError | None] = []
        # The next batches fail with these, after all in them is settled.
        self.lost: list[MeshError] = []
        self.batches: list[int] = []
        self.done: list[Item] = []
        self.hold: asyncio.Event | None = None

    async def admit(self, admission: Admission) -> Verdict:
        raise NotImplementedError  # a queue never asks

    async def settle(self, settlement: Settlement) -> int:
        raise NotImplementedError  # a queue settles in batches

    async def settle_all(self, settlements: Sequence[Settlement]) -> Sequence[MeshError | None]:
        self.batches.append(len(settlements))
        if self.hold is not None:
            await self.hold.wait()
        outcomes: list[MeshError | None] = []
        for each in settlements:
            failure = self.failures.pop(0) if self.failures else None
            outcomes.append(failure)
            if failure is None:
                self.done.append(each)
        if self.lost:
            raise self.lost.pop(0)
        return outcomes

    async def release(self, spending: Spending) -> None:
        self.done.append(spending)


class _Listener:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.settlements: list[Settlement] = []
        self.refusals: list[Settlement] = []

    def settled(self, settlement: Settlement) -> None:
        self.settlements.append(settlement)

    def refused(self, settlement: Settlement) -> None:
        self.refusals.append(settlement)


class _Bench:
    """A queue, and everything around it."""

    def __init__(self, clock: FakeClock, store: ScriptedSettlementStore | None = None) -> None:
        self.clock = clock
        self.governor = _Governor()
        self.store = store or ScriptedSettlementStore()
        self.listener = _Listener()
        self.output = io.StringIO()
        self.queue = SettlementQueue(
            self.governor,
            self.store,
            self.listener,
            clock=clock,
            log=log.get("test", stream=self.output),
            size=3,
            together_seconds=_TOGETHER_SECONDS,
            drain_seconds=0.05,
        )

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[None]:
        """The time in which the queue is worked off; afterwards it drains."""
        working = asyncio.create_task(self.queue.run())
        yield
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working

    async def let_pass(self, seconds: float) -> None:
        """Time, once somebody waits for it."""
        await eventually(lambda: self.clock.sleeping == 1)
        await self.clock.advance(seconds)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def bench(clock: FakeClock) -> _Bench:
    return _Bench(clock)


def _settlement(key: str) -> Settlement:
    return Settlement(Spending("acme", "user:ada", key), "offline", 1, 1, call_time_ms=1000)


async def test_what_comes_within_a_moment_goes_together(bench: _Bench) -> None:
    """Nothing is sent before that, and then all of it in one batch."""
    async with bench.working():
        bench.queue.settle(_settlement("a"))
        bench.queue.settle(_settlement("b"))
        await eventually(lambda: bench.clock.sleeping == 1)
        assert bench.governor.batches == []
        await bench.clock.advance(_TOGETHER_SECONDS)
        await eventually(lambda: len(bench.governor.done) == 2)
    assert bench.governor.batches == [2]
    assert bench.listener.settlements == [_settlement("a"), _settlement("b")]


async def test_what_comes_while_a_batch_is_on_its_way_waits_for_company(bench: _Bench) -> None:
    """A busy process sends many in one message, and not one in each of many."""
    bench.governor.hold = asyncio.Event()
    async with bench.working():
        bench.queue.settle(_settlement("a"))
        await bench.let_pass(_TOGETHER_SECONDS)
        await eventually(lambda: bench.governor.batches == [1])
        bench.queue.settle(_settlement("b"))
        bench.governor.hold.set()
        await eventually(lambda: bench.clock.sleeping == 1)
        bench.queue.settle(_settlement("c"))
        assert bench.governor.batches == [1]
        await bench.clock.advance(_TOGETHER_SECONDS)
        await eventually(lambda: len(bench.governor.done) == 3)
    assert bench.governor.batches == [1, 2]
    await eventually(lambda: not bench.store.kept)


async def test_a_batch_holds_as_many_as_the_governor_takes(bench: _Bench) -> None:
    """300 make one of 256 and one of the rest, in their order."""
    settlements = [_settlement(str(number)) for number in range(300)]
    async with bench.working():
        for each in settlements:
            bench.queue.settle(each)
        await bench.let_pass(_TOGETHER_SECONDS)
        await eventually(lambda: len(bench.governor.done) == 300)
    assert bench.governor.batches == [256, 44]
    assert bench.governor.done == settlements


@pytest.mark.parametrize("failure", [DependencyUnavailable("Away."), Internal("A fault.")])
async def test_it_tries_again_until_it_succeeds(bench: _Bench, failure: MeshError) -> None:
    """Waits grow while the governor is away or broken; nothing is lost."""
    bench.governor.failures = [failure, failure]
    async with bench.working():
        bench.queue.settle(_settlement("a"))
        for wait in (_TOGETHER_SECONDS, 0.1, 0.2):
            assert bench.governor.done == []
            await bench.let_pass(wait)
        await eventually(lambda: bench.governor.done == [_settlement("a")])
    assert bench.governor.done == [_settlement("a")]


async def test_a_batch_whose_answer_is_lost_is_sent_again(bench: _Bench) -> None:
    """Nobody knows what became of it; settling twice charges once."""
    bench.governor.lost = [DependencyUnavailable("Away.")]
    async with bench.working():
        bench.queue.settle(_settlement("a"))
        await bench.let_pass(_TOGETHER_SECONDS)
        await eventually(lambda: len(bench.governor.done) == 1)
        assert bench.listener.settlements == []
        assert bench.store.kept == [_settlement("a")]
        await bench.let_pass(0.1)
        await eventually(lambda: bench.store.kept == [])
    assert bench.governor.done == [_settlement("a")] * 2
    assert bench.listener.settlements == [_settlement("a")]


async def test_what_fails_every_time_keeps_none_waiting(bench: _Bench) -> None:
    """The others of its batch are done, and what comes after it does not wait for its turn."""
    bench.governor.failures = [Internal("A fault.")] * 2
    async with bench.working():
        bench.queue.settle(_settlement("a"))
        await bench.let_pass(_TOGETHER_SECONDS)
        bench.queue.settle(_settlement("b"))
        await bench.let_pass(0.1)
        await eventually(lambda: len(bench.governor.done) == 2)
    assert bench.governor.done == [_settlement("b"), _settlement("a")]
    assert bench.governor.batches == [1, 2, 1]


async def test_what_the_governor_refuses_is_logged_and_left(bench: _Bench) -> None:
    """Trying again would not help: it is kept for somebody to look at, with the reason."""
    refusal = InvalidField("key", "must be shorter")
    bench.governor.failures = [refusal]
    async with bench.working():
        bench.queue.settle(_settlement("a"))
        bench.queue.settle(_settlement("b"))
        await bench.let_pass(_TOGETHER_SECONDS)
        await eventually(lambda: bench.governor.done == [_settlement("b")])
    assert bench.listener.refusals == [_settlement("a")]
    assert bench.store.refusals == [(_settlement("a"), refusal)]
    assert '"tenant":"acme","key":"a","reason":"INVALID_FIELD"' in bench.output.getvalue()


async def test_a_call_whose_key_another_process_settled_is_charged_besides(bench: _Bench) -> None:
    """It was paid as well: it is settled under a key of its own, the same at every attempt."""
    bench.governor.failures = [AlreadySettled("Settled with other figures."), Internal("A fault.")]
    async with bench.working():
        bench.queue.settle(_settlement("k" * 200))
        for wait in (_TOGETHER_SECONDS, 0.1, 0.2):
            await bench.let_pass(wait)
        (besides,) = await eventually(lambda: bench.governor.done)
    assert isinstance(besides, Settlement)
    key = besides.spending.key
    assert key.startswith("k" * 173 + "#")
    assert len(key) == 200
    assert replace(besides, spending=replace(besides.spending, key="k" * 200)) == _settlement(
        "k" * 200
    )


async def test_a_key_that_ends_with_a_model_is_not_one_of_its_own(bench: _Bench) -> None:
    """However long the model's name is: what another process settled is charged besides."""
    bench.governor.failures = [AlreadySettled("Settled with other figures.")]
    async with bench.working():
        bench.queue.settle(_settlement("t/1/1#claude-3-5-sonnet-20241022"))
        await bench.let_pass(_TOGETHER_SECONDS)
        await bench.let_pass(0.1)
        (besides,) = await eventually(lambda: bench.governor.done)
    assert isinstance(besides, Settlement)
    assert besides.spending.key.startswith("t/1/1#claude-3-5-sonnet-20241022#")


async def test_a_key_of_its_own_that_is_settled_otherwise_is_refused(bench: _Bench) -> None:
    """There is an end to it."""
    bench.governor.failures = [AlreadySettled("Settled with other figures.")] * 2
    async with bench.working():
        bench.queue.settle(_settlement("k"))
        await bench.let_pass(_TOGETHER_SECONDS)
        await bench.let_pass(0.1)
        await eventually(lambda: len(bench.listener.refusals) == 1)
    assert bench.governor.done == []


async def test_a_call_whose_prices_the_governor_does_not_know_is_charged_by_the_present(
    bench: _Bench,
) -> None:
    """The version went out of its book while the settlement waited; the model was paid."""
    bench.governor.failures = [InvalidField("price_version", "there is no version '1'")]
    async with bench.working():
        bench.queue.settle(replace(_settlement("a"), price_version="1"))
        await bench.let_pass(_TOGETHER_SECONDS)
        await bench.let_pass(0.1)
        await eventually(lambda: bench.governor.done)
    assert bench.governor.done == [_settlement("a")]
    assert bench.listener.refusals == []


async def test_the_end_of_the_process_waits_for_what_is_left(bench: _Bench) -> None:
    """Items that were never begun, and one in the middle of being sent, are all done."""
    bench.governor.hold = asyncio.Event()
    async with bench.working():
        bench.queue.settle(_settlement("a"))
        await bench.let_pass(_TOGETHER_SECONDS)
        await eventually(lambda: len(bench.governor.batches) == 1)
        bench.queue.release(Spending("acme", "user:ada", "b"))
        bench.governor.hold.set()
    assert sorted(map(repr, bench.governor.done)) == sorted(
        map(repr, [_settlement("a"), Spending("acme", "user:ada", "b")])
    )


async def test_what_cannot_be_drained_in_time_is_counted_in_the_log(bench: _Bench) -> None:
    """The process ends all the same."""
    bench.governor.hold = asyncio.Event()
    async with bench.working():
        bench.queue.settle(_settlement("a"))
        await eventually(lambda: bench.clock.sleeping == 1)
    assert "settlements.left" in bench.output.getvalue()
    assert '"count":1' in bench.output.getvalue()


async def test_it_is_full_at_its_size(bench: _Bench) -> None:
    """Who looks before beginning a call sees it; what was spent is taken all the same."""
    for key in "abc":
        assert not bench.queue.full
        bench.queue.settle(_settlement(key))
    assert bench.queue.full
    bench.queue.settle(_settlement("d"))


async def test_what_was_spent_is_kept_until_it_is_settled(bench: _Bench) -> None:
    """A process that dies while the governor is away leaves it to another one."""
    bench.governor.failures = [DependencyUnavailable("Away.")]
    async with bench.working():
        bench.queue.settle(_settlement("a"))
        await bench.let_pass(_TOGETHER_SECONDS)
        await eventually(lambda: bench.clock.sleeping == 1)
        assert bench.store.kept == [_settlement("a")]
        await bench.clock.advance(0.1)
        await eventually(lambda: bench.store.kept == [])
    assert bench.governor.done == [_settlement("a")]


async def test_what_somebody_settles_is_kept_meanwhile(bench: _Bench) -> None:
    """Among others that are settled here; it is forgotten when that is done, or has failed."""
    one, other = _settlement("one"), _settlement("other")
    with bench.queue.kept(one):
        assert bench.store.kept == [one]
        with suppress(Internal), bench.queue.kept(other):
            raise Internal("broken")
        async with bench.working():
            bench.queue.settle(other)
            await bench.let_pass(_TOGETHER_SECONDS)
            await eventually(lambda: bench.governor.done == [other])
        assert one in bench.store.kept
        bench.store.is_large = True
        with bench.queue.kept(other):
            pass
        assert bench.store.kept == [one]
    assert bench.store.kept == []


async def test_a_store_that_never_gets_empty_is_shortened(bench: _Bench) -> None:
    """To what is not settled yet."""
    bench.governor.failures = [Internal("A fault."), None, Internal("A fault.")]
    bench.store.is_large = True
    async with bench.working():
        bench.queue.settle(_settlement("a"))
        bench.queue.settle(_settlement("b"))
        await bench.let_pass(_TOGETHER_SECONDS)
        await eventually(lambda: bench.clock.sleeping == 1)
        assert not bench.store.is_large
        assert bench.store.kept == [_settlement("a")]


async def test_what_processes_left_is_settled_now_and_later(clock: FakeClock) -> None:
    """Nothing needs to happen for that, not even a start."""
    bench = _Bench(clock, ScriptedSettlementStore([_settlement("left")]))
    looking = asyncio.create_task(bench.queue.take_over())
    working = asyncio.create_task(bench.queue.run())
    await eventually(lambda: clock.sleeping == 2)
    await clock.advance(_TOGETHER_SECONDS)
    await eventually(lambda: bench.governor.done == [_settlement("left")])
    bench.store.left = [_settlement("later")]
    await clock.advance(30.0)
    await eventually(lambda: bench.governor.done == [_settlement("left"), _settlement("later")])
    await eventually(lambda: bench.store.kept == [])
    for each in (looking, working):
        each.cancel()
        with suppress(asyncio.CancelledError):
            await each


async def test_what_cannot_be_taken_over_is_tried_again(clock: FakeClock) -> None:
    """A disk that fails for a while ends nothing, and is told in the log."""
    bench = _Bench(clock, ScriptedSettlementStore([_settlement("left")]))
    bench.store.failure = OSError(5, "Input/output error")
    looking = asyncio.create_task(bench.queue.take_over())
    async with bench.working():
        await eventually(lambda: clock.sleeping == 2)
        await clock.advance(_TOGETHER_SECONDS)
        await eventually(lambda: bench.governor.done == [_settlement("left")])
        bench.store.left, bench.store.failure = [_settlement("later")], None
        await clock.advance(30.0)
        await eventually(lambda: len(bench.governor.done) == 2)
    looking.cancel()
    with suppress(asyncio.CancelledError):
        await looking
    assert bench.output.getvalue().count("settlements.untaken") == 1


async def test_what_cannot_be_kept_is_settled_all_the_same(clock: FakeClock) -> None:
    """A full disk is told in the log; only the death of the process would cost the charge."""

    class Full(ScriptedSettlementStore):
        def add(self, settlement: Settlement) -> None:
            raise OSError(28, "No space left on device")

    bench = _Bench(clock, Full())
    async with bench.working():
        bench.queue.settle(_settlement("a"))
        await bench.let_pass(_TOGETHER_SECONDS)
        await eventually(lambda: bench.governor.done == [_settlement("a")])
    assert "settlement.unkept" in bench.output.getvalue()
