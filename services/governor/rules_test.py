"""Lines below the limit, leases, tiers, prices, and counters that are lost: on a real Redis."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from meshkit.errors import AlreadySettled, DependencyUnavailable, InvalidField, MeshError
from meshkit.redis_line import RedisLine
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from services.governor.account import Usage
from services.governor.budget import Budget, Scope, ScopeKind, Thresholds
from services.governor.budgets import Budgets
from services.governor.calls import (
    Allowed,
    Delayed,
    Denied,
    Lease,
    MadeCall,
    PlannedCall,
    SentLower,
    Settlement,
    Verdict,
    WantedLease,
)
from services.governor.governor_parts import Defaults, GovernorParts, governor_parts
from services.governor.next_windows import NextWindows
from services.governor.scripted_ledger import ScriptedLedger
from services.governor.window import WindowKind

pytest_plugins = ["services.governor.fixture_governor"]

_START = datetime(2026, 3, 31, 23, 50, tzinfo=UTC)
_EXPIRES = _START + timedelta(seconds=600)
_FAST, _BALANCED, _POWERFUL = 1, 2, 3
_DEFAULTS = Defaults(1000, 100_000)
_DAY = "tenants/acme/budgets/tenant-day"


@dataclass(frozen=True, slots=True)
class _Likely:
    output_tokens: int


@pytest.fixture
def clock() -> FakeClock:
    """Ten minutes before a month ends."""
    return FakeClock(_START)


@pytest.fixture
def parts(line: RedisLine, clock: FakeClock, ledger: ScriptedLedger) -> GovernorParts:
    """A governor whose tenants have 1,000 micro-USD a day."""
    return governor_parts(line, clock, ledger, _DEFAULTS)


def _lines(limit: int = 1000, **thresholds: int) -> Budget:
    scope = Scope(ScopeKind.TENANT, "acme")
    return Budget(scope, WindowKind.DAY, limit, thresholds=Thresholds(**thresholds))


async def _admit(parts: GovernorParts, key: str, tokens: int, **more: Any) -> Verdict:
    fields: dict[str, Any] = {"max_output_tokens": 0, "task_type": "chat"}
    call = PlannedCall("acme", key, "unit", tokens, **(fields | more))
    (verdict,) = await parts.governor.admit([call])
    assert not isinstance(verdict, MeshError), verdict
    return verdict


async def _settle(parts: GovernorParts, key: str, tokens: int, **more: Any) -> Settlement:
    fields: dict[str, Any] = {"task_type": "chat"}
    (outcome,) = await parts.governor.settle(
        [MadeCall("acme", key, "unit", Usage(input_tokens=tokens), **(fields | more))]
    )
    if isinstance(outcome, MeshError):
        raise outcome
    return outcome


async def _day(parts: GovernorParts) -> tuple[int, int]:
    day, _ = await parts.standings.spend("acme")
    return day.standing.spent_micros, day.standing.reserved_micros


async def _lease(parts: GovernorParts, lease: str, micros: int) -> Lease:
    return await parts.governor.lease(WantedLease("acme", lease, micros, "chat", "helper"))


async def test_budget_that_is_nearly_spent_sends_calls_to_the_next_lower_tier(
    parts: GovernorParts,
) -> None:
    """It is reserved all the same, a repeat gets the same answer, and the lowest tier goes on."""
    parts.budgets.put(_lines(degrade=50))
    assert await _admit(parts, "a", 500, tier=_POWERFUL) == Allowed("a", 500, _EXPIRES, "2")
    degraded = Allowed(
        "b",
        100,
        _EXPIRES,
        "2",
        degrade_to=_BALANCED,
        budget=_DAY,
        explanation=(
            f"{_DAY} allows 0.001 USD; 0.00 USD are spent and 0.0006 USD reserved:"
            " from 50 % on cheaper tiers are used."
        ),
    )
    assert await _admit(parts, "b", 100, tier=_POWERFUL) == degraded
    assert await _admit(parts, "b", 100, tier=_POWERFUL) == degraded
    assert await _day(parts) == (0, 600)
    for key, tier in (("c", _FAST), ("d", 0)):
        verdict = await _admit(parts, key, 100, tier=tier)
        assert isinstance(verdict, Allowed)
        assert verdict.degrade_to == 0


async def test_budget_slows_down_what_nobody_waits_for(parts: GovernorParts) -> None:
    """Interactive work goes on up to the shutoff; nothing is reserved for what is slowed down."""
    parts.budgets.put(_lines(throttle=60, shutoff=90))
    await _admit(parts, "a", 600)
    assert await _admit(parts, "b", 1) == Delayed(
        _DAY,
        10.0,
        f"{_DAY} allows 0.001 USD; 0.00 USD are spent and 0.0006 USD reserved:"
        " from 60 % on only interactive work goes on.",
    )
    assert isinstance(await _admit(parts, "b", 300, interactive=True), Allowed)
    denied = await _admit(parts, "c", 1, interactive=True)
    assert isinstance(denied, Delayed)
    assert denied.explanation == (
        f"{_DAY} allows 0.0009 USD (90 % of 0.001 USD); 0.00 USD are spent and 0.0009 USD"
        " reserved, so that 0.000001 USD more do not fit. There is room again when calls under way"
        " have ended."
    )
    assert await _day(parts) == (0, 900)


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        (ScopeKind.GLOBAL, ""),
        (ScopeKind.TASK_TYPE, "chat"),
        (ScopeKind.AGENT, "helper"),
        (ScopeKind.SESSION, "s1"),
    ],
)
async def test_every_scope_limits_its_calls_and_no_others(
    parts: GovernorParts, kind: ScopeKind, subject: str
) -> None:
    """What one budget refuses is reserved under none."""
    tenant = "" if kind is ScopeKind.GLOBAL else "acme"
    window = WindowKind.LIFETIME if kind is ScopeKind.SESSION else WindowKind.DAY
    budget = Budget(Scope(kind, tenant, subject), window, 50)
    parts.budgets.put(budget)
    whole: dict[str, Any] = {"task_type": "chat", "agent": "helper", "session": "s1"}
    denied = await _admit(parts, "a", 51, **whole)
    assert isinstance(denied, Denied)
    assert denied.budget == budget.name
    assert await _day(parts) == (0, 0)
    assert isinstance(await _admit(parts, "a", 50, **whole), Allowed)
    other = PlannedCall("other", "a", "unit", 51, 0, task_type="draw", agent="o", session="s2")
    (verdict,) = await parts.governor.admit([other])
    assert isinstance(verdict, Denied if kind is ScopeKind.GLOBAL else Allowed)


async def test_hardest_word_counts_and_of_equal_ones_what_starts_again_last(
    parts: GovernorParts, clock: FakeClock
) -> None:
    """A day that is only nearly spent says nothing where the month is spent."""
    await clock.advance(600)
    scope = Scope(ScopeKind.TENANT, "acme")
    parts.budgets.put(Budget(scope, WindowKind.DAY, 100))
    parts.budgets.put(Budget(scope, WindowKind.MONTH, 100))
    parts.budgets.put(
        Budget(
            Scope(ScopeKind.TASK_TYPE, "acme", "chat"),
            WindowKind.DAY,
            1000,
            thresholds=Thresholds(degrade=1),
        )
    )
    sent = await _admit(parts, "a", 101, tier=_POWERFUL)
    assert isinstance(sent, SentLower)
    assert sent.budget == "tenants/acme/budgets/tenant-month"


async def test_tier_that_a_tenant_may_not_use_is_replaced_or_refused(
    line: RedisLine, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """By the highest allowed one below it; without one the call cannot be made."""
    tiers = frozenset({_BALANCED})
    parts = governor_parts(line, clock, ledger, _DEFAULTS, tiers=tiers)
    text = "The tenant acme may use BALANCED models only."
    assert await _admit(parts, "a", 10, tier=_POWERFUL) == Allowed(
        "a", 10, _EXPIRES, "2", _BALANCED, "tenants/acme", text
    )
    assert await _admit(parts, "b", 10, tier=_BALANCED) == Allowed("b", 10, _EXPIRES, "2")
    assert await _admit(parts, "c", 10, tier=_FAST) == Denied(
        "tenants/acme",
        None,
        "The tenant acme may use BALANCED models only, and not those of the FAST tier or below.",
    )
    assert (await _lease(parts, "l", 100)).tiers == tiers
    assert await _day(parts) == (0, 120)


async def test_so_much_is_reserved_as_calls_of_a_kind_used_until_it_gets_close(
    parts: GovernorParts, ledger: ScriptedLedger
) -> None:
    """From 80 percent on it is the most that the call can cost, and a denial goes by the most that
    all calls under way can cost."""
    ledger.profiles["acme", "chat", _FAST] = _Likely(110)
    call: dict[str, Any] = {"tier": _FAST, "max_output_tokens": 300}
    assert await _admit(parts, "a", 10, **call) == Allowed("a", 120, _EXPIRES, "2")
    await _settle(parts, "b", 375)
    assert await _admit(parts, "c", 10, **call) == Allowed("c", 310, _EXPIRES, "2")
    assert await _day(parts) == (375, 430)
    denied = await _admit(parts, "d", 10, **call)
    assert not isinstance(denied, Allowed)
    assert "0.000375 USD are spent and 0.00062 USD reserved, so that 0.00031" in denied.explanation
    other = await _admit(parts, "e", 10, tier=_FAST, max_output_tokens=40)
    assert not isinstance(other, Allowed)
    await parts.governor.release("acme", "c")
    other = await _admit(parts, "e", 10, tier=_FAST, max_output_tokens=40)
    assert isinstance(other, Allowed)
    assert other.reserved_micros == 50


async def test_calls_that_all_cost_more_than_was_likely_pass_no_limit(
    parts: GovernorParts, ledger: ScriptedLedger
) -> None:
    """Below its line a budget reserves little, but never lets in more than all can cost."""
    ledger.profiles["acme", "chat", _FAST] = _Likely(50)
    call: dict[str, Any] = {"tier": _FAST, "max_output_tokens": 100}
    verdicts = [await _admit(parts, f"k{number}", 0, **call) for number in range(40)]
    keys = [each.key for each in verdicts if isinstance(each, Allowed)]
    assert len(keys) == 10
    assert await _day(parts) == (0, 500)
    assert not isinstance(verdicts[-1], Allowed)
    # What one did not use is free for another.
    await _settle(parts, keys[0], 40)
    assert isinstance(await _admit(parts, "more", 0, tier=_FAST, max_output_tokens=60), Allowed)
    for key in keys[1:]:
        await _settle(parts, key, 100)
    await _settle(parts, "more", 60)
    assert await _day(parts) == (1000, 0)


async def test_release_of_a_part_keeps_what_the_rest_may_cost(
    parts: GovernorParts, ledger: ScriptedLedger
) -> None:
    """What is kept is kept in what is likely and in the most; all given back frees both."""
    ledger.profiles["acme", "chat", _FAST] = _Likely(50)
    await _admit(parts, "a", 0, tier=_FAST, max_output_tokens=600)
    assert await parts.governor.release("acme", "a", 300) == 0
    assert await _day(parts) == (0, 50)
    assert not isinstance(await _admit(parts, "b", 701), Allowed)
    assert isinstance(await _admit(parts, "b", 700), Allowed)
    assert await parts.governor.release("acme", "a") == 50
    assert isinstance(await _admit(parts, "c", 300), Allowed)


async def test_call_is_reckoned_by_the_prices_it_was_admitted_by(parts: GovernorParts) -> None:
    """New reservations go by the newest; a version that never was is refused."""
    assert await _admit(parts, "a", 10) == Allowed("a", 10, _EXPIRES, "2")
    assert await _settle(parts, "a", 10, price_version="1") == Settlement(20, repeated=False)
    assert await _settle(parts, "b", 10) == Settlement(10, repeated=False)
    with pytest.raises(InvalidField) as caught:
        await _settle(parts, "c", 10, price_version="3")
    assert [each.field for each in caught.value.violations] == ["price_version"]
    assert [each.price_version for each in parts.ledger.firsts().values()] == ["1", "2"]
    assert await _day(parts) == (30, 0)


async def test_lease_reserves_and_its_settlements_take_its_place(
    parts: GovernorParts, clock: FakeClock
) -> None:
    """What it had set aside for a call is spent or free; the rest stays until it is given back."""
    assert await _lease(parts, "l", 200) == Lease(
        "l", 200, _EXPIRES, "2", 0.0, admit_sessions=False, tiers=frozenset()
    )
    assert (await _lease(parts, "l", 100)).micros == 200
    assert await _day(parts) == (0, 200)
    await _settle(parts, "a", 30, lease="l", leased_micros=50)
    assert await _day(parts) == (30, 150)
    assert await _settle(parts, "a", 30, lease="l", leased_micros=50) == Settlement(
        30, repeated=True
    )
    assert await _day(parts) == (30, 150)
    assert await parts.governor.release("acme", "l", 40) == 110
    assert await parts.governor.release("acme", "l", 40) == 0
    assert await _day(parts) == (30, 40)
    # More than there is: it used more than was set aside.
    await _settle(parts, "b", 70, lease="l", leased_micros=70)
    assert await _day(parts) == (100, 0)
    await clock.advance(600)
    await _settle(parts, "c", 5, lease="l", leased_micros=5)
    day, month = await parts.standings.spend("acme")
    assert (day.standing.spent_micros, day.standing.reserved_micros) == (5, 0)
    assert (month.standing.spent_micros, month.standing.reserved_micros) == (5, 0)


async def test_lease_that_is_not_used_expires(parts: GovernorParts, clock: FakeClock) -> None:
    """Nothing stays reserved for one whose holder is gone."""
    await _lease(parts, "l", 200)
    await clock.advance(600)
    assert await _day(parts) == (0, 0)
    assert await parts.governor.release("acme", "l") == 0


async def test_no_lease_where_a_line_is_near(parts: GovernorParts) -> None:
    """A lease takes a quarter at most of what there is below the lowest line, or nothing at all."""
    parts.budgets.put(
        Budget(
            Scope(ScopeKind.AGENT, "acme", "helper"),
            WindowKind.MONTH,
            1000,
            thresholds=Thresholds(degrade=40),
        )
    )
    parts.budgets.put(Budget(Scope(ScopeKind.SESSION, "acme", "s"), WindowKind.LIFETIME, 1000))
    lease = await _lease(parts, "l", 500)
    assert (lease.micros, lease.admit_sessions) == (100, True)
    assert (await _lease(parts, "m", 50)).micros == 50
    await _admit(parts, "a", 250, agent="helper")
    none = await _lease(parts, "n", 50)
    assert (none.micros, none.retry_after_seconds) == (0, 5.0)
    assert await _day(parts) == (0, 400)


async def test_settlement_of_more_than_was_reserved_is_counted_whole(parts: GovernorParts) -> None:
    """What was used is paid, though the limit is passed by it; the next call is denied."""
    await _admit(parts, "a", 900)
    assert await _settle(parts, "a", 1500) == Settlement(1500, repeated=False)
    assert await _day(parts) == (1500, 0)
    assert isinstance(await _admit(parts, "b", 1), Denied)


async def test_settlement_of_an_unknown_reservation_is_counted(parts: GovernorParts) -> None:
    """And known from then on: with other figures it is refused, and the ledger has the first."""
    assert await _settle(parts, "never-admitted", 10) == Settlement(10, repeated=False)
    with pytest.raises(AlreadySettled):
        await _settle(parts, "never-admitted", 11)
    assert await _day(parts) == (10, 0)
    assert [each.usage.cost_micros for each in parts.ledger.firsts().values()] == [10]


async def test_lost_redis_is_rebuilt_from_the_ledger(
    parts: GovernorParts, store: Redis, clock: FakeClock
) -> None:
    """To the micro-dollar, with its usage; a settlement repeated over the loss is counted once."""
    await _settle(parts, "a", 300)
    await _settle(parts, "b", 20)
    before = await parts.standings.spend("acme")
    await cast(Any, store).flushall()
    assert await parts.standings.spend("acme") == before
    await cast(Any, store).flushall()
    await _settle(parts, "b", 20)
    await _settle(parts, "c", 5)
    assert await _day(parts) == (325, 0)
    await cast(Any, store).flushall()
    assert isinstance(await _admit(parts, "d", 676), Denied)
    assert isinstance(await _admit(parts, "d", 675), Allowed)
    # Long after the counter was opened a call is known to be new.
    await clock.advance(60)
    asked = parts.ledger.asked
    await _settle(parts, "e", 5, called_at=clock.now())
    assert parts.ledger.asked == asked
    await _settle(parts, "b", 20, called_at=_START)
    assert parts.ledger.asked == asked + 1
    assert await _day(parts) == (330, 675)


async def test_settlement_whose_counting_failed_is_counted_when_it_is_repeated(
    parts: GovernorParts, line: RedisLine, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """Once, though the journal has it twice, and though a counter was opened in between."""
    await _settle(parts, "a", 100)
    # Dies between journal and counters.
    twice = ledger.messages[0]
    twice[0].key = "b"
    await ledger.append(twice)
    parts.budgets.put(Budget(Scope(ScopeKind.TASK_TYPE, "acme", "chat"), WindowKind.DAY, 1000))
    await parts.standings.of(parts.budgets.of("acme", "chat"))
    await _settle(parts, "b", 100)
    await _settle(parts, "b", 100)
    standings = await parts.standings.of(parts.budgets.of("acme", "chat"))
    for each in standings:
        balance = ledger.balance_now(each.budget.scope, each.window.start, each.window.end)
        assert each.standing.spent_micros == balance.spent_micros


async def test_of_two_settlements_at_once_the_one_that_the_journal_heard_first_counts(
    parts: GovernorParts, line: RedisLine, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """Whichever of them Redis hears first: counters and ledger agree."""
    await _admit(parts, "a", 100)
    await clock.advance(10)
    first = parts.ledger.append
    waiting, free = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedLedger):
        """Answers the first that asks only when it is told to."""

        async def append(self, records: Any) -> int:
            place = await first(records)
            if not waiting.is_set():
                waiting.set()
                await free.wait()
            return place

    slow = Slow()
    other = governor_parts(line, clock, slow, _DEFAULTS)
    early = asyncio.create_task(_settle(other, "a", 30, called_at=clock.now()))
    await waiting.wait()
    assert await _settle(parts, "a", 50, called_at=clock.now()) == Settlement(50, repeated=False)
    free.set()
    assert await early == Settlement(30, repeated=False)
    assert await _day(parts) == (30, 0)
    assert [each.usage.cost_micros for each in ledger.firsts().values()] == [30]


async def test_without_the_ledger_a_counter_is_not_begun(
    parts: GovernorParts, ledger: ScriptedLedger, store: Redis
) -> None:
    """What is not there is never taken for zero; what is there goes on."""
    await _admit(parts, "a", 10)
    ledger.failure = DependencyUnavailable("The ledger is away.")
    assert isinstance(await _admit(parts, "b", 10), Allowed)
    call = PlannedCall("other", "a", "unit", 10, 0)
    (answer,) = await parts.governor.admit([call])
    assert answer is ledger.failure
    await cast(Any, store).flushall()
    (answer,) = await parts.governor.admit([PlannedCall("acme", "c", "unit", 10, 0)])
    assert answer is ledger.failure


async def test_what_cannot_be_written_to_the_journal_is_not_counted(
    parts: GovernorParts, ledger: ScriptedLedger
) -> None:
    """The caller repeats it; with its answer lost, it counts once."""
    await _admit(parts, "a", 10)
    ledger.append_failure = DependencyUnavailable("The journal is away.")
    with pytest.raises(DependencyUnavailable):
        await _settle(parts, "a", 10)
    assert await _day(parts) == (0, 10)
    ledger.loses_answers = True
    with pytest.raises(DependencyUnavailable):
        await _settle(parts, "a", 10)
    ledger.append_failure = None
    await _settle(parts, "a", 10)
    assert await _day(parts) == (10, 0)
    assert sum(each.usage.cost_micros for each in ledger.firsts().values()) == 10


async def test_another_time_zone_begins_with_what_was_spent_in_its_day(
    parts: GovernorParts, clock: FakeClock
) -> None:
    """A day that begins elsewhere has what was settled since then."""
    await _settle(parts, "a", 100)
    await clock.advance(3600)
    await _settle(parts, "b", 10)
    assert await _day(parts) == (10, 0)
    budget = _lines()
    parts.budgets.put(
        Budget(budget.scope, budget.window, budget.limit_micros, time_zone="America/New_York")
    )
    assert await _day(parts) == (110, 0)


async def test_clock_that_is_put_forward_and_back_loses_nothing(
    line: RedisLine, ledger: ScriptedLedger
) -> None:
    """Windows follow the clock; what was reserved by one that is ahead expires by it."""
    right, ahead = FakeClock(_START), FakeClock(_START + timedelta(days=40))
    early, late = (governor_parts(line, each, ledger, _DEFAULTS) for each in (right, ahead))
    await _admit(early, "a", 100)
    await _settle(late, "b", 10)
    # By the other clock it has expired; what was used is counted when it is known.
    assert await _day(early) == (0, 0)
    await _settle(early, "a", 100)
    assert await _day(early) == (100, 0)
    assert await _day(late) == (10, 0)
    for parts in (early, late):
        for each in await parts.standings.spend("acme"):
            balance = ledger.balance_now(each.budget.scope, each.window.start, each.window.end)
            assert each.standing.spent_micros == balance.spent_micros


_AGENT = Scope(ScopeKind.AGENT, "acme", "helper")


async def _agent_day(parts: GovernorParts) -> tuple[int, int]:
    (each,) = await parts.standings.of(parts.budgets.stored("acme"))
    return each.standing.spent_micros, each.standing.reserved_micros


async def test_budget_that_is_removed_and_set_again_has_what_was_spent_meanwhile(
    parts: GovernorParts, clock: FakeClock
) -> None:
    """Its counter was not fed, and is not believed; what is reserved in it stays."""
    budget = Budget(_AGENT, WindowKind.DAY, 900)
    parts.budgets.put(budget, 1)
    await _admit(parts, "a", 10, agent="helper")
    await _admit(parts, "under way", 70, agent="helper")
    await clock.advance(10)
    await _settle(parts, "a", 10, agent="helper", called_at=clock.now())
    assert await _agent_day(parts) == (10, 70)
    parts.budgets.remove((_AGENT, WindowKind.DAY), 2)
    await _admit(parts, "b", 400, agent="helper")
    await _settle(parts, "b", 400, agent="helper", called_at=clock.now())
    parts.budgets.put(budget, 3)
    assert not isinstance(await _admit(parts, "c", 421, agent="helper"), Allowed)
    assert isinstance(await _admit(parts, "c", 420, agent="helper"), Allowed)
    assert await _agent_day(parts) == (410, 490)


async def test_time_zone_that_is_changed_there_and_back_loses_nothing(
    parts: GovernorParts, clock: FakeClock
) -> None:
    """The first zone's day was not fed while another one's was."""
    for word, (zone, key, spent) in enumerate(
        (("", "a", 10), ("Asia/Tokyo", "b", 410), ("", "c", 416)), start=1
    ):
        parts.budgets.put(Budget(_AGENT, WindowKind.DAY, 900, time_zone=zone), word)
        await _admit(parts, key, 1, agent="helper")
        await clock.advance(10)
        tokens = {"a": 10, "b": 400, "c": 6}[key]
        await _settle(parts, key, tokens, agent="helper", called_at=clock.now())
        assert await _agent_day(parts) == (spent, 0)


async def test_settlement_is_counted_under_a_budget_that_its_governor_has_not_heard_of(
    line: RedisLine, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """It catches up first: nothing is settled beside a budget that others count under."""
    heard = {"late": 0}
    early, late = Budgets(_DEFAULTS), Budgets(_DEFAULTS)
    budget = Budget(_AGENT, WindowKind.DAY, 900)

    async def reach(place: int) -> None:
        late.put(budget, place)
        heard["late"] = place

    one = governor_parts(line, clock, ledger, _DEFAULTS, budgets=early, budgets_known=lambda: 7)
    other = governor_parts(
        line,
        clock,
        ledger,
        _DEFAULTS,
        budgets=late,
        budgets_known=lambda: heard["late"],
        reach_budgets=reach,
    )
    await _admit(other, "a", 400, agent="helper")
    await clock.advance(10)
    early.put(budget, 7)
    # As soon as anybody counts under it, though nobody was told.
    assert await _agent_day(one) == (0, 0)
    await clock.advance(10)
    await _settle(other, "a", 400, agent="helper", called_at=clock.now())
    assert await _agent_day(one) == (400, 0)
    assert len(ledger.messages) == 1


async def test_counter_that_is_not_open_holds_up_no_other_item(
    parts: GovernorParts, ledger: ScriptedLedger
) -> None:
    """A slow ledger is waited for a quarter of a second; its answer then serves who asks next."""
    await _admit(parts, "a", 1)
    free = asyncio.Event()
    balance = ledger.balance

    async def slow(*asked: Any) -> Any:
        await free.wait()
        return await balance(*asked)

    ledger.balance = slow  # type: ignore[method-assign]
    calls = [PlannedCall(tenant, "x", "unit", 1, 0) for tenant in ("acme", "newcomer")]
    async with asyncio.timeout(5):
        known, unknown = await parts.governor.admit(calls)
        with pytest.raises(DependencyUnavailable) as refused:
            await parts.governor.lease(WantedLease("newcomer", "l", 10))
    assert isinstance(known, Allowed)
    for error in (unknown, refused.value):
        assert isinstance(error, DependencyUnavailable)
        assert error.metadata == {"dependency": "ledger"}
    free.set()

    async def opened() -> bool:
        (again,) = await parts.governor.admit(calls[1:])
        assert isinstance(again, Allowed)
        return True

    await eventually(opened)
    # Day and month, once each.
    assert ledger.asked == 4


async def test_next_windows_of_budgets_in_use_are_open_when_they_begin(
    parts: GovernorParts, ledger: ScriptedLedger, clock: FakeClock
) -> None:
    """The first calls of a day need no ledger; budgets that nobody used are left alone."""
    await _admit(parts, "a", 10)
    looking = asyncio.create_task(
        NextWindows(parts.scopes, parts.counters, parts.openings, clock).run()
    )
    opening = asyncio.create_task(parts.openings.run())
    # Until it begins to wait.
    await clock.advance(0)
    before = ledger.asked
    await clock.advance(240)
    assert ledger.asked == before
    await clock.advance(60)

    async def opened() -> bool:
        # The last day of the month and the month end together.
        assert ledger.asked == before + 2
        return True

    await eventually(opened)
    await clock.advance(60)
    ledger.failure = DependencyUnavailable("The ledger is away.")
    await clock.advance(300)
    assert isinstance(await _admit(parts, "b", 10), Allowed)
    for each in (looking, opening):
        each.cancel()
        with suppress(asyncio.CancelledError):
            await each


async def test_journal_that_was_created_anew_is_counted_from_its_beginning(
    parts: GovernorParts, ledger: ScriptedLedger, clock: FakeClock
) -> None:
    """Its places are small again: counters of the one before are opened anew."""
    for _ in range(20):
        ledger.messages.append([])
    await _admit(parts, "a", 10)
    await _settle(parts, "a", 10)
    await clock.advance(60)
    ledger.messages.clear()
    ledger.age += 1
    spent = 0
    for number in range(15):
        if isinstance(await _admit(parts, f"b{number}", 300), Allowed):
            await _settle(parts, f"b{number}", 300, called_at=clock.now())
            spent += 300
    assert spent == 900
    assert await _day(parts) == (900, 0)


async def test_governor_that_knows_an_older_journal_finds_out_before_it_goes_on(
    parts: GovernorParts, ledger: ScriptedLedger, line: RedisLine, clock: FakeClock
) -> None:
    """What it settles is refused once, to be repeated, and counted by the new places."""

    class Late(ScriptedLedger):
        """Does not notice by itself."""

        async def refresh(self) -> None:
            self.age = ledger.age

    late = Late()
    late.messages = ledger.messages  # type: ignore[misc]
    other = governor_parts(line, clock, late, _DEFAULTS)
    await _settle(other, "a", 10)
    ledger.age += 1
    assert await _day(parts) == (10, 0)
    with pytest.raises(DependencyUnavailable):
        await _settle(other, "b", 5)
    await _settle(other, "b", 5)
    assert await _day(parts) == (15, 0)


async def test_redis_that_comes_back_older_than_it_was_is_not_believed(
    parts: GovernorParts, store: Redis, clock: FakeClock
) -> None:
    """A replica, or a file, that misses the last settlements: the ledger has them."""
    redis = cast(Any, store)
    await _admit(parts, "a", 10)
    await _settle(parts, "a", 10, called_at=clock.now())
    await clock.advance(10)
    before = {key: await redis.dump(key) for key in await redis.keys("*")}
    await _admit(parts, "b", 400)
    await _settle(parts, "b", 400, called_at=clock.now())
    await redis.flushall()
    for key, value in before.items():
        await redis.restore(key, 0, value)
    await clock.advance(10)
    assert await _day(parts) == (410, 0)
    assert not isinstance(await _admit(parts, "c", 591), Allowed)
    await _settle(parts, "d", 5, called_at=clock.now())
    assert await _day(parts) == (415, 0)


async def test_settlement_without_a_time_may_be_a_repeat_of_long_ago(
    parts: GovernorParts, store: Redis, clock: FakeClock
) -> None:
    """The ledger is asked; and no call ended later than now."""
    await _settle(parts, "a", 10)
    await cast(Any, store).flushall()
    assert await _day(parts) == (10, 0)
    await clock.advance(5)
    await _settle(parts, "a", 10)
    assert await _day(parts) == (10, 0)
    await cast(Any, store).flushall()
    assert await _day(parts) == (10, 0)
    await _settle(parts, "a", 10, called_at=clock.now() + timedelta(days=1))
    assert await _day(parts) == (10, 0)


async def test_settlement_that_redis_does_not_remember_any_more_is_found_in_the_ledger(
    line: RedisLine, store: Redis, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """A repeat that comes after an hour is charged once."""
    parts = governor_parts(line, clock, ledger, _DEFAULTS, remember_settled_seconds=3_600)
    # No window ends soon.
    await clock.advance(7_200)
    await _admit(parts, "open", 1)
    await clock.advance(60)
    called_at = clock.now()
    await _settle(parts, "a", 10, called_at=called_at)
    key = "governor:{spend}:call:acme/a"
    assert 3_590 <= await cast(Any, store).ttl(key) <= 3_600
    await cast(Any, store).delete(key)
    await clock.advance(3_600)
    asked = ledger.asked
    await _settle(parts, "a", 10, called_at=called_at)
    assert ledger.asked > asked
    assert await _day(parts) == (10, 0)


async def test_governor_whose_clock_is_ahead_gives_back_nothing_of_others(
    line: RedisLine, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """Reservations expire by Redis' own time."""
    ahead = FakeClock(_START + timedelta(minutes=9))
    one, other = (
        governor_parts(line, each, ledger, _DEFAULTS, reservation_seconds=60, expires_by_redis=True)
        for each in (clock, ahead)
    )
    assert isinstance(await _admit(one, "a", 800), Allowed)
    assert not isinstance(await _admit(other, "b", 800), Allowed)
    assert await _day(other) == (0, 800)


async def test_lease_and_call_of_one_name_are_two_things(parts: GovernorParts) -> None:
    """Each is reserved by itself; a settlement of the call leaves the lease alone, and a release
    gives the call back first."""
    await _admit(parts, "k", 100)
    assert (await _lease(parts, "k", 150)).micros == 150
    assert (await _lease(parts, "k", 150)).micros == 150
    assert await _day(parts) == (0, 250)
    await _settle(parts, "k", 30)
    assert await _day(parts) == (30, 150)
    assert await parts.governor.release("acme", "k", 150) == 0
    await _admit(parts, "n", 50)
    await _lease(parts, "n", 60)
    assert await parts.governor.release("acme", "n") == 50
    assert await parts.governor.release("acme", "n") == 60
    assert await _day(parts) == (30, 150)
