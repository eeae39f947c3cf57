"""Decides what may be spent before it is spent."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol

from meshkit.clock import Clock
from meshkit.errors import MeshError
from services.governor.account import Counters, Decision, Held, Refused, Unopened, Wish
from services.governor.calls import Allowed, PlannedCall, Verdict
from services.governor.counters_lost import counters_lost
from services.governor.outdated import ReachBudgets, current
from services.governor.price_book import PriceBook
from services.governor.scopes import Kind, Scopes, task_counter
from services.governor.verdicts import Tiers, verdict_of

# Counters are opened before the next turn; they are gone again only where Redis is lost.
_TURNS: Final = 4


class Openings(Protocol):
    """Who begins counters that are not there."""

    def deadline(self) -> float:
        """Until when whoever asks now waits."""
        ...

    async def open(self, unopened: Mapping[int, Unopened], until: float) -> Mapping[int, MeshError]:
        """Begins what items wait for; the items for which that failed, or takes too long."""
        ...


class Likely(Protocol):
    """What calls of a kind used before."""

    @property
    def output_tokens(self) -> int:
        """So many, or fewer, in 19 of 20 calls."""
        ...


class Profiles(Protocol):
    """What kinds of work used before, in memory."""

    def likely(self, tenant: str, task_type: str, tier: int) -> Likely | None:
        """What a call is likely to use; None where too little is known."""
        ...


class Terms(NamedTuple):
    """What the governor goes by, besides budgets and prices."""

    # After how many seconds a reservation that nobody settles is given back.
    reservation_seconds: int
    # When work that is slowed down may come back.
    throttle_seconds: float


class Admission:
    """The rules. Takes many calls at once; a fault of one leaves the others alone."""

    def __init__(
        self,
        *,
        prices: PriceBook,
        scopes: Scopes,
        tiers: Callable[[str], frozenset[int]],
        profiles: Profiles,
        counters: Counters,
        openings: Openings,
        reach_budgets: ReachBudgets,
        clock: Clock,
        terms: Terms,
        notice: Callable[[Wish, Decision], None] = lambda wish, decision: None,
    ) -> None:
        """`tiers`: the model tiers that a tenant may use, all if empty.

        `reach_budgets`: returns when the budgets up to a place are known here.
        `notice`: told of every decision; must be quick.
        """
        self._prices: Final = prices
        self._scopes: Final = scopes
        self._tiers: Final = tiers
        self._profiles: Final = profiles
        self._counters: Final = counters
        self._openings: Final = openings
        self._reach_budgets: Final = reach_budgets
        self._clock: Final = clock
        self._terms: Final = terms
        self._notice: Final = notice
        self._reserve_for: Final = timedelta(seconds=terms.reservation_seconds)

    async def admit(self, calls: Sequence[PlannedCall]) -> list[Verdict | MeshError]:
        """Reserves the estimated cost of each call under all its budgets; answers in order.

        The same key again finds its reservation and reserves nothing more. A
        key that is settled has none: it is admitted like a new one, under a key
        of its own, for a call that is charged in addition. A model without any
        price to pay needs no counter, and is allowed however much is spent. An
        item's error is NoPrice, or DependencyUnavailable where the ledger must
        be asked and cannot be. Raises DependencyUnavailable.
        """
        return await current(lambda: self._admit(calls), self._reach_budgets)

    async def _admit(self, calls: Sequence[PlannedCall]) -> list[Verdict | MeshError]:
        now = self._clock.now()
        expires_at = now + self._reserve_for
        version = self._prices.version
        answers: list[Verdict | MeshError] = []
        tiers: list[Tiers] = []
        wishes: dict[int, Wish] = {}
        for index, call in enumerate(calls):
            may = Tiers.of(call.tier, self._tiers(call.tenant))
            tiers.append(may)
            try:
                wish = self._wish(call, may, now)
            except MeshError as error:
                answers.append(error)
                continue
            refusal = may.refusal(call.tenant)
            answers.append(
                refusal or may.allow(call.tenant, Allowed(call.key, 0, expires_at, version))
            )
            if refusal is None and wish is not None:
                wishes[index] = wish
        if wishes:
            outcomes = await self._reserve(list(wishes.values()))
            for (index, wish), outcome in zip(wishes.items(), outcomes, strict=True):
                if isinstance(outcome, MeshError):
                    answers[index] = outcome
                    continue
                self._notice(wish, outcome.decision)
                answers[index] = verdict_of(
                    wish, outcome, tiers[index], version, self._terms.throttle_seconds
                )
        return answers

    def _wish(self, call: PlannedCall, may: Tiers, now: datetime) -> Wish | None:
        """What to reserve; None where the model cannot cost anything.

        At least 1 micro-USD otherwise, so that a spent budget denies calls that
        come without an estimate, too.
        """
        price = self._prices.price(call.model)
        if price.free:
            return None
        most = max(
            1,
            price.cost_micros(input_tokens=call.input_tokens, output_tokens=call.max_output_tokens),
        )
        likely = most
        profile = self._profiles.likely(call.tenant, call.task_type, call.tier)
        if profile is not None and profile.output_tokens < call.max_output_tokens:
            likely = max(
                1,
                price.cost_micros(
                    input_tokens=call.input_tokens, output_tokens=profile.output_tokens
                ),
            )
        counters = self._scopes.of(Kind(call.tenant, call.task_type, call.agent, call.session), now)
        capped = bool(call.task and call.task_limit_micros)
        if capped:
            cap = task_counter(call.tenant, call.task, call.task_limit_micros)
            counters = [cap, *counters]
        return Wish(
            tenant=call.tenant,
            key=call.key,
            likely_micros=likely,
            most_micros=most,
            counters=counters,
            interactive=call.interactive,
            can_degrade=may.lower > 0,
            task_spent_micros=call.task_spent_micros if capped else None,
        )

    async def _reserve(self, wishes: Sequence[Wish]) -> list[Held | Refused | MeshError]:
        answers: dict[int, Held | Refused | MeshError] = {}
        left: Sequence[int] = range(len(wishes))
        until: float | None = None
        for _ in range(_TURNS):
            outcomes = await self._counters.reserve(
                [wishes[index] for index in left], keep=self._reserve_for
            )
            unopened: dict[int, Unopened] = {}
            for index, outcome in zip(left, outcomes, strict=True):
                if isinstance(outcome, Unopened):
                    unopened[index] = outcome
                else:
                    answers[index] = outcome
            if not unopened:
                break
            until = until or self._openings.deadline()
            faults = await self._openings.open(unopened, until)
            answers.update(faults)
            left = [index for index in unopened if index not in faults]
        return [answers.get(index) or counters_lost() for index in range(len(wishes))]
