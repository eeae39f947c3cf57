"""Leases, and reservations that are given back in part: on a real Redis."""

from dataclasses import replace
from datetime import timedelta

from meshtest.clock import FakeClock
from services.governor.budget import Budget, Scope, ScopeKind, Thresholds
from services.governor.calls import Allowed, Lease, Settlement, WantedLease
from services.governor.governor_parts import GovernorParts
from services.governor.rule_calls import EXPIRES, FAST, Used, admit, settle, take_lease, today
from services.governor.scripted_ledger import ScriptedLedger
from services.governor.window import WindowKind

pytest_plugins = ["services.governor.fixture_governor", "services.governor.fixture_rules"]


async def test_lease_reserves_and_its_settlements_take_its_place(
    parts: GovernorParts, clock: FakeClock
) -> None:
    """What it had set aside for a call is spent or free; the rest stays until it is given back."""
    assert await take_lease(parts, "l", 200) == Lease(
        "l", 200, EXPIRES, "2", 0.0, admit_sessions=False, tiers=frozenset()
    )
    assert (await take_lease(parts, "l", 100)).micros == 200
    assert await today(parts) == (0, 200)
    await settle(parts, "a", 30, lease="l", leased_micros=50)
    assert await today(parts) == (30, 150)
    assert await settle(parts, "a", 30, lease="l", leased_micros=50) == Settlement(
        30, repeated=True
    )
    assert await today(parts) == (30, 150)
    assert await parts.leasing.release("acme", "l", 40) == 110
    assert await parts.leasing.release("acme", "l", 40) == 0
    assert await today(parts) == (30, 40)
    # More than there is: it used more than was set aside.
    await settle(parts, "b", 70, lease="l", leased_micros=70)
    assert await today(parts) == (100, 0)
    await clock.advance(600)
    await settle(parts, "c", 5, lease="l", leased_micros=5)
    day, month = await parts.standings.spend("acme")
    assert (day.standing.spent_micros, day.standing.reserved_micros) == (5, 0)
    assert (month.standing.spent_micros, month.standing.reserved_micros) == (5, 0)


async def test_lease_that_is_not_used_expires(parts: GovernorParts, clock: FakeClock) -> None:
    """Nothing stays reserved for one whose holder is gone."""
    await take_lease(parts, "l", 200)
    await clock.advance(600)
    assert await today(parts) == (0, 0)
    assert await parts.leasing.release("acme", "l") == 0


async def test_no_lease_outlasts_a_window(parts: GovernorParts, clock: FakeClock) -> None:
    """Nothing is set aside for it in the next one; calls under way keep theirs in the month."""
    await clock.advance(570)
    wanted = WantedLease("other", "l", 200)
    parts.budgets.put(
        Budget(Scope(ScopeKind.TENANT, "other"), WindowKind.DAY, 1000, "America/New_York")
    )
    parts.budgets.put(
        Budget(Scope(ScopeKind.TENANT, "other"), WindowKind.MONTH, 9000, "America/New_York")
    )
    assert (await parts.leasing.lease(wanted)).expires_at == EXPIRES + timedelta(seconds=570)
    parts.budgets.put(Budget(Scope(ScopeKind.TENANT, "other"), WindowKind.DAY, 1000))
    late = await parts.leasing.lease(replace(wanted, lease="m"))
    assert (late.micros, late.expires_at) == (200, EXPIRES)
    await clock.advance(60)
    day, month = await parts.standings.spend("other")
    assert (day.standing.reserved_micros, month.standing.reserved_micros) == (0, 400)


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
    lease = await take_lease(parts, "l", 500)
    assert (lease.micros, lease.admit_sessions) == (100, True)
    assert (await take_lease(parts, "m", 50)).micros == 50
    await admit(parts, "a", 250, agent="helper")
    none = await take_lease(parts, "n", 50)
    assert (none.micros, none.retry_after_seconds) == (0, 5.0)
    assert await today(parts) == (0, 400)


async def test_release_of_a_part_keeps_what_the_rest_may_cost(
    parts: GovernorParts, ledger: ScriptedLedger
) -> None:
    """What is kept is kept in what is likely and in the most; all given back frees both."""
    ledger.profiles["acme", "chat", FAST] = Used(50)
    await admit(parts, "a", 0, tier=FAST, max_output_tokens=600)
    assert await parts.leasing.release("acme", "a", 300) == 0
    assert await today(parts) == (0, 50)
    assert not isinstance(await admit(parts, "b", 701), Allowed)
    assert isinstance(await admit(parts, "b", 700), Allowed)
    assert await parts.leasing.release("acme", "a") == 50
    assert isinstance(await admit(parts, "c", 300), Allowed)


async def test_lease_and_call_of_one_name_are_two_things(parts: GovernorParts) -> None:
    """Each is reserved by itself; a settlement of the call leaves the lease alone, and a release
    gives the call back first."""
    await admit(parts, "k", 100)
    assert (await take_lease(parts, "k", 150)).micros == 150
    assert (await take_lease(parts, "k", 150)).micros == 150
    assert await today(parts) == (0, 250)
    await settle(parts, "k", 30)
    assert await today(parts) == (30, 150)
    assert await parts.leasing.release("acme", "k", 150) == 0
    await admit(parts, "n", 50)
    await take_lease(parts, "n", 60)
    assert await parts.leasing.release("acme", "n") == 50
    assert await parts.leasing.release("acme", "n") == 60
    assert await today(parts) == (30, 150)
