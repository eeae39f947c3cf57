"""A breaker opens, probes and closes for all processes at once, on a real Redis."""

import asyncio
import io
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import pytest

from meshkit import log, redis_store
from meshkit.clock import Clock, SystemClock
from meshkit.errors import BreakerOpen
from meshkit.ids import RandomIds
from meshkit.redis_line import Command, RedisLine
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from meshtest.redis_server import RedisServer
from services.reasoning.breaker import Breaker
from services.reasoning.endpoint_standing import BreakerRules
from services.reasoning.endpoint_standings_redis import RedisStandings

pytest_plugins = ["meshtest.fixtures"]

_RULES: Final = BreakerRules(
    least_failures=5, pause_seconds=0.2, longest_pause_seconds=30.0, probes=3, probe_seconds=60.0
)
Make = Callable[..., Breaker]


@pytest.fixture
async def line(redis_server: RedisServer) -> AsyncIterator[RedisLine]:
    redis = redis_store.connect(redis_server.url)
    async with RedisLine(redis) as made:
        yield made
    await redis.aclose()


@pytest.fixture
async def make(line: RedisLine) -> AsyncIterator[Make]:
    """Breakers of one endpoint, each as another process would have it."""
    made: list[Breaker] = []

    def breaker(
        rules: BreakerRules = _RULES,
        lines: io.StringIO | None = None,
        stretch: Callable[[], float] = lambda: 1.0,
        clock: Clock | None = None,
    ) -> Breaker:
        breaker = Breaker(
            "acme-large",
            rules,
            RedisStandings(line, rules, stretch),
            stretch=lambda: 1.0,
            clock=clock or SystemClock(),
            ids=RandomIds(),
            log=log.get("test", stream=lines or io.StringIO(), pretty=False),
        )
        made.append(breaker)
        return breaker

    yield breaker
    for each in made:
        await each.close()


async def _fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.failed(await breaker.enter())


async def _opened(breaker: Breaker, failures: int = 5) -> None:
    await _fail(breaker, failures)
    # Its pause may be over by the time that somebody looks.
    await eventually(lambda: breaker.state != "closed")


async def test_enough_failures_open_it_for_all_processes(make: Make) -> None:
    """Also those that each process saw only a part of; a process that comes later hears of it."""
    rules = replace(_RULES, pause_seconds=30.0)
    first, second, late = make(rules), make(rules), make(rules)
    await _fail(first, 3)
    await _fail(second, 2)
    await eventually(lambda: "open" in (first.state, second.state))
    with pytest.raises(BreakerOpen) as caught:
        await late.enter()
    assert str(caught.value) == "The model acme-large fails, and is left alone."
    assert caught.value.metadata == {"model": "acme-large"}
    assert 0 < (caught.value.retry_after_seconds or 0) <= 30


async def test_failures_that_are_a_small_share_of_the_calls_open_nothing(make: Make) -> None:
    """Five of a hundred are no reason to leave an endpoint alone."""
    first, second = make(), make()
    for _ in range(95):
        first.worked(await first.enter())
    await _fail(first, 5)
    await _fail(second, 1)
    # All is said when they are closed.
    await first.close()
    await second.close()
    assert (first.state, second.state) == ("closed", "closed")


