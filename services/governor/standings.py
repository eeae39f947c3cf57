"""Where budgets stand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from meshkit.clock import Clock
from meshkit.errors import BudgetNotFound, DependencyUnavailable
from services.governor.account import Counter, Counters, Standing
from services.governor.budget import Budget, Place, Scope, ScopeKind, budget_name
from services.governor.budgets import Budgets
from services.governor.openings import Openings
from services.governor.scopes import Scopes
from services.governor.window import Window, WindowKind

_TURNS: Final = 4


@dataclass(frozen=True, slots=True)
class BudgetStanding:
    """A budget, its present window, and what is spent and reserved in it."""

    budget: Budget
    window: Window
    standing: Standing


class Standings:
    """Reads counters, and opens those that are not there."""

    def __init__(
        self,
        budgets: Budgets,
        scopes: Scopes,
        counters: Counters,
        openings: Openings,
        clock: Clock,
    ) -> None:
        self._budgets: Final = budgets
        self._scopes: Final = scopes
        self._counters: Final = counters
        self._openings: Final = openings
        self._clock: Final = clock

    async def spend(self, tenant: str) -> tuple[BudgetStanding, BudgetStanding]:
        """What the tenant spent in the present day and month. Raises DependencyUnavailable."""
        scope = Scope(ScopeKind.TENANT, tenant)
        day, month = await self.of(
            [self._budget((scope, WindowKind.DAY)), self._budget((scope, WindowKind.MONTH))]
        )
        return day, month

    async def at(self, place: Place) -> BudgetStanding:
        """Where the budget in that place stands. Raises BudgetNotFound, DependencyUnavailable."""
        (standing,) = await self.of([self._budget(place)])
        return standing

    async def of(self, budgets: Sequence[Budget]) -> list[BudgetStanding]:
        """Where these stand, in order. Raises DependencyUnavailable."""
        now = self._clock.now()
        counters = [self._scopes.counter(budget, now) for budget in budgets]
        return [
            BudgetStanding(counter.budget, counter.window, standing)
            for counter, standing in zip(counters, await self._read(counters), strict=True)
        ]

    async def _read(self, counters: Sequence[Counter]) -> list[Standing]:
        for _ in range(_TURNS):
            found = await self._counters.read(counters)
            missing = [
                counter for counter, each in zip(counters, found, strict=True) if each is None
            ]
            if not missing:
                return [each for each in found if each is not None]
            await self._openings.open(missing)
        raise DependencyUnavailable(
            "Counters are lost as soon as they are opened: Redis forgets.",
            metadata={"dependency": "redis"},
        )

    def _budget(self, place: Place) -> Budget:
        budget = self._budgets.get(place)
        if budget is None:
            raise BudgetNotFound(f"There is no budget {budget_name(*place)!r}.")
        return budget
