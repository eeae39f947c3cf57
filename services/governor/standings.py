"""Where budgets stand, and what they would say to a call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from meshkit.clock import Clock
from meshkit.errors import BudgetNotFound, DependencyUnavailable
from services.governor.account import Counter, Counters, Decision, Standing, Unopened, Wish
from services.governor.budget import Budget, Place, Scope, ScopeKind, budget_name
from services.governor.budgets import Budgets
from services.governor.openings import Openings
from services.governor.outdated import ReachBudgets, current
from services.governor.scopes import Kind, Scopes, task_counter
from services.governor.window import Window, WindowKind

_TURNS: Final = 4
# What is asked about is the least that a call can cost.
_LEAST_MICROS: Final = 1


@dataclass(frozen=True, slots=True)
class BudgetStanding:
    """A budget, its present window, and what is spent and reserved in it."""

    budget: Budget
    window: Window
    standing: Standing


@dataclass(frozen=True, slots=True)
class Question:
    """A call that somebody thinks of."""

    kind: Kind
    # Empty for none.
    task: str
    interactive: bool
    # There is a cheaper tier to go to.
    can_degrade: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would be decided on the least of such calls, and by what."""

    # The widest scope first.
    standings: Sequence[BudgetStanding]
    decision: Decision
    # What was weighed.
    wish: Wish


class Standings:
    """Reads counters, and opens those that are not there.

    Its methods raise DependencyUnavailable.
    """

    def __init__(
        self,
        budgets: Budgets,
        scopes: Scopes,
        counters: Counters,
        openings: Openings,
        reach_budgets: ReachBudgets,
        clock: Clock,
    ) -> None:
        self._budgets: Final = budgets
        self._scopes: Final = scopes
        self._counters: Final = counters
        self._openings: Final = openings
        self._reach_budgets: Final = reach_budgets
        self._clock: Final = clock

    async def spend(self, tenant: str) -> tuple[BudgetStanding, BudgetStanding]:
        """What the tenant spent in the present day and month."""
        scope = Scope(ScopeKind.TENANT, tenant)

        async def read() -> tuple[BudgetStanding, BudgetStanding]:
            places = (scope, WindowKind.DAY), (scope, WindowKind.MONTH)
            day, month = await self._of([self._budget(place) for place in places])
            return day, month

        return await current(read, self._reach_budgets)

    async def at(self, place: Place) -> BudgetStanding:
        """Where the budget in that place stands. Raises BudgetNotFound."""

        async def read() -> BudgetStanding:
            (standing,) = await self._of([self._budget(place)])
            return standing

        return await current(read, self._reach_budgets)

    async def of(self, budgets: Callable[[], Sequence[Budget]]) -> list[BudgetStanding]:
        """Where these stand, in order; asked again where newer ones are heard of meanwhile."""
        return await current(lambda: self._of(budgets()), self._reach_budgets)

    async def explain(self, question: Question) -> Explanation:
        """Every budget that such a call falls under, and which one decides."""
        return await current(lambda: self._explain(question), self._reach_budgets)

    async def _explain(self, question: Question) -> Explanation:
        now = self._clock.now()
        standings = await self._of(self._budgets.of(*question.kind))
        counters = self._scopes.of(question.kind, now)
        spent: int | None = None
        if question.task:
            cap = task_counter(question.kind.tenant, question.task, _LEAST_MICROS)
            (of_task,) = await self._counters.read([cap])
            # A task without a cap, or without a call so far, has no counter.
            if of_task is not None:
                cap = task_counter(question.kind.tenant, question.task, of_task.limit_micros)
                standings.append(BudgetStanding(cap.budget, cap.window, of_task))
                counters, spent = [cap, *counters], 0
        wish = Wish(
            tenant=question.kind.tenant,
            key="",
            likely_micros=_LEAST_MICROS,
            most_micros=_LEAST_MICROS,
            counters=counters,
            interactive=question.interactive,
            can_degrade=question.can_degrade,
            task_spent_micros=spent,
        )
        for _ in range(_TURNS):
            decision = await self._counters.weigh(wish)
            if not isinstance(decision, Unopened):
                return Explanation(standings, decision, wish)
            await self._openings.open(decision.counters)
        raise _counters_lost()

    async def _of(self, budgets: Sequence[Budget]) -> list[BudgetStanding]:
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
        raise _counters_lost()

    def _budget(self, place: Place) -> Budget:
        budget = self._budgets.get(place)
        if budget is None:
            raise BudgetNotFound(f"There is no budget {budget_name(*place)!r}.")
        return budget


def _counters_lost() -> DependencyUnavailable:
    return DependencyUnavailable(
        "Counters are lost as soon as they are opened: Redis forgets.",
        metadata={"dependency": "redis"},
    )
