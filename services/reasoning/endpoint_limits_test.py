"""What a provider allows is kept to by all processes together, on a real Redis."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

import pytest

from agentmesh.common.v1.conversation_pb2 import ROLE_USER, Message, Part
from meshkit import deadline, redis_store
from meshkit.clock import Clock, SystemClock
from meshkit.errors import RateLimited
from meshkit.redis_line import RedisLine
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from meshtest.redis_server import RedisServer
from services.reasoning.endpoint_limits import EndpointLimits
from services.reasoning.endpoint_rates import OwnRates, RateRules, Rates
from services.reasoning.endpoint_rates_redis import RedisRates
from services.reasoning.generation import ModelCall, Prompt, Spending
from services.reasoning.in_flight import InFlight
from services.reasoning.model import Tier
from services.reasoning.provider_failures import Failure, failure_of
from services.reasoning.rate_lease import RateLease
from services.reasoning.scripted_provider import PAID

pytest_plugins = ["meshtest.fixtures"]

_MESSAGE: Final = Message(role=ROLE_USER, parts=[Part(text="Hello")])
_CALL: Final = ModelCall(
    Prompt([_MESSAGE], (), max_output_tokens=90), PAID, Tier.BALANCED, Spending("acme", "user:a")
)


class _Slowed:
    slowed_seconds = 0.0


@pytest.fixture
async def line(redis_server: RedisServer) -> AsyncIterator[RedisLine]:
    redis = redis_store.connect(redis_server.url)
    async with RedisLine(redis) as made:
        yield made
    await redis.aclose()


def _limits(
    rates: Rates,
    rules: RateRules,
    *,
    places: int = 1000,
    patience_seconds: float = 0.0,
    slowed: _Slowed | None = None,
    clock: Clock | None = None,
) -> EndpointLimits:
    clock = clock or SystemClock()
    return EndpointLimits(
        PAID,
        RateLease("paid", rules, rates, clock),
        InFlight(places),
        slowed or _Slowed(),
        counts_tokens=rules.tokens_per_minute is not None,
        patience_seconds=patience_seconds,
        random=lambda: 0.5,
        clock=clock,
    )


async def _gone_out(limits: EndpointLimits, calls: int) -> int:
    """How many of so many calls at once may go out."""

    async def one() -> bool:
        try:
            tokens = await limits.enter(_CALL)
        except RateLimited:
            return False
        limits.leave(tokens, None)
        return True

    return sum(await asyncio.gather(*(one() for _ in range(calls))))


async def test_processes_share_the_requests_of_a_minute(line: RedisLine) -> None:
    """600 a minute: a hundred at once, ten a second after that, over however many processes."""
    rules = RateRules(requests_per_minute=600)
    processes = [_limits(RedisRates(line), rules) for _ in range(4)]
    begun = time.monotonic()
    out = 0
    for _ in range(10):
        out += sum(await asyncio.gather(*(_gone_out(each, 50) for each in processes)))
    passed = time.monotonic() - begun
    assert 90 <= out <= 100 + 10 * passed + 1
    for each in processes:
        await each.close()


async def test_tokens_count_as_they_are_expected_and_then_as_they_were(line: RedisLine) -> None:
    """A call takes what it may use; what it did not use the next one has."""
    rules = RateRules(tokens_per_minute=6_000)
    limits = _limits(RedisRates(line), rules)
    begun = time.monotonic()
    tokens = await limits.enter(_CALL)
    assert tokens == 90 + 3
    out = 1 + await _gone_out(limits, 50)
    assert 10 <= out <= 12 + 2 * (time.monotonic() - begun)

    async def until_refused() -> None:
        for _ in range(50):
            await limits.enter(_CALL)

    with pytest.raises(RateLimited) as caught:
        await until_refused()
    assert str(caught.value) == (
        "The model paid (scripted) has no requests or tokens of this minute left."
    )
    assert failure_of(caught.value) is Failure.RATE_LIMITED
    assert 0 < (caught.value.retry_after_seconds or 0) < 2
    limits.leave(tokens, (0, 0))
    assert await _gone_out(limits, 1) == 1
    await limits.close()


async def test_a_call_larger_than_a_burst_goes_out_and_the_next_ones_pay(line: RedisLine) -> None:
    """Otherwise it would never go out."""
    rules = RateRules(tokens_per_minute=6)
    first, second = (_limits(RedisRates(line), rules) for _ in range(2))
    assert await first.enter(_CALL) == 93
    with pytest.raises(RateLimited) as caught:
        await second.enter(_CALL)
    assert 800 < (caught.value.retry_after_seconds or 0) <= 930


async def test_a_busy_process_asks_redis_seldom(
    line: RedisLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds what it uses in half a second."""
    asked, ask = 0, line.ask

    async def counting(commands: object) -> object:
        nonlocal asked
        asked += 1
        return await ask(commands)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(line, "ask", counting)
    limits = _limits(RedisRates(line), RateRules(requests_per_minute=6_000_000))
    begun = time.monotonic()
    for _ in range(100):
        assert await _gone_out(limits, 100) == 100
        await asyncio.sleep(0)
    assert asked < 30 + 10 * (time.monotonic() - begun)
    await limits.close()


