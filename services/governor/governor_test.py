"""The governor's rules on a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from meshkit import redis_store
from meshkit.errors import AlreadySettled, DependencyUnavailable, MeshError, NoPrice
from meshkit.redis_line import RedisLine
from meshtest.clock import FakeClock
from meshtest.redis_server import RedisServer
from services.governor.account import Standing, Usage
from services.governor.counters_redis import RedisCounters
from services.governor.governor import (
    Allowed,
    CostGovernor,
    Denied,
    Limits,
    MadeCall,
    PlannedCall,
    Settlement,
    usd,
)
from services.governor.price_book import ModelPrice, PriceBook, PriceVersion
from services.governor.window import day_of, month_of

# A token of `unit` costs one micro-USD, so that tokens can be read as money.
_MODELS = {
    "unit": ModelPrice(1_000_000, 1_000_000, 1_000_000, 0, 0),
    "offline": ModelPrice(0, 0, 0, 0, 0),
}
_BOOK = PriceBook([PriceVersion("1", date(2026, 1, 1), _MODELS)])
_START = datetime(2026, 3, 30, 23, 50, tzinfo=UTC)
_DAY_LIMIT, _MONTH_LIMIT = 1000, 1500


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis for all tests here; each takes a tenant of its own."""
    running = RedisServer(tmp_path_factory.mktemp("redis"))
    running.start()
    yield running
    running.kill()


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[Redis]:
    """A connection to it, with nothing stored."""
    async with redis_store.connect(server.url) as connection:
        await cast(Any, connection).flushall()
        yield connection


@pytest.fixture
def clock() -> FakeClock:
    """Ten minutes before the last day of a month begins."""
    return FakeClock(_START)


@pytest.fixture
async def line(store: Redis) -> AsyncIterator[RedisLine]:
    """What the counters ask on."""
    async with RedisLine(store) as made:
        yield made


def _governor(line: RedisLine, clock: FakeClock, **tenants: Limits) -> CostGovernor:
    return CostGovernor(
        prices=_BOOK,
        default_limits=Limits(_DAY_LIMIT, _MONTH_LIMIT),
        tenant_limits=tenants,
        counters=RedisCounters(line, clock, remember_settled_seconds=3600),
        clock=clock,
        reservation_seconds=600,
    )


@pytest.fixture
def governor(line: RedisLine, clock: FakeClock) -> CostGovernor:
    """A governor with small limits."""
    return _governor(line, clock)


async def _admit(
    governor: CostGovernor, key: str, tokens: int, **more: int | str
) -> Allowed | Denied:
    call = PlannedCall("acme", key, "unit", tokens, 0, **more)  # type: ignore[arg-type]
    (verdict,) = await governor.admit([call])
    assert not isinstance(verdict, MeshError)
    return verdict


async def _settle(governor: CostGovernor, key: str, tokens: int, task: str = "") -> Settlement:
    (outcome,) = await governor.settle(
        [MadeCall("acme", key, "unit", Usage(input_tokens=tokens, model_calls=1), task)]
    )
    if isinstance(outcome, MeshError):
        raise outcome
    return outcome


async def _day(governor: CostGovernor) -> tuple[int, int]:
    day, _ = await governor.spend("acme")
    return day.standing.spent_micros, day.standing.reserved_micros


async def test_settlement_takes_the_place_of_the_reservation(governor: CostGovernor) -> None:
    """What was reserved is freed, what was used is counted, in the day and in the month."""
    expires = _START + timedelta(seconds=600)
    assert await _admit(governor, "a", 700) == Allowed(700, expires)
    assert await _day(governor) == (0, 700)
    assert await _settle(governor, "a", 250) == Settlement(250, repeated=False)
    day, month = await governor.spend("acme")
    standing = Standing(250, 0, Usage(input_tokens=250, model_calls=1))
    assert (day.window, day.limit_micros, day.standing) == (day_of(_START), 1000, standing)
    assert (month.window, month.limit_micros, month.standing) == (month_of(_START), 1500, standing)


async def test_same_key_finds_its_reservation(governor: CostGovernor, clock: FakeClock) -> None:
    """Admitting again reserves nothing more, whatever is estimated then."""
    first = await _admit(governor, "a", 700)
    await clock.advance(30)
    assert await _admit(governor, "a", 900) == first
    assert await _day(governor) == (0, 700)