async def test_while_closed_redis_is_not_asked_for_each_call(
    make: Make, line: RedisLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand calls in a moment cost a look or two."""
    breaker, asked, ask = make(clock=FakeClock()), 0, line.ask

    async def counting(commands: object) -> object:
        nonlocal asked
        asked += 1
        return await ask(commands)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(line, "ask", counting)
    for _ in range(10_000):
        breaker.worked(await breaker.enter())
    assert 1 <= asked <= 5


async def test_a_herd_of_a_thousand_sends_exactly_the_permitted_probes(make: Make) -> None:
    """Over four processes at once; the others are refused, and told when to come again."""
    herd = [make() for _ in range(4)]
    await _opened(herd[0])
    await eventually(lambda: herd[0].state == "half-open")
    entered = await asyncio.gather(
        *(herd[number % 4].enter() for number in range(1000)), return_exceptions=True
    )
    refused = [each for each in entered if isinstance(each, BreakerOpen)]
    assert (len(entered) - len(refused), len(refused)) == (3, 997)
    assert {str(each) for each in refused} <= {
        "The model acme-large failed, and is being tried again.",
        "The model acme-large fails, and is left alone.",
    }


@pytest.mark.parametrize("is_sent", [False, True])
async def test_a_process_that_stood_still_knows_no_less(
    make: Make, line: RedisLine, monkeypatch: pytest.MonkeyPatch, *, is_sent: bool
) -> None:
    """A pause of its own, longer than it waits for Redis, does not let everybody out."""
    first, late, ask = make(), make(), line.ask
    await _opened(first)
    await eventually(lambda: first.state == "half-open")
    pauses = [2.5]

    async def pausing(commands: Sequence[Command]) -> list[Any]:
        asking = asyncio.ensure_future(ask(commands))
        if is_sent:
            await asyncio.sleep(0)
        if pauses:
            time.sleep(pauses.pop())  # noqa: ASYNC251 - so that nothing runs meanwhile
        return await asking

    monkeypatch.setattr(line, "ask", pausing)
    entered = await asyncio.gather(*(late.enter() for _ in range(100)), return_exceptions=True)
    assert sum(isinstance(each, BreakerOpen) for each in entered) == 97


async def test_a_probe_that_worked_closes_it_for_all(make: Make) -> None:
    """One is enough; the log tells the whole story."""
    lines = io.StringIO()
    first, second = make(lines=lines), make()
    await _opened(first)
    await eventually(lambda: first.state == "half-open")
    first.worked(await first.enter())
    await eventually(lambda: first.state == "closed")

    async def passes() -> bool:
        return not (await second.enter()).probe

    assert await eventually(passes)
    told = [line.split('"event":"')[1].split('"')[0] for line in lines.getvalue().splitlines()]
    assert told == ["breaker.opened", "breaker.probing", "breaker.closed"]


async def test_a_probe_that_failed_opens_it_again_for_twice_as_long(make: Make) -> None:
    """And the other probes that were out say nothing any more."""
    stretch = 1.0
    breaker = make(stretch=lambda: stretch)
    await _opened(breaker)
    await eventually(lambda: breaker.state == "half-open")
    probes = [await breaker.enter() for _ in range(3)]
    # Of the next pause, whose 0.4 seconds could be over before anybody looks.
    stretch = 1_000.0
    breaker.failed(probes[0])
    await eventually(lambda: "is left alone" in str(breaker.refusal()))
    refusal = breaker.refusal()
    assert refusal is not None
    assert 300 < (refusal.retry_after_seconds or 0) <= 400
    for each in probes[1:]:
        breaker.worked(each)
    with pytest.raises(BreakerOpen):
        await breaker.enter()


async def test_probes_that_are_still_out_keep_their_places(make: Make) -> None:
    """However often it opens: at an endpoint that hangs, no more wait than are permitted."""
    lines = io.StringIO()
    first, second = make(lines=lines), make()
    await _opened(first)
    await eventually(lambda: first.state == "half-open")
    hanging = [await first.enter() for _ in range(3)]
    first.failed(hanging[0])
    await eventually(lambda: lines.getvalue().count("breaker.opened") == 2)

    async def lent() -> bool:
        try:
            return bool((await second.enter()).probe)
        except BreakerOpen:
            return False

    assert await eventually(lent)
    entered = await asyncio.gather(*(second.enter() for _ in range(10)), return_exceptions=True)
    assert {str(each) for each in entered} == {
        "The model acme-large failed, and is being tried again."
    }


async def test_a_probe_whose_process_died_is_lent_again(make: Make, line: RedisLine) -> None:
    """Once its time is over, and not before."""
    rules = replace(_RULES, probes=1, probe_seconds=60.0)
    dies, lives = make(rules), make(rules)
    await _opened(dies)
    await eventually(lambda: dies.state == "half-open")
    assert (await dies.enter()).probe
    with pytest.raises(BreakerOpen, match="is being tried again"):
        await lives.enter()
    key = "endpoint:{acme-large}:probes"
    ((probe,),) = await line.ask([("ZRANGE", key, 0, -1)])
    await line.ask([("ZINCRBY", key, -60_000, probe)])

    async def lent() -> bool:
        try:
            return bool((await lives.enter()).probe)
        except BreakerOpen:
            return False

    assert await eventually(lent)


async def test_a_probe_that_is_left_may_be_made_by_another(make: Make) -> None:
    """A caller that went away says nothing about the endpoint."""
    rules = replace(_RULES, probes=1)
    first, second = make(rules), make(rules)
    await _opened(first)
    await eventually(lambda: first.state == "half-open")
    first.left(await first.enter())

    async def lent() -> bool:
        try:
            return bool((await second.enter()).probe)
        except BreakerOpen:
            return False

    assert await eventually(lent)


async def test_without_redis_each_process_goes_by_what_it_sees(
    make: Make, redis_server: RedisServer
) -> None:
    """Calls are let out, failures open it, three probes go out, and one that works closes it."""
    redis_server.kill()
    lines = io.StringIO()
    breaker, other = make(lines=lines), make()
    await _fail(breaker, 5)
    await eventually(lambda: lines.getvalue().count("breaker.opened") == 1)
    assert not (await other.enter()).probe
    await eventually(lambda: breaker.state == "half-open")
    entered = await asyncio.gather(*(breaker.enter() for _ in range(100)), return_exceptions=True)
    probes = [each for each in entered if not isinstance(each, BaseException)]
    assert len(probes) == 3
    breaker.failed(probes[0])
    await eventually(lambda: lines.getvalue().count("breaker.opened") == 2)
    await eventually(lambda: breaker.state == "half-open")
    breaker.left(probes[1])
    breaker.left(probes[2])
    await eventually(lambda: breaker.refusal() is None)
    breaker.worked(await breaker.enter())
    await eventually(lambda: breaker.state == "closed")


async def test_a_redis_that_comes_back_is_followed_again(
    make: Make, redis_server: RedisServer
) -> None:
    """What the others found out counts, within a second or two."""
    first, second = make(), make()
    first.worked(await first.enter())
    redis_server.stop()
    first.worked(await first.enter())
    redis_server.start()
    await _fail(second, 5)

    async def refused() -> bool:
        try:
            await first.enter()
        except BreakerOpen:
            return True
        return False

    assert await eventually(refused)


async def test_being_asked_for_patience_reaches_all_processes(make: Make) -> None:
    """Within the time for which they go by what they know."""
    first, second = make(), make()
    second.worked(await second.enter())
    first.slow_down(30)
    assert 0 < first.slowed_seconds <= 30

    async def slowed() -> bool:
        await second.enter()
        return 0 < second.slowed_seconds <= 30

    assert await eventually(slowed)
