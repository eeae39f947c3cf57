"""Lines below the limit, the budgets they belong to, tiers and prices: on a real Redis."""

from typing import Any

import pytest

from meshkit.errors import AlreadySettled, InvalidField
from meshkit.redis_line import RedisLine
from meshtest.clock import FakeClock
from services.governor.budget import Budget, Scope, ScopeKind, Thresholds
from services.governor.calls import Allowed, Delayed, Denied, PlannedCall, SentLower, Settlement
from services.governor.governor_parts import GovernorParts, governor_parts
from services.governor.rule_calls import (
    BALANCED,
    DAY,
    DEFAULTS,
    EXPIRES,
    FAST,
    POWERFUL,
    Used,
    admit,
    lines,
    settle,
    take_lease,
    today,
)
from services.governor.scripted_ledger import ScriptedLedger
from services.governor.window import WindowKind

pytest_plugins = ["services.governor.fixture_governor", "services.governor.fixture_rules"]


async def test_budget_that_is_nearly_spent_sends_calls_to_the_next_lower_tier(
    parts: GovernorParts,
) -> None:
    """It is reserved all the same, a repeat gets the same answer, and the lowest tier goes on."""
    parts.budgets.put(lines(degrade=50))
    assert await admit(parts, "a", 500, tier=POWERFUL) == Allowed("a", 500, EXPIRES, "2")
    degraded = Allowed(
        "b",
        100,
        EXPIRES,
        "2",
        degrade_to=BALANCED,
        budget=DAY,
        explanation=(
            f"{DAY} allows 0.001 USD; 0.00 USD are spent and 0.0006 USD reserved:"
            " from 50 % on cheaper tiers are used."
        ),
    )
    assert await admit(parts, "b", 100, tier=POWERFUL) == degraded
    assert await admit(parts, "b", 100, tier=POWERFUL) == degraded
    assert await today(parts) == (0, 600)
    for key, tier in (("c", FAST), ("d", 0)):
        verdict = await admit(parts, key, 100, tier=tier)
        assert isinstance(verdict, Allowed)
        assert verdict.degrade_to == 0


async def test_budget_slows_down_what_nobody_waits_for(parts: GovernorParts) -> None:
    """Interactive work goes on up to the shutoff; nothing is reserved for what is slowed down."""
    parts.budgets.put(lines(throttle=60, shutoff=90))
    await admit(parts, "a", 600)
    assert await admit(parts, "b", 1) == Delayed(
        DAY,
        10.0,
        f"{DAY} allows 0.001 USD; 0.00 USD are spent and 0.0006 USD reserved:"
        " from 60 % on only interactive work goes on.",
    )
    assert isinstance(await admit(parts, "b", 300, interactive=True), Allowed)
    denied = await admit(parts, "c", 1, interactive=True)
    assert isinstance(denied, Delayed)
    assert denied.explanation == (
        f"{DAY} allows 0.0009 USD (90 % of 0.001 USD); 0.00 USD are spent and 0.0009 USD"
        " reserved, so that 0.000001 USD more do not fit. There is room again when calls under way"
        " have ended."
    )
    assert await today(parts) == (0, 900)


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
    denied = await admit(parts, "a", 51, **whole)
    assert isinstance(denied, Denied)
    assert denied.budget == budget.name
    assert await today(parts) == (0, 0)
    assert isinstance(await admit(parts, "a", 50, **whole), Allowed)
    other = PlannedCall("other", "a", "unit", 51, 0, task_type="draw", agent="o", session="s2")
    (verdict,) = await parts.admission.admit([other])
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
    sent = await admit(parts, "a", 101, tier=POWERFUL)
    assert isinstance(sent, SentLower)
    assert sent.budget == "tenants/acme/budgets/tenant-month"