async def test_settled_key_is_no_way_past_the_limits(governor: CostGovernor) -> None:
    """Another call with it needs room in the budget like any other."""
    await _settle(governor, "a", 1000)
    verdict = await _admit(governor, "a", 1)
    assert isinstance(verdict, Denied)
    assert verdict.budget == "tenants/acme/budgets/tenant-day"
    assert await _day(governor) == (1000, 0)


async def test_settled_key_that_is_admitted_again_is_charged_again(governor: CostGovernor) -> None:
    """Each call is charged, even with the same figures; each settlement may be repeated."""
    for spent in (250, 500):
        await _admit(governor, "a", 400)
        assert await _day(governor) == (spent - 250, 400)
        assert await _settle(governor, "a", 250) == Settlement(250, repeated=False)
        assert await _settle(governor, "a", 250) == Settlement(250, repeated=True)
        assert await _day(governor) == (spent, 0)


async def test_settled_key_that_is_admitted_again_can_be_released(governor: CostGovernor) -> None:
    """What was charged before stays, and a repeat of that settlement is still recognised."""
    await _settle(governor, "a", 250)
    await _admit(governor, "a", 400)
    assert await governor.release("acme", "a") == 400
    assert await _day(governor) == (250, 0)
    assert await _settle(governor, "a", 250) == Settlement(250, repeated=True)


async def test_repeated_settlement_changes_nothing(governor: CostGovernor) -> None:
    """The same figures again are recognised, other figures are refused, and neither is counted."""
    await _admit(governor, "a", 700)
    await _settle(governor, "a", 250)
    assert await _settle(governor, "a", 250) == Settlement(250, repeated=True)
    with pytest.raises(AlreadySettled) as caught:
        await _settle(governor, "a", 251)
    assert caught.value.message == (
        "The key 'a' was settled before with other figures, at 0.00025 USD."
    )
    assert await _day(governor) == (250, 0)


async def test_call_beyond_the_day_is_denied_with_budget_and_reset(governor: CostGovernor) -> None:
    """The answer names the budget, when it starts again, and the sums."""
    await _settle(governor, "a", 600)
    await _admit(governor, "b", 300)
    assert await _admit(governor, "c", 101) == Denied(
        "tenants/acme/budgets/tenant-day",
        datetime(2026, 3, 31, tzinfo=UTC),
        "tenants/acme/budgets/tenant-day allows 0.001 USD; 0.0006 USD are spent and 0.0003 USD"
        " reserved, so that 0.000101 USD more do not fit. It starts again at 2026-03-31T00:00:00Z.",
    )
    assert await _day(governor) == (600, 300)
    assert await _admit(governor, "d", 100) == Allowed(100, _START + timedelta(seconds=600))


async def test_day_starts_again_and_month_goes_on(governor: CostGovernor, clock: FakeClock) -> None:
    """After midnight UTC the day has room; the month decides when it is spent, until its end."""
    await _settle(governor, "a", 1000)
    assert isinstance(await _admit(governor, "b", 1), Denied)
    await clock.advance(601)
    await _settle(governor, "c", 500)
    denied = await _admit(governor, "d", 1)
    assert isinstance(denied, Denied)
    assert (denied.budget, denied.resets_at) == (
        "tenants/acme/budgets/tenant-month",
        datetime(2026, 4, 1, tzinfo=UTC),
    )
    await clock.advance(86_400)
    assert isinstance(await _admit(governor, "d", 1), Allowed)


async def test_settlement_after_midnight_counts_where_it_was_reserved(
    governor: CostGovernor, clock: FakeClock
) -> None:
    """The day that held the reservation is charged, so that the new day's limit stays whole."""
    await clock.advance(590)
    await _admit(governor, "a", 700)
    await clock.advance(20)
    await _settle(governor, "a", 700)
    assert await _day(governor) == (0, 0)
    _, month = await governor.spend("acme")
    assert month.standing.spent_micros == 700


async def test_expired_reservation_is_given_back(governor: CostGovernor, clock: FakeClock) -> None:
    """Nothing stays reserved; its key reserves anew, and a late settlement counts all the same."""
    await _admit(governor, "a", 900)
    await _admit(governor, "b", 100)
    await clock.advance(600)
    assert await _day(governor) == (0, 0)
    assert await _admit(governor, "a", 1000) == Allowed(1000, _START + timedelta(seconds=1200))
    assert await _settle(governor, "b", 100) == Settlement(100, repeated=False)
    assert await _day(governor) == (100, 1000)


