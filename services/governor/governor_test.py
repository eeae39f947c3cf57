"""The governor's rules on a real Redis."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from agentmesh.common.v1 import tier_pb2
from meshkit import redis_store
from meshkit.errors import AlreadySettled, DependencyUnavailable, MeshError, NoPrice
from meshkit.redis_line import RedisLine
from meshtest.clock import FakeClock
from meshtest.redis_server import RedisServer
from services.governor.account import Standing, Usage
from services.governor.calls import (
    Allowed,
    Delayed,
    Denied,
    MadeCall,
    PlannedCall,
    SentLower,
    Settlement,
    Verdict,
)
from services.governor.governor_parts import Defaults, GovernorParts, governor_parts
from services.governor.scripted_ledger import ScriptedLedger
from services.governor.window import WindowKind, window_of

pytest_plugins = ["services.governor.fixture_governor"]

_START = datetime(2026, 3, 30, 23, 50, tzinfo=UTC)
_EXPIRES = _START + timedelta(seconds=600)
_DEFAULTS = Defaults(1000, 1500)


@pytest.fixture
def clock() -> FakeClock:
    """Ten minutes before the last day of a month begins."""
    return FakeClock(_START)


@pytest.fixture
def parts(line: RedisLine, clock: FakeClock, ledger: ScriptedLedger) -> GovernorParts:
    """A governor with small limits, and what it is made of."""
    return governor_parts(line, clock, ledger, _DEFAULTS)


async def _admit(parts: GovernorParts, key: str, tokens: int, **more: Any) -> Verdict:
    call = PlannedCall("acme", key, "unit", tokens, 0, **more)
    (verdict,) = await parts.admission.admit([call])
    assert not isinstance(verdict, MeshError)
    return verdict


async def _settle(parts: GovernorParts, key: str, tokens: int, **more: Any) -> Settlement:
    (outcome,) = await parts.settling.settle(
        [MadeCall("acme", key, "unit", Usage(input_tokens=tokens, model_calls=1), **more)]
    )
    if isinstance(outcome, MeshError):
        raise outcome
    return outcome


async def _day(parts: GovernorParts) -> tuple[int, int]:
    day, _ = await parts.standings.spend("acme")
    return day.standing.spent_micros, day.standing.reserved_micros


def _allowed(key: str, micros: int, expires: datetime = _EXPIRES) -> Allowed:
    return Allowed(key, micros, expires, "2")


async def test_settlement_takes_the_place_of_the_reservation(parts: GovernorParts) -> None:
    """What was reserved is freed, what was used is counted, in the day and in the month."""
    assert await _admit(parts, "a", 700) == _allowed("a", 700)
    assert await _day(parts) == (0, 700)
    assert await _settle(parts, "a", 250) == Settlement(250, repeated=False)
    day, month = await parts.standings.spend("acme")
    standing = Standing(250, 0, Usage(input_tokens=250, model_calls=1))
    assert (day.window, day.budget.limit_micros, day.standing) == (
        window_of(WindowKind.DAY, _START, UTC),
        1000,
        standing,
    )
    assert (month.window, month.budget.limit_micros, month.standing) == (
        window_of(WindowKind.MONTH, _START, UTC),
        1500,
        standing,
    )


async def test_same_key_finds_its_reservation(parts: GovernorParts, clock: FakeClock) -> None:
    """Admitting again reserves nothing more, whatever is estimated then."""
    first = await _admit(parts, "a", 700)
    await clock.advance(30)
    assert await _admit(parts, "a", 900) == first
    assert await _day(parts) == (0, 700)


async def test_settled_key_is_no_way_past_the_limits(parts: GovernorParts) -> None:
    """Another call with it needs room in the budget like any other."""
    await _settle(parts, "a", 1000)
    verdict = await _admit(parts, "a", 1)
    assert isinstance(verdict, Denied)
    assert verdict.budget == "tenants/acme/budgets/tenant-day"
    assert await _day(parts) == (1000, 0)


async def test_settled_key_that_is_admitted_again_is_another_call(parts: GovernorParts) -> None:
    """It has a key of its own, is charged in addition, and each settlement may be repeated."""
    for spent, key in ((250, "a"), (500, "a#2"), (750, "a#3")):
        assert await _admit(parts, "a", 200) == _allowed(key, 200)
        assert await _admit(parts, "a", 200) == _allowed(key, 200)
        assert await _day(parts) == (spent - 250, 200)
        assert await _settle(parts, key, 250) == Settlement(250, repeated=False)
        assert await _settle(parts, key, 250) == Settlement(250, repeated=True)
        assert await _settle(parts, "a", 250) == Settlement(250, repeated=True)
        assert await _day(parts) == (spent, 0)


async def test_settled_key_that_is_admitted_again_can_be_released(parts: GovernorParts) -> None:
    """What was charged before stays, and the key that was free again is given out again."""
    await _settle(parts, "a", 250)
    await _admit(parts, "a", 400)
    assert await parts.leasing.release("acme", "a#2") == 400
    assert await _day(parts) == (250, 0)
    assert await _settle(parts, "a", 250) == Settlement(250, repeated=True)
    assert await _admit(parts, "a", 400) == _allowed("a#2", 400)


async def test_repeated_settlement_changes_nothing(parts: GovernorParts) -> None:
    """The same figures again are recognised, other figures are refused, and neither is counted."""
    await _admit(parts, "a", 700)
    await _settle(parts, "a", 250)
    assert await _settle(parts, "a", 250) == Settlement(250, repeated=True)
    with pytest.raises(AlreadySettled) as caught:
        await _settle(parts, "a", 251)
    assert caught.value.message == (
        "The key 'a' was settled before with other figures, at 0.00025 USD."
    )
    assert await _day(parts) == (250, 0)


async def test_call_beyond_the_day_is_denied_with_budget_and_reset(parts: GovernorParts) -> None:
    """The answer names the budget, when it starts again, and the sums."""
    await _settle(parts, "a", 600)
    await _admit(parts, "b", 300)
    assert await _admit(parts, "c", 401) == Denied(
        "tenants/acme/budgets/tenant-day",
        datetime(2026, 3, 31, tzinfo=UTC),
        "tenants/acme/budgets/tenant-day allows 0.001 USD; 0.0006 USD are spent and 0.0003 USD"
        " reserved, so that 0.000401 USD more do not fit. It starts again at 2026-03-31T00:00:00Z.",
    )
    assert await _day(parts) == (600, 300)
    assert await _admit(parts, "d", 100) == _allowed("d", 100)


async def test_a_call_that_others_leave_no_room_for_is_to_come_back(parts: GovernorParts) -> None:
    """What is only reserved is mostly free again soon: that is no reason to fail a task."""
    await _settle(parts, "a", 600)
    await _admit(parts, "b", 300)
    assert await _admit(parts, "c", 101) == Delayed(
        "tenants/acme/budgets/tenant-day",
        2.0,
        "tenants/acme/budgets/tenant-day allows 0.001 USD; 0.0006 USD are spent and 0.0003 USD"
        " reserved, so that 0.000101 USD more do not fit. There is room again when calls under"
        " way have ended.",
    )
    await parts.leasing.release("acme", "b")
    assert await _admit(parts, "c", 101) == _allowed("c", 101)


async def test_a_call_too_dear_for_what_is_left_is_sent_to_a_cheaper_tier(
    parts: GovernorParts,
) -> None:
    """Nothing is reserved for it: the cheaper call is asked for by itself. A budget that is
    spent refuses all alike."""
    await _settle(parts, "a", 600)
    sent = await _admit(parts, "b", 401, tier=tier_pb2.MODEL_TIER_POWERFUL)
    assert isinstance(sent, SentLower)
    assert (sent.budget, sent.degrade_to) == (
        "tenants/acme/budgets/tenant-day",
        tier_pb2.MODEL_TIER_BALANCED,
    )
    assert await _day(parts) == (600, 0)
    assert isinstance(await _admit(parts, "b", 401, tier=tier_pb2.MODEL_TIER_FAST), Denied)
    await _settle(parts, "c", 400)
    assert isinstance(await _admit(parts, "b", 1, tier=tier_pb2.MODEL_TIER_POWERFUL), Denied)


async def test_day_starts_again_and_month_goes_on(parts: GovernorParts, clock: FakeClock) -> None:
    """After midnight UTC the day has room; the month decides when it is spent, until its end."""
    await _settle(parts, "a", 1000)
    assert isinstance(await _admit(parts, "b", 1), Denied)
    await clock.advance(601)
    await _settle(parts, "c", 500)
    denied = await _admit(parts, "d", 1)
    assert isinstance(denied, Denied)
    assert (denied.budget, denied.resets_at) == (
        "tenants/acme/budgets/tenant-month",
        datetime(2026, 4, 1, tzinfo=UTC),
    )
    await clock.advance(86_400)
    assert isinstance(await _admit(parts, "d", 1), Allowed)


async def test_settlement_after_midnight_counts_in_the_new_day(
    parts: GovernorParts, clock: FakeClock
) -> None:
    """The day in which it is settled is charged, as in the ledger; nothing stays reserved."""
    await clock.advance(590)
    await _admit(parts, "a", 700)
    await clock.advance(20)
    await _settle(parts, "a", 700)
    assert await _day(parts) == (700, 0)
    _, month = await parts.standings.spend("acme")
    assert month.standing.spent_micros == 700
    assert month.standing.reserved_micros == 0


async def test_expired_reservation_is_given_back(parts: GovernorParts, clock: FakeClock) -> None:
    """Nothing stays reserved; its key reserves anew, and a late settlement counts all the same."""
    await _admit(parts, "a", 900)
    await _admit(parts, "b", 100)
    await clock.advance(600)
    assert await _day(parts) == (0, 0)
    assert await _admit(parts, "a", 1000) == _allowed("a", 1000, _START + timedelta(seconds=1200))
    assert await _settle(parts, "b", 100) == Settlement(100, repeated=False)
    assert await _day(parts) == (100, 1000)


async def test_more_expired_reservations_than_one_sweep_takes(
    parts: GovernorParts, clock: FakeClock
) -> None:
    """A call is not denied because of reservations that have expired and await their sweep."""
    calls = [PlannedCall("acme", f"k{n}", "unit", 1, 0) for n in range(1000)]
    assert all(isinstance(verdict, Allowed) for verdict in await parts.admission.admit(calls))
    assert isinstance(await _admit(parts, "a", 1), Delayed)
    await clock.advance(600)
    assert isinstance(await _admit(parts, "a", 1000), Allowed)
    assert await _day(parts) == (0, 1000)


async def test_release_gives_back_once(parts: GovernorParts) -> None:
    """A release answers what it freed, 0 when repeated, and is refused after the settlement."""
    await _admit(parts, "a", 700)
    assert await parts.leasing.release("acme", "a") == 700
    assert await parts.leasing.release("acme", "a") == 0
    assert await _day(parts) == (0, 0)
    await _settle(parts, "a", 5)
    with pytest.raises(AlreadySettled) as caught:
        await parts.leasing.release("acme", "a")
    assert caught.value.message == "The key 'a' is settled; there is nothing to release."


async def test_cap_of_a_task_counts_its_parallel_calls(parts: GovernorParts) -> None:
    """The task's own cap holds over its reservations, its settlements and what its log says."""
    cap: dict[str, Any] = {"task": "t1", "task_limit_micros": 100}
    assert isinstance(await _admit(parts, "a", 60, **cap), Allowed)
    assert await _admit(parts, "b", 60, **cap) == Delayed(
        "tenants/acme/budgets/task-lifetime-t1",
        2.0,
        "tenants/acme/budgets/task-lifetime-t1 allows 0.0001 USD; 0.00 USD are spent and"
        " 0.00006 USD reserved, so that 0.00006 USD more do not fit. There is room again when"
        " calls under way have ended.",
    )
    await _settle(parts, "a", 30, task="t1")
    assert isinstance(await _admit(parts, "b", 60, **cap), Allowed)
    await parts.leasing.release("acme", "b")
    refused = await _admit(parts, "c", 60, task_spent_micros=50, **cap)
    assert isinstance(refused, Denied)
    assert refused.explanation.endswith("more do not fit. It does not start again.")
    assert isinstance(await _admit(parts, "d", 50, task_spent_micros=50, **cap), Allowed)
    assert isinstance(await _admit(parts, "e", 100, task="t2", task_limit_micros=100), Allowed)


