"""Where somebody waits, the quicker of two answers counts, for a small share of the calls."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.common.v1 import tier_pb2
from meshkit.clock import SystemClock
from meshkit.errors import BudgetExhausted, ProviderFailed
from meshtest.eventually import eventually
from services.reasoning.extra_calls import ExtraCalls
from services.reasoning.fixture_reasoning import reasoning_bench
from services.reasoning.generation import Generation, ModelCall
from services.reasoning.hedged_model import HedgedModel
from services.reasoning.latency_quantile import LatencyQuantile
from services.reasoning.provider_failures import Failure
from services.reasoning.scripted_generator import (
    TEXT,
    ScriptedGenerator,
    answer,
    call_of,
    failing,
    spec,
    until_broken,
)
from services.reasoning.scripted_provider import PAID

_WARM_UP: Final = 20
_CALL: Final = call_of(spec("large"), key="t/1/1", lane=tier_pb2.LANE_INTERACTIVE)


def _hedged(
    inner: ScriptedGenerator,
    *,
    percent: float = 5,
    most: float = 2,
    hedges: Callable[[str], bool] = lambda _: True,
) -> HedgedModel:
    extra = ExtraCalls(percent, most=most)
    return HedgedModel(
        inner,
        hedges=hedges,
        extra=lambda _: extra,
        quantile=lambda: LatencyQuantile(0.95, warm_up=_WARM_UP),
        clock=SystemClock(),
    )


def _slow(is_slow: Callable[[ModelCall], bool]) -> Callable[[ModelCall], Awaitable[None]]:
    async def script(call: ModelCall) -> None:
        if is_slow(call):
            await asyncio.Event().wait()

    return script


async def _warmed(hedged: HedgedModel) -> None:
    for _ in range(_WARM_UP):
        await hedged.generate(_CALL)
        async for _ in hedged.stream(_CALL):
            pass


async def test_a_second_call_answers_where_the_first_takes_unusually_long() -> None:
    """It is one nobody needs, under a key of its own; the first is broken off."""
    inner = ScriptedGenerator()
    hedged = _hedged(inner)
    await _warmed(hedged)
    inner.calls.clear()
    inner.script = _slow(lambda call: not call.spare)
    generation = await asyncio.wait_for(hedged.generate(_CALL), 60)
    first, second = inner.calls
    assert first is _CALL
    assert second == replace(_CALL, spare=True, spending=replace(_CALL.spending, key="t/1/1#hedge"))
    assert generation == answer(second)
    assert generation.degradations == ()
    await eventually(lambda: inner.left == [first])


async def test_a_stream_is_the_one_whose_first_piece_is_there_first() -> None:
    """Its pieces come whole and in order; the other one is broken off."""
    inner = ScriptedGenerator()
    hedged = _hedged(inner)
    await _warmed(hedged)
    inner.calls.clear()
    inner.script = _slow(lambda call: not call.spare)
    updates = [update async for update in hedged.stream(_CALL)]
    first, second = inner.calls
    assert updates == [*TEXT.split(" "), answer(second)]
    await eventually(lambda: inner.left == [first])


async def test_where_the_first_call_wins_the_second_is_broken_off() -> None:
    """Whoever answers first."""
    inner, go_on = ScriptedGenerator(), asyncio.Event()
    hedged = _hedged(inner)
    await _warmed(hedged)
    inner.calls.clear()

    async def script(call: ModelCall) -> None:
        await (asyncio.Event() if call.spare else go_on).wait()

    inner.script = script
    answering = asyncio.ensure_future(hedged.generate(_CALL))
    await eventually(lambda: len(inner.calls) == 2)
    go_on.set()
    assert await answering == answer(_CALL)
    await eventually(lambda: inner.left == [inner.calls[1]])


@pytest.mark.parametrize(
    ("hedged_fails", "error"),
    [(True, BudgetExhausted("Spent.")), (False, failing(Failure.SERVER_ERROR))],
)
async def test_one_that_fails_leaves_it_to_the_other(hedged_fails: bool, error: Exception) -> None:
    """A second call that no budget has room for harms nobody."""
    inner, go_on = ScriptedGenerator(), asyncio.Event()
    hedged = _hedged(inner)
    await _warmed(hedged)
    inner.calls.clear()
    failed = False

    async def script(call: ModelCall) -> None:
        nonlocal failed
        if call.spare is hedged_fails:
            await eventually(lambda: sum(each.spare for each in inner.calls) == 2)
            failed = True
            raise error
        await go_on.wait()

    inner.script = script
    answering = asyncio.ensure_future(hedged.generate(_CALL))
    streaming = asyncio.ensure_future(until_broken(hedged.stream(_CALL)))
    await eventually(lambda: failed)
    go_on.set()
    assert (await answering).completion == answer(_CALL).completion
    assert (await streaming)[0][:-1] == TEXT.split(" ")


async def test_where_both_fail_the_first_ones_error_is_the_callers() -> None:
    """As if there had been no second."""
    inner = ScriptedGenerator()
    hedged = _hedged(inner)
    await _warmed(hedged)
    inner.calls.clear()

    async def script(call: ModelCall) -> None:
        await eventually(lambda: len(inner.calls) == 2)
        raise BudgetExhausted("Spent.") if call.spare else failing(Failure.TIMEOUT)

    inner.script = script
    with pytest.raises(ProviderFailed):
        await hedged.generate(_CALL)
    inner.calls.clear()
    seen, error = await until_broken(hedged.stream(_CALL))
    assert (seen, type(error)) == ([], ProviderFailed)


async def test_at_most_a_share_of_the_calls_is_made_twice() -> None:
    """Two are saved up, then one in twenty."""
    inner = ScriptedGenerator()
    hedged = _hedged(inner)
    await _warmed(hedged)
    inner.calls.clear()

    go_on = asyncio.Event()

    def spares() -> int:
        return sum(call.spare for call in inner.calls)

    async def slow(call: ModelCall) -> None:
        await go_on.wait()

    inner.script = slow
    calls = [asyncio.ensure_future(hedged.generate(_CALL)) for _ in range(200)]
    await eventually(lambda: spares() >= 2)
    go_on.set()
    await asyncio.gather(*calls)
    spare = spares()
    assert 2 <= spare <= 2 + 200 * 0.05
    assert len(inner.calls) == 200 + spare


@pytest.mark.parametrize(
    "call",
    [
        call_of(spec("large"), lane=tier_pb2.LANE_BATCH),
        call_of(spec("large"), lane=tier_pb2.LANE_STANDARD),
        call_of(spec("large")),
        call_of(spec("new"), lane=tier_pb2.LANE_INTERACTIVE),
    ],
    ids=["batch", "standard", "no lane", "a model of which too little is known"],
)
async def test_no_other_call_is_made_twice(call: ModelCall) -> None:
    """However long it takes."""
    inner = ScriptedGenerator()
    hedged = _hedged(inner)
    await _warmed(hedged)
    inner.calls.clear()

    async def slow(call: ModelCall) -> None:
        await asyncio.sleep(0.02)

    inner.script = slow
    await hedged.generate(call)
    assert [update async for update in hedged.stream(call)][-1] == answer(call)
    assert inner.calls == [call, call]


async def test_an_endpoint_in_trouble_is_not_asked_twice() -> None:
    """Where its breaker is open, or it has no rates left."""
    inner, well = ScriptedGenerator(), True
    hedged = _hedged(inner, hedges=lambda _: well)
    await _warmed(hedged)
    inner.calls.clear()
    well = False

    async def slow(call: ModelCall) -> None:
        await asyncio.sleep(0.02)

    inner.script = slow
    await hedged.generate(_CALL)
    assert inner.calls == [_CALL]


async def test_a_caller_that_leaves_breaks_both_off() -> None:
    """Nothing goes on that nobody waits for."""
    inner = ScriptedGenerator()
    hedged = _hedged(inner)
    await _warmed(hedged)
    inner.calls.clear()
    inner.script = _slow(lambda _: True)
    answering = asyncio.ensure_future(hedged.generate(_CALL))
    streaming = asyncio.ensure_future(until_broken(hedged.stream(_CALL)))
    await eventually(lambda: len(inner.calls) == 4)
    answering.cancel()
    streaming.cancel()
    await eventually(lambda: len(inner.left) == 4)
    await hedged.close()


async def test_a_caller_may_leave_when_the_first_stream_has_failed() -> None:
    """The second, for which it waited, is broken off; nothing else fails by that."""
    inner, asked_again = ScriptedGenerator(), asyncio.Event()
    hedged = _hedged(inner)
    await _warmed(hedged)
    inner.calls.clear()
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    failed = asyncio.Event()

    async def script(call: ModelCall) -> None:
        if call.spare:
            asked_again.set()
            await asyncio.Event().wait()
        await asked_again.wait()
        failed.set()
        raise failing(Failure.OVERLOADED)

    inner.script = script
    streaming = asyncio.ensure_future(until_broken(hedged.stream(_CALL)))
    await failed.wait()
    await asyncio.sleep(0)
    streaming.cancel()
    await eventually(lambda: len(inner.left) == 1)
    await hedged.close()
    assert faults == []


async def test_pieces_wait_for_a_slow_reader() -> None:
    """A stream is not read further than a little ahead."""
    inner = ScriptedGenerator()
    hedged = _hedged(inner)
    await _warmed(hedged)
    seen: list[str | Generation] = []
    async for update in hedged.stream(_CALL):
        await asyncio.sleep(0)
        seen.append(update)
    assert seen == [*TEXT.split(" "), answer(_CALL)]


@given(st.integers(0, 2**32), st.floats(0.001, 10.0))
def test_the_quantile_is_exact_within_a_twentieth(seed: int, scale: float) -> None:
    """Of a thousand calls, whatever they look like."""
    source = random.Random(seed)
    quantile, seen = LatencyQuantile(0.95, warm_up=10), list[float]()
    for _ in range(1024):
        seconds = source.expovariate(1 / scale)
        quantile.record(seconds)
        seen.append(max(seconds, 0.0001))
    seen.sort()
    found = quantile.seconds
    assert found is not None
    assert seen[int(len(seen) * 0.95) - 2] / 1.06 <= found <= seen[int(len(seen) * 0.95) + 2] * 1.06


def test_old_calls_are_forgotten() -> None:
    """After some thousand calls that are ten times as quick, these alone count."""
    quantile = LatencyQuantile(0.95, warm_up=10)
    assert quantile.seconds is None
    for _ in range(4_000):
        quantile.record(1.0)
    assert quantile.seconds == pytest.approx(1.0, rel=0.05)
    for _ in range(40_000):
        quantile.record(0.1)
    assert quantile.seconds == pytest.approx(0.1, rel=0.05)
    quantile.record(0.0)
    quantile.record(1e9)


async def test_each_of_the_two_is_admitted_and_settled_by_itself() -> None:
    """Also where both are paid in the end: two calls are two charges."""
    quantile = LatencyQuantile(0.95, warm_up=1)
    quantile.record(0.001)
    async with reasoning_bench() as bench:
        hedged = HedgedModel(
            bench.generator,
            hedges=lambda _: True,
            extra=lambda _: ExtraCalls(5, most=2),
            quantile=lambda: quantile,
            clock=SystemClock(),
        )
        bench.provider.go_on.clear()
        call = call_of(PAID, tenant="default", key="t/1/1", lane=tier_pb2.LANE_INTERACTIVE)
        answering = asyncio.ensure_future(hedged.generate(call))
        await eventually(lambda: bench.provider.waiting == 2)
        bench.provider.go_on.set()
        assert (await answering).cost_micros > 0
        await hedged.close()

        keys = {"t/1/1", "t/1/1#hedge"}
        assert {each.key for each in bench.governor.admitted} == keys

        async def settled() -> bool:
            await bench.clock.advance(0.1)
            # One that was broken off while it was settled is settled again, which is the same.
            return {each.key for each in bench.governor.settled} == keys

        assert await eventually(settled)