async def test_more_expired_reservations_than_one_sweep_takes(
    governor: CostGovernor, clock: FakeClock
) -> None:
    """A call is not denied because of reservations that have expired and await their sweep."""
    calls = [PlannedCall("acme", f"k{n}", "unit", 1, 0) for n in range(1000)]
    assert all(isinstance(verdict, Allowed) for verdict in await governor.admit(calls))
    assert isinstance(await _admit(governor, "a", 1), Denied)
    await clock.advance(600)
    assert isinstance(await _admit(governor, "a", 1000), Allowed)
    assert await _day(governor) == (0, 1000)


async def test_release_gives_back_once(governor: CostGovernor) -> None:
    """A release answers what it freed, 0 when repeated, and is refused after the settlement."""
    await _admit(governor, "a", 700)
    assert await governor.release("acme", "a") == 700
    assert await governor.release("acme", "a") == 0
    assert await _day(governor) == (0, 0)
    await _settle(governor, "a", 5)
    with pytest.raises(AlreadySettled) as caught:
        await governor.release("acme", "a")
    assert caught.value.message == "The key 'a' is settled; there is nothing to release."


async def test_cap_of_a_task_counts_its_parallel_calls(governor: CostGovernor) -> None:
    """The task's own cap holds over its reservations, its settlements and what its log says."""
    cap: dict[str, int | str] = {"task": "t1", "task_limit_micros": 100}
    assert isinstance(await _admit(governor, "a", 60, **cap), Allowed)
    assert await _admit(governor, "b", 60, **cap) == Denied(
        "tenants/acme/budgets/task-lifetime-t1",
        None,
        "tenants/acme/budgets/task-lifetime-t1 allows 0.0001 USD; 0.00 USD are spent and"
        " 0.00006 USD reserved, so that 0.00006 USD more do not fit. It does not start again.",
    )
    await _settle(governor, "a", 30, task="t1")
    assert isinstance(await _admit(governor, "b", 60, **cap), Allowed)
    await governor.release("acme", "b")
    assert isinstance(await _admit(governor, "c", 60, task_spent_micros=50, **cap), Denied)
    assert isinstance(await _admit(governor, "d", 50, task_spent_micros=50, **cap), Allowed)
    assert isinstance(await _admit(governor, "e", 100, task="t2", task_limit_micros=100), Allowed)


async def test_late_settlement_counts_against_the_task(
    governor: CostGovernor, clock: FakeClock
) -> None:
    """Without its reservation a call still counts in the cap of a task that has one."""
    await _admit(governor, "a", 60, task="t1", task_limit_micros=100)
    await clock.advance(600)
    await _settle(governor, "a", 60, task="t1")
    assert isinstance(await _admit(governor, "b", 41, task="t1", task_limit_micros=100), Denied)
    assert isinstance(await _admit(governor, "b", 40, task="t1", task_limit_micros=100), Allowed)


async def test_refused_call_reserves_in_no_scope(governor: CostGovernor) -> None:
    """What the task's cap refuses is not reserved in the tenant's day either."""
    await _admit(governor, "a", 60, task="t1", task_limit_micros=50)
    assert await _day(governor) == (0, 0)


async def test_free_model_is_allowed_when_all_is_spent(governor: CostGovernor) -> None:
    """What costs nothing is never denied, reserves nothing, and its usage is counted."""
    await _settle(governor, "a", 1000)
    (verdict,) = await governor.admit([PlannedCall("acme", "b", "offline", 10, 10)])
    assert verdict == Allowed(0, _START + timedelta(seconds=600))
    usage = Usage(10, 20, model_calls=1, tool_calls=2, cache_hits=3, cached_input_tokens=4)
    assert await governor.settle([MadeCall("acme", "b", "offline", usage)]) == [
        Settlement(0, repeated=False)
    ]
    day, _ = await governor.spend("acme")
    assert day.standing == Standing(1000, 0, Usage(1010, 20, 2, 2, 3, 4))


async def test_priced_call_without_estimate_is_denied_when_all_is_spent(
    governor: CostGovernor,
) -> None:
    """An estimate of nothing does not open a spent budget."""
    await _settle(governor, "a", 1000)
    assert isinstance(await _admit(governor, "b", 0), Denied)


