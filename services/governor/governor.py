"""Decides what may be spent before it is spent, and keeps account of what was."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol, cast

from google.protobuf.timestamp_pb2 import Timestamp

from agentmesh.common.v1 import tier_pb2
from agentmesh.governor.v1 import usage_record_pb2
from meshkit.clock import Clock
from meshkit.errors import AlreadySettled, DependencyUnavailable, MeshError
from services.governor.account import (
    Charge,
    Charged,
    ChargedOtherwise,
    Counter,
    Counters,
    Decision,
    Held,
    Loan,
    Refused,
    SettledBefore,
    Unopened,
    Unsure,
    Wish,
)
from services.governor.calls import (
    Allowed,
    Lease,
    MadeCall,
    PlannedCall,
    Settlement,
    Verdict,
    WantedLease,
)
from services.governor.money import usd
from services.governor.openings import Openings
from services.governor.outdated import ReachBudgets, current
from services.governor.price_book import PriceBook
from services.governor.scopes import Kind, Scopes, task_counter, task_counter_id
from services.governor.verdicts import Tiers, verdict_of

# Counters are opened before the next turn; they are gone again only where Redis is lost.
_TURNS: Final = 4
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_SECONDS: Final = 86_400
# For how long whoever asks waits for counters to be opened, before the ledger counts as late. What
# is asked for together waits for no more than that, either.
_OPENED_WITHIN_SECONDS: Final = 0.25
# Where a budget has no room for a lease, reservations that end soon may make some.
_LEASE_RETRY_SECONDS: Final = 5.0


class Journal(Protocol):
    """Where every settlement is written before it is counted."""

    async def append(self, records: Sequence[usage_record_pb2.UsageRecord]) -> int:
        """Stores records together; their place. Raises DependencyUnavailable."""
        ...


class FirstRecords(Protocol):
    """Where the journal had a key for the first time, as the ledger knows it."""

    async def first_sequences(
        self, keys: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], int]:
        """The place of the first record of each tenant's key that has one.

        Answers when the ledger has all that the journal had when it was asked.
        Raises DependencyUnavailable where that takes too long.
        """
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


class CostGovernor:
    """The rules. Takes many calls at once; a fault of one leaves the others alone."""

    def __init__(
        self,
        *,
        prices: PriceBook,
        scopes: Scopes,
        tiers: Callable[[str], frozenset[int]],
        has_sessions: Callable[[str], bool],
        profiles: Profiles,
        counters: Counters,
        openings: Openings,
        journal: Journal,
        first_records: FirstRecords,
        reach_budgets: ReachBudgets,
        clock: Clock,
        terms: Terms,
        notice: Callable[[Wish, Decision], None] = lambda wish, decision: None,
    ) -> None:
        """`tiers`: the model tiers that a tenant may use, all if empty.

        `has_sessions`: whether sessions of a tenant have budgets of their own.
        `reach_budgets`: returns when the budgets up to a place are known here.
        `notice`: told of every decision; must be quick.
        """
        self._prices: Final = prices
        self._scopes: Final = scopes
        self._tiers: Final = tiers
        self._has_sessions: Final = has_sessions
        self._profiles: Final = profiles
        self._counters: Final = counters
        self._openings: Final = openings
        self._journal: Final = journal
        self._first_records: Final = first_records
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

    async def settle(self, calls: Sequence[MadeCall]) -> list[Settlement | MeshError]:
        """Charges what each call used in place of its reservation; answers in order.

        It is written to the journal, and then counted. With the same figures
        again nothing changes. Without a reservation, or after it expired, it is
        counted all the same. An item's error is NoPrice, InvalidField for a price
        version that there never was, AlreadySettled, or DependencyUnavailable
        where the ledger must be asked and cannot be. Raises DependencyUnavailable.
        """
        now = self._clock.now()
        answers: list[Settlement | MeshError] = []
        costs: dict[int, int] = {}
        for index, call in enumerate(calls):
            try:
                cost = costs[index] = self._cost(call)
            except MeshError as error:
                answers.append(error)
            else:
                answers.append(Settlement(cost, repeated=False))
        if not costs:
            return answers
        settle_time, version = _timestamp(now), self._prices.version
        sequence = await self._journal.append(
            [_record(calls[index], cost, settle_time, version) for index, cost in costs.items()]
        )
        outcomes = await self._charge_all(
            lambda: [
                self._charge(calls[index], cost, now, sequence) for index, cost in costs.items()
            ]
        )
        for index, outcome in zip(costs, outcomes, strict=True):
            match outcome:
                case ChargedOtherwise(cost):
                    answers[index] = _already_settled(calls[index].key, cost)
                case Charged(cost, repeated=True):
                    answers[index] = Settlement(cost, repeated=True)
                case Charged():
                    pass
                case error:
                    answers[index] = error
        return answers

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
            outcome = await self._counters.lend(loan, keep=self._reserve_for)
            if isinstance(outcome, Held):
                break
            until = until or _soon()
            faults = await self._open_each({0: outcome}, until)
            if faults:
                raise faults[0]
        else:
            raise _counters_lost()
        return Lease(
            lease=wanted.lease,
            micros=outcome.amount_micros,
            expires_at=outcome.expires_at,
            price_version=self._prices.version,
            retry_after_seconds=0.0 if outcome.amount_micros else _LEASE_RETRY_SECONDS,
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
        answers: list[Held | Refused | MeshError] = [_counters_lost()] * len(wishes)
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
                return answers
            until = until or _soon()
            faults = await self._open_each(unopened, until)
            answers = [faults.get(index, answer) for index, answer in enumerate(answers)]
            left = [index for index in unopened if index not in faults]
        return answers

    async def _open_each(
        self, unopened: Mapping[int, Unopened], until: float
    ) -> dict[int, MeshError]:
        """Opens what items wait for; the items for which that failed, or takes too long.

        What takes longer goes on for whoever asks next.
        """
        wanted = {each.id: each for one in unopened.values() for each in one.counters}
        failed: dict[str, MeshError] = {key: _ledger_late() for key in wanted}

        async def open_one(counter: Counter) -> None:
            try:
                await self._openings.open([counter])
            except MeshError as error:
                failed[counter.id] = error
            else:
                del failed[counter.id]

        opening = asyncio.gather(*(open_one(each) for each in wanted.values()))
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await opening
        return {
            index: failed[each.id]
            for index, one in unopened.items()
            for each in one.counters
            if each.id in failed
        }

    def _cost(self, call: MadeCall) -> int:
        usage = call.usage
        return self._prices.price(call.model, call.price_version).cost_micros(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_input_tokens=usage.cached_input_tokens,
        )

    def _charge(self, call: MadeCall, cost_micros: int, now: datetime, sequence: int) -> Charge:
        return Charge(
            tenant=call.tenant,
            key=call.key,
            model=call.model,
            cost_micros=cost_micros,
            usage=call.usage,
            counters=self._scopes.of(
                Kind(call.tenant, call.task_type, call.agent, call.session), now
            ),
            sequence=sequence,
            # Without a time it may be a repeat of long ago.
            called_at=_EPOCH if call.called_at is None else min(call.called_at, now),
            lease=call.lease,
            leased_micros=call.leased_micros,
            task_counter=task_counter_id(call.tenant, call.task) if call.task else "",
        )

    async def _charge_all(
        self, make: Callable[[], Sequence[Charge]]
    ) -> list[Charged | ChargedOtherwise | MeshError]:
        """`make` finds what is charged anew when other budgets are in force."""
        outcomes = await self._count(make)
        unsure = [index for index, each in enumerate(outcomes) if isinstance(each, Unsure)]
        answers: list[Charged | ChargedOtherwise | MeshError] = [
            _counters_lost() if isinstance(each, Unsure) else each for each in outcomes
        ]
        if unsure:
            for index, outcome in zip(
                unsure,
                await self._charge_unsure(lambda: _picked(make(), unsure)),
                strict=True,
            ):
                answers[index] = outcome
        return answers

    async def _charge_unsure(
        self, make: Callable[[], Sequence[Charge]]
    ) -> Sequence[Charged | ChargedOtherwise | MeshError]:
        """Charges what the journal may have had before, by the place where it had it first."""
        keys = [(each.tenant, each.key) for each in make()]
        try:
            places = await self._first_records.first_sequences(keys)
        except MeshError as error:
            return [error] * len(keys)
        outcomes = await self._count(
            lambda: [
                replace(
                    each,
                    sequence=_first(places.get(key), each.sequence),
                    is_first=True,
                    is_repeated=places.get(key, each.sequence) != each.sequence,
                )
                for key, each in zip(keys, make(), strict=True)
            ]
        )
        return [_counters_lost() if isinstance(each, Unsure) else each for each in outcomes]

    async def _count(
        self, make: Callable[[], Sequence[Charge]]
    ) -> Sequence[Charged | ChargedOtherwise | Unsure]:
        outcomes, missing = await current(
            lambda: self._counters.settle(make()), self._reach_budgets
        )
        self._openings.want(missing)
        return outcomes


def _record(
    call: MadeCall, cost_micros: int, settle_time: Timestamp, version: str
) -> usage_record_pb2.UsageRecord:
    record = usage_record_pb2.UsageRecord(
        tenant=call.tenant,
        key=call.key,
        model=call.model,
        tier=cast("tier_pb2.ModelTier", call.tier),
        task_type=call.task_type,
        agent=call.agent,
        session=call.session,
        task=call.task,
        price_version=call.price_version or version,
        call_time=settle_time if call.called_at is None else _timestamp(call.called_at),
        settle_time=settle_time,
    )
    usage, used = record.usage, call.usage
    usage.cost_micros = cost_micros
    usage.input_tokens, usage.output_tokens = used.input_tokens, used.output_tokens
    usage.cached_input_tokens = used.cached_input_tokens
    usage.model_calls, usage.tool_calls = used.model_calls, used.tool_calls
    usage.cache_hits = used.cache_hits
    return record


def _first(place: int | None, own: int) -> int:
    """The place of a key's first record; 0 for one of a journal that there was before."""
    if place is None:
        return own
    return place if place <= own else 0


def _picked(charges: Sequence[Charge], numbers: Sequence[int]) -> list[Charge]:
    return [charges[number] for number in numbers]


def _timestamp(time: datetime) -> Timestamp:
    since = time - _EPOCH
    return Timestamp(
        seconds=since.days * _DAY_SECONDS + since.seconds, nanos=since.microseconds * 1000
    )


def _soon() -> float:
    return asyncio.get_running_loop().time() + _OPENED_WITHIN_SECONDS


def _ledger_late() -> DependencyUnavailable:
    return DependencyUnavailable(
        "The ledger has not said in time what was spent so far.",
        metadata={"dependency": "ledger"},
        retry_after_seconds=1.0,
    )


def _counters_lost() -> DependencyUnavailable:
    return DependencyUnavailable(
        "Counters are lost as soon as they are opened: Redis forgets.",
        metadata={"dependency": "redis"},
    )


def _already_settled(key: str, cost_micros: int) -> AlreadySettled:
    return AlreadySettled(
        f"The key {key!r} was settled before with other figures, at {usd(cost_micros)}.",
        metadata={"cost_micros": str(cost_micros)},
    )
