"""Sets amounts aside for who admits calls by itself, and gives back what is not needed."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, Protocol

from meshkit.clock import Clock
from meshkit.errors import AlreadySettled, MeshError
from services.governor.account import Counters, Held, Loan, SettledBefore, Unopened
from services.governor.calls import Lease, WantedLease
from services.governor.counters_lost import counters_lost
from services.governor.outdated import ReachBudgets, current
from services.governor.price_book import PriceBook
from services.governor.scopes import Kind, Scopes

# Counters are opened before the next turn; they are gone again only where Redis is lost.
_TURNS: Final = 4
# Where a budget has no room for a lease, reservations that end soon may make some.
_RETRY_SECONDS: Final = 5.0


class Openings(Protocol):
    """Who begins counters that are not there."""

    def deadline(self) -> float:
        """Until when whoever asks now waits."""
        ...

    async def open(self, unopened: Mapping[int, Unopened], until: float) -> Mapping[int, MeshError]:
        """Begins what items wait for; the items for which that failed, or takes too long."""
        ...


class Leasing:
    """Grants leases, and takes back leases and reservations."""

    def __init__(
        self,
        *,
        prices: PriceBook,
        scopes: Scopes,
        tiers: Callable[[str], frozenset[int]],
        has_sessions: Callable[[str], bool],
        counters: Counters,
        openings: Openings,
        reach_budgets: ReachBudgets,
        clock: Clock,
        lease_seconds: int,
    ) -> None:
        """`tiers`: the model tiers that a tenant may use, all if empty.

        `has_sessions`: whether sessions of a tenant have budgets of their own.
        `reach_budgets`: returns when the budgets up to a place are known here.
        `lease_seconds`: after how long what is left of a lease is given back.
        """
        self._prices: Final = prices
        self._scopes: Final = scopes
        self._tiers: Final = tiers
        self._has_sessions: Final = has_sessions
        self._counters: Final = counters
        self._openings: Final = openings
        self._reach_budgets: Final = reach_budgets
        self._clock: Final = clock
        self._keep: Final = timedelta(seconds=lease_seconds)

    async def lease(self, wanted: WantedLease) -> Lease:
        """Reserves an amount under the tenant's, task type's and agent's budgets.

        Nothing where one of them is so far used that each call must be asked
        for. The same lease again finds the earlier one. Raises DependencyUnavailable.
        """
        return await current(lambda: self._lease(wanted), self._reach_budgets)

    async def _lease(self, wanted: WantedLease) -> Lease:
        now = self._clock.now()
        counters = self._scopes.of(Kind(wanted.tenant, wanted.task_type, wanted.agent), now)
        until: float | None = None
        loan = Loan(wanted.tenant, wanted.lease, wanted.amount_micros, counters)
        for _ in range(_TURNS):
            outcome = await self._counters.lend(loan, keep=self._keep)
            if isinstance(outcome, Held):
                break
            until = until or self._openings.deadline()
            faults = await self._openings.open({0: outcome}, until)
            if faults:
                raise faults[0]
        else:
            raise counters_lost()
        # What is set aside is set aside in these windows: what is admitted in the next ones is
        # to be asked for there.
        ends = (each.window.end for each in counters if each.window.end is not None)
        return Lease(
            lease=wanted.lease,
            micros=outcome.amount_micros,
            expires_at=min(outcome.expires_at, *ends),
            price_version=self._prices.version,
            retry_after_seconds=0.0 if outcome.amount_micros else _RETRY_SECONDS,
            admit_sessions=self._has_sessions(wanted.tenant),
            tiers=self._tiers(wanted.tenant),
        )

    async def release(self, tenant: str, key: str, keep_micros: int = 0) -> int:
        """Gives a reservation back, but for `keep_micros`; 0 if there is none (any more).

        Raises AlreadySettled and DependencyUnavailable.
        """
        outcome = await self._counters.release(tenant, key, keep_micros)
        if isinstance(outcome, SettledBefore):
            raise AlreadySettled(f"The key {key!r} is settled; there is nothing to release.")
        return outcome