async def test_late_settlement_counts_against_the_task(
    parts: GovernorParts, clock: FakeClock
) -> None:
    """Without its reservation a call still counts in the cap of a task that has one."""
    await _admit(parts, "a", 60, task="t1", task_limit_micros=100)
    await clock.advance(600)
    await _settle(parts, "a", 60, task="t1")
    assert isinstance(await _admit(parts, "b", 41, task="t1", task_limit_micros=100), Denied)
    assert isinstance(await _admit(parts, "b", 40, task="t1", task_limit_micros=100), Allowed)


async def test_refused_call_reserves_in_no_scope(parts: GovernorParts) -> None:
    """What the task's cap refuses is not reserved in the tenant's day either."""
    await _admit(parts, "a", 60, task="t1", task_limit_micros=50)
    assert await _day(parts) == (0, 0)


async def test_free_model_is_allowed_when_all_is_spent(parts: GovernorParts) -> None:
    """What costs nothing is never denied, reserves nothing, and its usage is counted."""
    await _settle(parts, "a", 1000)
    (verdict,) = await parts.admission.admit([PlannedCall("acme", "b", "offline", 10, 10)])
    assert verdict == _allowed("b", 0)
    usage = Usage(10, 20, model_calls=1, tool_calls=2, cache_hits=3, cached_input_tokens=4)
    assert await parts.settling.settle([MadeCall("acme", "b", "offline", usage)]) == [
        Settlement(0, repeated=False)
    ]
    day, _ = await parts.standings.spend("acme")
    assert day.standing == Standing(1000, 0, Usage(1010, 20, 2, 2, 3, 4))