async def test_a_call_waits_a_little_for_its_turn() -> None:
    """As long as it has patience, and not past its deadline."""
    clock = FakeClock()
    rules = RateRules(requests_per_minute=6)
    limits = _limits(OwnRates(clock), rules, patience_seconds=15.0, clock=clock)
    assert await _gone_out(limits, 1) == 1
    waiting = asyncio.ensure_future(limits.enter(_CALL))
    await eventually(lambda: clock.sleeping == 1)
    with deadline.limit(5.0), pytest.raises(RateLimited):
        await limits.enter(_CALL)
    await clock.advance(10.1)
    await asyncio.wait_for(waiting, 60)


async def test_without_redis_a_process_keeps_to_the_rates_by_itself(
    line: RedisLine, redis_server: RedisServer
) -> None:
    """It goes by the whole of them, and what the provider refuses still slows it down."""
    redis_server.kill()
    limits = _limits(RedisRates(line), RateRules(requests_per_minute=6))
    begun = time.monotonic()
    out = await _gone_out(limits, 50)
    assert 1 <= out <= 2 + (time.monotonic() - begun) / 10
    assert limits.refusal() is not None
    await limits.close()


async def test_no_more_calls_at_a_time_than_there_are_places() -> None:
    """As many wait in line, in order; the next one is refused at once."""
    clock = SystemClock()
    limits = EndpointLimits(
        PAID,
        None,
        InFlight(2),
        _Slowed(),
        counts_tokens=False,
        patience_seconds=5.0,
        random=lambda: 0.5,
        clock=clock,
    )
    held = [await limits.enter(_CALL) for _ in range(2)]
    third, fourth = (asyncio.ensure_future(limits.enter(_CALL)) for _ in range(2))
    await asyncio.sleep(0)
    with pytest.raises(RateLimited) as caught:
        await limits.enter(_CALL)
    assert str(caught.value) == "The model paid (scripted) has as many calls as it may."
    assert limits.refusal() is not None
    third.cancel()
    limits.leave(held[0], None)
    assert await asyncio.wait_for(fourth, 60) == 0
    assert third.cancelled()
    limits.leave(held[1], None)
    limits.leave(0, None)
    assert limits.refusal() is None


async def test_nobody_waits_in_line_for_longer_than_the_patience() -> None:
    """And who gives up leaves no place taken."""
    places = InFlight(1)
    assert await places.enter(1.0)
    assert not await places.enter(0.01)
    places.leave()
    assert await places.enter(0.01)


async def test_an_endpoint_that_asked_for_patience_gets_it() -> None:
    """Who has less is refused, with how long it takes; who has more comes a little after it."""
    clock, slowed = FakeClock(), _Slowed()
    rules = RateRules(requests_per_minute=600)
    limits = _limits(OwnRates(clock), rules, patience_seconds=2.0, slowed=slowed, clock=clock)
    slowed.slowed_seconds = 7.0
    with pytest.raises(RateLimited) as caught:
        await limits.enter(_CALL)
    assert str(caught.value) == "The model paid (scripted) asked to be left alone for a while."
    assert caught.value.retry_after_seconds == 7.0
    slowed.slowed_seconds = 1.0
    waiting = asyncio.ensure_future(limits.enter(_CALL))
    await eventually(lambda: clock.sleeping == 1)
    await clock.advance(1.2)
    assert not waiting.done()
    await clock.advance(0.1)
    await asyncio.wait_for(waiting, 60)
