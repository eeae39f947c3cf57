"""Keeps account of what was spent: first in the journal, then in the counters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Protocol

from agentmesh.governor.v1 import usage_record_pb2
from meshkit.clock import Clock
from meshkit.errors import AlreadySettled, MeshError
from services.governor.account import (
    Charge,
    Charged,
    ChargedOtherwise,
    Counter,
    Counters,
    Unsure,
)
from services.governor.calls import MadeCall, Settlement
from services.governor.counters_lost import counters_lost
from services.governor.money import usd
from services.governor.outdated import ReachBudgets, current
from services.governor.price_book import PriceBook
from services.governor.scopes import Kind, Scopes, task_counter_id
from services.governor.usage_record import timestamp, usage_record

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


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


class Openings(Protocol):
    """Who begins counters that are not there."""

    def want(self, counters: Sequence[Counter]) -> None:
        """Has these opened soon; nobody waits for it."""
        ...


class Settling:
    """Charges calls that were made. Takes many at once."""

    def __init__(
        self,
        *,
        prices: PriceBook,
        scopes: Scopes,
        counters: Counters,
        openings: Openings,
        journal: Journal,
        first_records: FirstRecords,
        reach_budgets: ReachBudgets,
        clock: Clock,
    ) -> None:
        """`reach_budgets`: returns when the budgets up to a place are known here."""
        self._prices: Final = prices
        self._scopes: Final = scopes
        self._counters: Final = counters
        self._openings: Final = openings
        self._journal: Final = journal
        self._first_records: Final = first_records
        self._reach_budgets: Final = reach_budgets
        self._clock: Final = clock

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
        settle_time, version = timestamp(now), self._prices.version
        sequence = await self._journal.append(
            [
                usage_record(calls[index], cost, settle_time, version)
                for index, cost in costs.items()
            ]
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
            counters_lost() if isinstance(each, Unsure) else each for each in outcomes
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
        return [counters_lost() if isinstance(each, Unsure) else each for each in outcomes]

    async def _count(
        self, make: Callable[[], Sequence[Charge]]
    ) -> Sequence[Charged | ChargedOtherwise | Unsure]:
        outcomes, missing = await current(
            lambda: self._counters.settle(make()), self._reach_budgets
        )
        self._openings.want(missing)
        return outcomes


def _first(place: int | None, own: int) -> int:
    """The place of a key's first record; 0 for one of a journal that there was before."""
    if place is None:
        return own
    return place if place <= own else 0


def _picked(charges: Sequence[Charge], numbers: Sequence[int]) -> list[Charge]:
    return [charges[number] for number in numbers]


def _already_settled(key: str, cost_micros: int) -> AlreadySettled:
    return AlreadySettled(
        f"The key {key!r} was settled before with other figures, at {usd(cost_micros)}.",
        metadata={"cost_micros": str(cost_micros)},
    )