async def test_priced_call_without_estimate_is_denied_when_all_is_spent(
    parts: GovernorParts,
) -> None:
    """An estimate of nothing does not open a spent budget."""
    await _settle(parts, "a", 1000)
    assert isinstance(await _admit(parts, "b", 0), Denied)


async def test_fault_of_one_item_leaves_the_others_alone(parts: GovernorParts) -> None:
    """A batch answers in order, with the error in the place of the item that has it."""
    verdicts = await parts.admission.admit(
        [
            PlannedCall("acme", "a", "unit", 10, 0),
            PlannedCall("acme", "b", "unknown", 10, 0),
            PlannedCall("other", "a", "unit", 20, 0),
        ]
    )
    assert [type(verdict) for verdict in verdicts] == [Allowed, NoPrice, Allowed]
    assert await _day(parts) == (0, 10)


async def test_tenants_are_counted_apart(parts: GovernorParts) -> None:
    """What one tenant spent leaves another's limit whole."""
    await _settle(parts, "a", 1000)
    (verdict,) = await parts.admission.admit([PlannedCall("other", "a", "unit", 1000, 0)])
    assert isinstance(verdict, Allowed)


async def test_all_keys_share_a_slot_and_expire(parts: GovernorParts, store: Redis) -> None:
    """Each key carries one hash tag; what is left of past calls goes away by itself."""
    await _admit(parts, "a{b}", 10, task="t1", task_limit_micros=100)
    await _settle(parts, "c", 10)
    redis = cast(Any, store)
    day = "governor:{spend}:tenant:acme::day:1774828800"
    month = "governor:{spend}:tenant:acme::month:1772323200"
    task = "governor:{spend}:task:acme:t1:lifetime:0"
    settled = "governor:{spend}:call:acme/c"
    assert sorted(key.decode() for key in await redis.keys("*")) == sorted(
        [
            day,
            month,
            task,
            settled,
            "governor:{spend}:call:acme/a{b}",
            "governor:{spend}:expiry",
            "governor:{spend}:budgets",
            "governor:{spend}:journal",
        ]
    )
    hours = {key: await redis.ttl(key) // 3600 for key in (day, month, task, settled)}
    assert hours[day] == 48
    assert hours[month] == 72
    assert hours[task] in (47, 48)
    assert hours[settled] in (47, 48)


async def test_lost_script_is_loaded_again(parts: GovernorParts, store: Redis) -> None:
    """A Redis that forgot its scripts, by a restart or a failover, is no fault."""
    await _admit(parts, "a", 10)
    await cast(Any, store).script_flush()
    assert await _settle(parts, "a", 10) == Settlement(10, repeated=False)


async def test_unreachable_redis_is_named(
    tmp_path: Path, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """Without Redis a priced call gives DEPENDENCY_UNAVAILABLE, and a free one is allowed."""
    server = RedisServer(tmp_path)
    async with (
        redis_store.connect(f"redis://127.0.0.1:{server.port}") as gone,
        RedisLine(gone) as line,
    ):
        parts = governor_parts(line, clock, ledger, _DEFAULTS)
        with pytest.raises(DependencyUnavailable) as caught:
            await _admit(parts, "a", 10)
        assert caught.value.metadata == {"dependency": "redis"}
        (verdict,) = await parts.admission.admit([PlannedCall("acme", "b", "offline", 10, 10)])
        assert isinstance(verdict, Allowed)


async def test_parallel_admissions_never_pass_the_limit(
    store: Redis, line: RedisLine, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """A thousand calls at once, over two governors, get exactly what is left and no more."""
    async with RedisLine(store) as other:
        both = [governor_parts(each, clock, ledger, _DEFAULTS) for each in (line, other)]
        await _settle(both[0], "before", 400)
        # Opened: a crowd may else wait for the ledger in vain.
        assert await _day(both[0]) == (400, 0)
        calls = [PlannedCall("acme", f"k{n}", "unit", 7, 0) for n in range(1000)]
        verdicts = await asyncio.gather(
            *(both[n % 2].admission.admit(calls[n : n + 1]) for n in range(1000))
        )
        allowed = sum(isinstance(verdict, Allowed) for (verdict,) in verdicts)
        assert allowed == 600 // 7
        assert await _day(both[0]) == (400, allowed * 7)
