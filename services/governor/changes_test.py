"""Budgets and windows that change while they are used: on a real Redis."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from meshkit import identity
from meshkit.errors import DependencyUnavailable
from meshkit.redis_line import RedisLine
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from services.governor.budget import Budget, Scope, ScopeKind
from services.governor.budget_service import BudgetService
from services.governor.budgets import Budgets
from services.governor.calls import Allowed
from services.governor.governor_parts import GovernorParts, governor_parts
from services.governor.next_windows import NextWindows
from services.governor.rule_calls import DEFAULTS, START, admit, lines, settle, today
from services.governor.scripted_ledger import ScriptedLedger
from services.governor.window import WindowKind

pytest_plugins = ["services.governor.fixture_governor", "services.governor.fixture_rules"]

_AGENT = Scope(ScopeKind.AGENT, "acme", "helper")


async def test_another_time_zone_begins_with_what_was_spent_in_its_day(
    parts: GovernorParts, clock: FakeClock
) -> None:
    """A day that begins elsewhere has what was settled since then."""
    await settle(parts, "a", 100)
    await clock.advance(3600)
    await settle(parts, "b", 10)
    assert await today(parts) == (10, 0)
    budget = lines()
    parts.budgets.put(
        Budget(budget.scope, budget.window, budget.limit_micros, time_zone="America/New_York")
    )
    assert await today(parts) == (110, 0)


async def test_clock_that_is_put_forward_and_back_loses_nothing(
    line: RedisLine, ledger: ScriptedLedger
) -> None:
    """Windows follow the clock; what was reserved by one that is ahead expires by it."""
    right, ahead = FakeClock(START), FakeClock(START + timedelta(days=40))
    early, late = (governor_parts(line, each, ledger, DEFAULTS) for each in (right, ahead))
    await admit(early, "a", 100)
    await settle(late, "b", 10)
    # By the other clock it has expired; what was used is counted when it is known.
    assert await today(early) == (0, 0)
    await settle(early, "a", 100)
    assert await today(early) == (100, 0)
    assert await today(late) == (10, 0)
    for parts in (early, late):
        for each in await parts.standings.spend("acme"):
            balance = ledger.balance_now(each.budget.scope, each.window.start, each.window.end)
            assert each.standing.spent_micros == balance.spent_micros


async def _agent_day(parts: GovernorParts) -> tuple[int, int]:
    (each,) = await parts.standings.of(lambda: parts.budgets.stored("acme"))
    return each.standing.spent_micros, each.standing.reserved_micros


async def test_budget_that_is_removed_and_set_again_has_what_was_spent_meanwhile(
    parts: GovernorParts, clock: FakeClock
) -> None:
    """Its counter was not fed, and is not believed; what is reserved in it stays."""
    budget = Budget(_AGENT, WindowKind.DAY, 900)
    parts.budgets.put(budget, 1)
    await admit(parts, "a", 10, agent="helper")
    await admit(parts, "under way", 70, agent="helper")
    await clock.advance(10)
    await settle(parts, "a", 10, agent="helper", called_at=clock.now())
    assert await _agent_day(parts) == (10, 70)
    parts.budgets.remove((_AGENT, WindowKind.DAY), 2)
    await admit(parts, "b", 400, agent="helper")
    await settle(parts, "b", 400, agent="helper", called_at=clock.now())
    parts.budgets.put(budget, 3)
    assert not isinstance(await admit(parts, "c", 421, agent="helper"), Allowed)
    assert isinstance(await admit(parts, "c", 420, agent="helper"), Allowed)
    assert await _agent_day(parts) == (410, 490)


async def test_time_zone_that_is_changed_there_and_back_loses_nothing(
    parts: GovernorParts, clock: FakeClock
) -> None:
    """The first zone's day was not fed while another one's was."""
    for word, (zone, key, spent) in enumerate(
        (("", "a", 10), ("Asia/Tokyo", "b", 410), ("", "c", 416)), start=1
    ):
        parts.budgets.put(Budget(_AGENT, WindowKind.DAY, 900, time_zone=zone), word)
        await admit(parts, key, 1, agent="helper")
        await clock.advance(10)
        tokens = {"a": 10, "b": 400, "c": 6}[key]
        await settle(parts, key, tokens, agent="helper", called_at=clock.now())
        assert await _agent_day(parts) == (spent, 0)


async def test_settlement_is_counted_under_a_budget_that_its_governor_has_not_heard_of(
    line: RedisLine, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """It catches up first: nothing is settled beside a budget that others count under."""
    heard = {"late": 0}
    early, late = Budgets(DEFAULTS), Budgets(DEFAULTS)
    budget = Budget(_AGENT, WindowKind.DAY, 900)

    async def reach(place: int) -> None:
        late.put(budget, place)
        heard["late"] = place

    one = governor_parts(line, clock, ledger, DEFAULTS, budgets=early, budgets_known=lambda: 7)
    other = governor_parts(
        line,
        clock,
        ledger,
        DEFAULTS,
        budgets=late,
        budgets_known=lambda: heard["late"],
        reach_budgets=reach,
    )
    await admit(other, "a", 400, agent="helper")
    await clock.advance(10)
    early.put(budget, 7)
    # As soon as anybody counts under it, though nobody was told.
    assert await _agent_day(one) == (0, 0)
    await clock.advance(10)
    await settle(other, "a", 400, agent="helper", called_at=clock.now())
    assert await _agent_day(one) == (400, 0)
    assert len(ledger.messages) == 1


async def test_a_list_has_the_budgets_that_its_governor_had_not_heard_of(
    line: RedisLine, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """Who has set one, changed one or deleted one finds it so at every governor."""
    known = Budgets(DEFAULTS)
    gone, changed = lines(500), Budget(_AGENT, WindowKind.DAY, 900)
    added = Budget(_AGENT, WindowKind.MONTH, 9_000)
    known.replace_all([gone, changed])
    heard = [3]

    async def reach(place: int) -> None:
        known.replace_all([replace(changed, limit_micros=901, etag="4"), added])
        heard.append(place)

    parts = governor_parts(
        line,
        clock,
        ledger,
        DEFAULTS,
        budgets=known,
        budgets_known=lambda: heard[-1],
        reach_budgets=reach,
    )
    nothing = cast(Any, None)
    service = BudgetService(
        known, nothing, parts.counters, parts.standings, nothing, lambda _: frozenset()
    )
    await parts.counters.note_budgets(6)
    with identity.use(identity.Identity("acme", "user:anna")):
        listed = await service.list(pb.ListBudgetsRequest(parent="tenants/acme", page_size=3))
    assert [(each.budget.name, each.budget.limit_micros) for each in listed.statuses] == [
        ("tenants/acme/budgets/agent-day-helper", 901),
        ("tenants/acme/budgets/agent-month-helper", 9_000),
        ("tenants/acme/budgets/tenant-day", DEFAULTS.day_micros),
    ]
    assert listed.next_page_token


async def test_next_windows_of_budgets_in_use_are_open_when_they_begin(
    parts: GovernorParts, ledger: ScriptedLedger, clock: FakeClock
) -> None:
    """The first calls of a day need no ledger; budgets that nobody used are left alone."""
    await admit(parts, "a", 10)
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
    assert isinstance(await admit(parts, "b", 10), Allowed)
    for each in (looking, opening):
        each.cancel()
        with suppress(asyncio.CancelledError):
            await each