async def test_fault_of_one_item_leaves_the_others_alone(governor: CostGovernor) -> None:
    """A batch answers in order, with the error in the place of the item that has it."""
    verdicts = await governor.admit(
        [
            PlannedCall("acme", "a", "unit", 10, 0),
            PlannedCall("acme", "b", "unknown", 10, 0),
            PlannedCall("other", "a", "unit", 20, 0),
        ]
    )
    assert [type(verdict) for verdict in verdicts] == [Allowed, NoPrice, Allowed]
    assert await _day(governor) == (0, 10)


async def test_tenant_has_limits_of_its_own(line: RedisLine, clock: FakeClock) -> None:
    """Settings may give a tenant more or less than the default."""
    governor = _governor(line, clock, acme=Limits(2000, 2000))
    assert isinstance(await _admit(governor, "a", 2000), Allowed)
    (verdict,) = await governor.admit([PlannedCall("other", "a", "unit", 2000, 0)])
    assert isinstance(verdict, Denied)


async def test_all_keys_of_a_tenant_share_a_slot_and_expire(
    governor: CostGovernor, store: Redis
) -> None:
    """Each key carries the tenant's hash tag; what is left of past calls goes away by itself."""
    await _admit(governor, "a{b}", 10, task="t1", task_limit_micros=100)
    await _settle(governor, "c", 10)
    redis = cast(Any, store)
    keys = sorted(key.decode() for key in await redis.keys("*"))
    assert keys == [
        "governor:{acme}:day:2026-03-30",
        "governor:{acme}:expiry",
        "governor:{acme}:month:2026-03",
        "governor:{acme}:reservations",
        "governor:{acme}:settled:c",
        "governor:{acme}:task:t1",
    ]
    hours = {key: await redis.ttl(key) // 3600 for key in keys}
    assert hours["governor:{acme}:day:2026-03-30"] == 48
    assert hours["governor:{acme}:month:2026-03"] == 72
    assert hours["governor:{acme}:task:t1"] in (47, 48)
    assert hours["governor:{acme}:settled:c"] in (0, 1)


async def test_lost_script_is_loaded_again(governor: CostGovernor, store: Redis) -> None:
    """A Redis that forgot its scripts, by a restart or a failover, is no fault."""
    await _admit(governor, "a", 10)
    await cast(Any, store).script_flush()
    assert await _settle(governor, "a", 10) == Settlement(10, repeated=False)


async def test_unreachable_redis_is_named(tmp_path: Path, clock: FakeClock) -> None:
    """Without Redis a priced call gives DEPENDENCY_UNAVAILABLE, and a free one is allowed."""
    server = RedisServer(tmp_path)
    async with (
        redis_store.connect(f"redis://127.0.0.1:{server.port}") as gone,
        RedisLine(gone) as line,
    ):
        governor = _governor(line, clock)
        with pytest.raises(DependencyUnavailable) as caught:
            await _admit(governor, "a", 10)
        assert caught.value.metadata == {"dependency": "redis"}
        (verdict,) = await governor.admit([PlannedCall("acme", "b", "offline", 10, 10)])
        assert isinstance(verdict, Allowed)


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "0.00 USD"),
        (1, "0.000001 USD"),
        (1_500_000, "1.50 USD"),
        (2_480_000_000, "2,480.00 USD"),
        (12_345_678, "12.345678 USD"),
    ],
)
def test_amounts_are_written_for_people(micros: int, text: str) -> None:
    """Two decimals at least, no more than there are, never rounded."""
    assert usd(micros) == text


async def test_parallel_admissions_never_pass_the_limit(
    store: Redis, line: RedisLine, clock: FakeClock
) -> None:
    """A thousand calls at once, over two governors, get exactly what is left and no more."""
    async with RedisLine(store) as other:
        governors = [_governor(line, clock), _governor(other, clock)]
        await _settle(governors[0], "before", 400)
        calls = [PlannedCall("acme", f"k{n}", "unit", 7, 0) for n in range(1000)]
        verdicts = await asyncio.gather(
            *(governors[n % 2].admit(calls[n : n + 1]) for n in range(1000))
        )
    allowed = sum(isinstance(verdict, Allowed) for (verdict,) in verdicts)
    assert allowed == 600 // 7
    assert await _day(governors[0]) == (400, allowed * 7)