async def test_tier_that_a_tenant_may_not_use_is_replaced_or_refused(
    line: RedisLine, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """By the highest allowed one below it; without one the call cannot be made."""
    tiers = frozenset({BALANCED})
    parts = governor_parts(line, clock, ledger, DEFAULTS, tiers=tiers)
    text = "The tenant acme may use BALANCED models only."
    assert await admit(parts, "a", 10, tier=POWERFUL) == Allowed(
        "a", 10, EXPIRES, "2", BALANCED, "tenants/acme", text
    )
    assert await admit(parts, "b", 10, tier=BALANCED) == Allowed("b", 10, EXPIRES, "2")
    assert await admit(parts, "c", 10, tier=FAST) == Denied(
        "tenants/acme",
        None,
        "The tenant acme may use BALANCED models only, and not those of the FAST tier or below.",
    )
    assert (await take_lease(parts, "l", 100)).tiers == tiers
    assert await today(parts) == (0, 120)


async def test_so_much_is_reserved_as_calls_of_a_kind_used_until_it_gets_close(
    parts: GovernorParts, ledger: ScriptedLedger
) -> None:
    """From 80 percent on it is the most that the call can cost, and a denial goes by the most that
    all calls under way can cost."""
    ledger.profiles["acme", "chat", FAST] = Used(110)
    call: dict[str, Any] = {"tier": FAST, "max_output_tokens": 300}
    assert await admit(parts, "a", 10, **call) == Allowed("a", 120, EXPIRES, "2")
    await settle(parts, "b", 375)
    assert await admit(parts, "c", 10, **call) == Allowed("c", 310, EXPIRES, "2")
    assert await today(parts) == (375, 430)
    denied = await admit(parts, "d", 10, **call)
    assert not isinstance(denied, Allowed)
    assert "0.000375 USD are spent and 0.00062 USD reserved, so that 0.00031" in denied.explanation
    other = await admit(parts, "e", 10, tier=FAST, max_output_tokens=40)
    assert not isinstance(other, Allowed)
    await parts.leasing.release("acme", "c")
    other = await admit(parts, "e", 10, tier=FAST, max_output_tokens=40)
    assert isinstance(other, Allowed)
    assert other.reserved_micros == 50


async def test_calls_that_all_cost_more_than_was_likely_pass_no_limit(
    parts: GovernorParts, ledger: ScriptedLedger
) -> None:
    """Below its line a budget reserves little, but never lets in more than all can cost."""
    ledger.profiles["acme", "chat", FAST] = Used(50)
    call: dict[str, Any] = {"tier": FAST, "max_output_tokens": 100}
    verdicts = [await admit(parts, f"k{number}", 0, **call) for number in range(40)]
    keys = [each.key for each in verdicts if isinstance(each, Allowed)]
    assert len(keys) == 10
    assert await today(parts) == (0, 500)
    # Who asks what still fits is told of all that they can cost.
    day, _ = await parts.standings.spend("acme")
    assert day.standing.committed_micros == 1000
    assert not isinstance(verdicts[-1], Allowed)
    # What one did not use is free for another.
    await settle(parts, keys[0], 40)
    assert isinstance(await admit(parts, "more", 0, tier=FAST, max_output_tokens=60), Allowed)
    for key in keys[1:]:
        await settle(parts, key, 100)
    await settle(parts, "more", 60)
    assert await today(parts) == (1000, 0)


async def test_call_is_reckoned_by_the_prices_it_was_admitted_by(parts: GovernorParts) -> None:
    """New reservations go by the newest; a version that never was is refused."""
    assert await admit(parts, "a", 10) == Allowed("a", 10, EXPIRES, "2")
    assert await settle(parts, "a", 10, price_version="1") == Settlement(20, repeated=False)
    assert await settle(parts, "b", 10) == Settlement(10, repeated=False)
    with pytest.raises(InvalidField) as caught:
        await settle(parts, "c", 10, price_version="3")
    assert [each.field for each in caught.value.violations] == ["price_version"]
    assert [each.price_version for each in parts.ledger.firsts().values()] == ["1", "2"]
    assert await today(parts) == (30, 0)


async def test_settlement_of_more_than_was_reserved_is_counted_whole(parts: GovernorParts) -> None:
    """What was used is paid, though the limit is passed by it; the next call is denied."""
    await admit(parts, "a", 900)
    assert await settle(parts, "a", 1500) == Settlement(1500, repeated=False)
    assert await today(parts) == (1500, 0)
    assert isinstance(await admit(parts, "b", 1), Denied)


async def test_settlement_of_an_unknown_reservation_is_counted(parts: GovernorParts) -> None:
    """And known from then on: with other figures it is refused, and the ledger has the first."""
    assert await settle(parts, "never-admitted", 10) == Settlement(10, repeated=False)
    with pytest.raises(AlreadySettled):
        await settle(parts, "never-admitted", 11)
    assert await today(parts) == (10, 0)
    assert [each.usage.cost_micros for each in parts.ledger.firsts().values()] == [10]
