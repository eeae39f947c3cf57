"""Test-only: a governor on a real Redis, put together in one call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from meshkit.clock import Clock
from meshkit.errors import DependencyUnavailable
from meshkit.redis_line import RedisLine
from services.governor.account import (
    Charge,
    Charged,
    ChargedOtherwise,
    Counter,
    Decision,
    Unsure,
    Wish,
)
from services.governor.admission import Admission, Terms
from services.governor.budget import NO_LINES, Budget, Scope, ScopeKind, Thresholds
from services.governor.budgets import Budgets
from services.governor.counters_redis import RedisCounters
from services.governor.leasing import Leasing
from services.governor.openings import Openings
from services.governor.outdated import ReachBudgets
from services.governor.price_book import ModelPrice, PriceBook, PriceVersion
from services.governor.prompt_openings import PromptOpenings
from services.governor.scopes import Scopes
from services.governor.scripted_ledger import ScriptedLedger
from services.governor.settling import Settling
from services.governor.standings import Standings
from services.governor.window import WindowKind

_UNIT: Final = ModelPrice(1_000_000, 1_000_000, 1_000_000, 0, 0)
# Beyond any place that a test gives a budget.
_ALL_BUDGETS: Final = 1_000_000
_FREE: Final = ModelPrice(0, 0, 0, 0, 0)


def unit_prices() -> PriceBook:
    """A token of `unit` costs one micro-USD, so that tokens can be read as money.

    In version 1 it cost two.
    """
    dear = ModelPrice(2_000_000, 2_000_000, 2_000_000, 0, 0)
    return PriceBook(
        [
            PriceVersion("1", date(2026, 1, 1), {"unit": dear}),
            PriceVersion("2", date(2026, 2, 1), {"unit": _UNIT, "offline": _FREE}),
        ]
    )


@dataclass(frozen=True, slots=True)
class Defaults:
    """The budgets that every tenant has."""

    day_micros: int
    month_micros: int
    thresholds: Thresholds = NO_LINES

    def __call__(self, tenant: str) -> Sequence[Budget]:
        scope = Scope(ScopeKind.TENANT, tenant)
        return [
            Budget(scope, WindowKind.DAY, self.day_micros, thresholds=self.thresholds),
            Budget(scope, WindowKind.MONTH, self.month_micros, thresholds=self.thresholds),
        ]


class FlakyCounters(RedisCounters):
    """Counters of a governor that may die around a settlement."""

    # What the next settlement meets: `dies` before it is counted, or is `unheard` after.
    fault = ""

    async def settle(
        self, charges: Sequence[Charge]
    ) -> tuple[Sequence[Charged | ChargedOtherwise | Unsure], Sequence[Counter]]:
        """Counts, unless it dies before."""
        fault, self.fault = self.fault, ""
        if fault == "dies":
            raise DependencyUnavailable("It died before it counted.")
        answer = await super().settle(charges)
        if fault == "unheard":
            raise DependencyUnavailable("Nobody heard the answer.")
        return answer


@dataclass(frozen=True, slots=True)
class GovernorParts:
    """A governor, and what it was made of."""

    admission: Admission
    leasing: Leasing
    settling: Settling
    standings: Standings
    budgets: Budgets
    scopes: Scopes
    counters: "FlakyCounters"
    openings: Openings
    ledger: ScriptedLedger


async def _reach_nothing(_: int) -> None:
    return


def governor_parts(
    line: RedisLine,
    clock: Clock,
    ledger: ScriptedLedger,
    defaults: Defaults,
    *,
    prices: PriceBook | None = None,
    budgets: Budgets | None = None,
    tiers: frozenset[int] = frozenset(),
    reservation_seconds: int = 600,
    notice: Callable[[Wish, Decision], None] = lambda wish, decision: None,
    remember_settled_seconds: int = 172_800,
    expires_by_redis: bool = False,
    # A machine that is busy with tests may take long.
    opened_within_seconds: float = 5.0,
    budgets_known: Callable[[], int] = lambda: _ALL_BUDGETS,
    reach_budgets: ReachBudgets = _reach_nothing,
) -> GovernorParts:
    """A governor whose ledger is `ledger`. Several may share all of these."""
    budgets = budgets or Budgets(defaults)
    scopes = Scopes(budgets)
    counters = FlakyCounters(
        line,
        clock,
        remember_settled_seconds=remember_settled_seconds,
        budgets_known=budgets_known,
        streams=ledger,
        expires_by=None if expires_by_redis else clock,
    )
    openings = Openings(counters, ledger, clock)
    prices = prices or unit_prices()
    prompt = PromptOpenings(openings, within_seconds=opened_within_seconds)
    admission = Admission(
        prices=prices,
        scopes=scopes,
        tiers=lambda _: tiers,
        profiles=ledger,
        counters=counters,
        openings=prompt,
        reach_budgets=reach_budgets,
        clock=clock,
        terms=Terms(reservation_seconds, 10.0),
        notice=notice,
    )
    leasing = Leasing(
        prices=prices,
        scopes=scopes,
        tiers=lambda _: tiers,
        has_sessions=budgets.has_sessions,
        counters=counters,
        openings=prompt,
        reach_budgets=reach_budgets,
        clock=clock,
        lease_seconds=reservation_seconds,
    )
    settling = Settling(
        prices=prices,
        scopes=scopes,
        counters=counters,
        openings=openings,
        journal=ledger,
        first_records=ledger,
        reach_budgets=reach_budgets,
        clock=clock,
    )
    standings = Standings(budgets, scopes, counters, openings, reach_budgets, clock)
    return GovernorParts(
        admission, leasing, settling, standings, budgets, scopes, counters, openings, ledger
    )
