"""Keeps account of what was spent: first in the journal, then in the counters."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Final, NamedTuple, Protocol

from agentmesh.governor.v1 import usage_record_pb2
from meshkit.clock import Clock
from meshkit.errors import AlreadySettled, MeshError
from services.governor.account import (
    Charge,
    Charged,
    ChargedOtherwise,
    Counter,
    Counters,
    FirstRecord,
    Unsure,
)
from services.governor.calls import MadeCall, Settlement
from services.governor.counters_lost import counters_lost
from services.governor.money import usd
from services.governor.outdated import ReachBudgets, current
from services.governor.price_book import PriceBook
from services.governor.scopes import Kind, Scopes, task_counter_id
from services.governor.usage_record import timestamp, usage_record
from services.governor.waiting_records import WaitingRecords, Written

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The clock of a caller that is further ahead is wrong.
_MOST_AHEAD: Final = timedelta(hours=1)


class Journal(Protocol):
    """Where every settlement is written before it is counted."""

    @property
    def created_ms(self) -> int:
        """Another number for a journal that begins anew."""
        ...

    async def append(self, records: Sequence[usage_record_pb2.UsageRecord]) -> int:
        """Stores records together; their place. Raises DependencyUnavailable."""
        ...


class FirstRecords(Protocol):
    """What the journal had of a key first, as the ledger knows it: that one counts."""

    async def first_records(
        self, keys: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], FirstRecord]:
        """The first record of each tenant's key that has one.

        Answers when the ledger has all that the journal had when it was asked.
        Raises DependencyUnavailable where that takes too long.
        """
        ...


class _Made(NamedTuple):
    """A call that is in the journal."""

    call: MadeCall
    cost_micros: int
    written: Written
    # The ledger was asked what the journal had of its key first; None for nothing.
    is_sure: bool = False
    first: FirstRecord | None = None

    @property
    def sequence(self) -> int:
        """The place of the key's first record; 0 for one of a journal that there was before."""
        if self.first is None:
            return self.written.sequence
        return self.first.sequence if self.first.sequence <= self.written.sequence else 0

    def answer(self, counted: Charged | ChargedOtherwise) -> Charged | ChargedOtherwise:
        """What its caller is told where its key's first record was counted."""
        first, call = self.first, self.call
        if first is None or (first.model, first.cost_micros, first.usage) == (
            call.model,
            self.cost_micros,
            call.usage,
        ):
            return counted
        return ChargedOtherwise(first.cost_micros)


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
        self._waiting: Final = WaitingRecords()

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
        journal = self._journal.created_ms
        made = await self._journalled([(calls[index], cost) for index, cost in costs.items()], now)
        try:
            outcomes = await self._charge_all(made)
        except MeshError:
            self._keep(journal, made)
            raise
        self._keep(journal, made, outcomes)
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

    async def _journalled(
        self, calls: Sequence[tuple[MadeCall, int]], now: datetime
    ) -> list[_Made]:
        """Writes what is not known to be in the journal already."""
        journal = self._journal.created_ms
        found = [self._waiting.find(journal, call) for call, _ in calls]
        new = [each for each, written in zip(calls, found, strict=True) if written is None]
        sequence = 0
        if new:
            settle_time, version = timestamp(now), self._prices.version
            sequence = await self._journal.append(
                [
                    usage_record(_in_time(call, now), cost, settle_time, version)
                    for call, cost in new
                ]
            )
        made: list[_Made] = []
        for (call, cost), known in zip(calls, found, strict=True):
            made.append(_Made(call, cost, known or Written(sequence, now)))
        return made

    def _keep(
        self,
        journal: int,
        made: Sequence[_Made],
        outcomes: Sequence[Charged | ChargedOtherwise | MeshError] = (),
    ) -> None:
        """Remembers what is not counted; nothing is where there are no outcomes."""
        for each, outcome in zip_longest(made, outcomes):
            if outcome is None or isinstance(outcome, MeshError):
                unheard = outcome is None or each.written.maybe_counted
                self._waiting.keep(journal, each.call, each.written._replace(maybe_counted=unheard))
            else:
                self._waiting.drop(journal, each.call)

    def _charge(self, made: _Made) -> Charge:
        """What is counted: what the ledger has, where the journal had the key before."""
        call, written, first = made.call, made.written, made.first
        now = self._clock.now()
        settled_at = written.settled_at if first is None else first.settled_at
        return Charge(
            tenant=call.tenant,
            key=call.key,
            model=call.model if first is None else first.model,
            cost_micros=made.cost_micros if first is None else first.cost_micros,
            usage=call.usage if first is None else first.usage,
            counters=self._scopes.of(
                Kind(call.tenant, call.task_type, call.agent, call.session), settled_at
            ),
            sequence=made.sequence,
            # Without a time it may be a repeat of long ago.
            called_at=_EPOCH if call.called_at is None else max(_EPOCH, min(call.called_at, now)),
            lease=call.lease,
            leased_micros=call.leased_micros,
            task_counter=task_counter_id(call.tenant, call.task) if call.task else "",
            is_first=made.is_sure,
            is_repeated=first is not None
            and (written.maybe_counted or made.sequence != written.sequence),
        )

    async def _charge_all(
        self, made: Sequence[_Made]
    ) -> list[Charged | ChargedOtherwise | MeshError]:
        outcomes = await self._count(made)
        unsure = [index for index, each in enumerate(outcomes) if isinstance(each, Unsure)]
        answers: list[Charged | ChargedOtherwise | MeshError] = [
            counters_lost() if isinstance(each, Unsure) else each for each in outcomes
        ]
        if unsure:
            for index, outcome in zip(
                unsure, await self._charge_unsure([made[index] for index in unsure]), strict=True
            ):
                answers[index] = outcome
        return answers

    async def _charge_unsure(
        self, made: Sequence[_Made]
    ) -> Sequence[Charged | ChargedOtherwise | MeshError]:
        """Charges what the journal may have had before as it had it first."""
        keys = [(each.call.tenant, each.call.key) for each in made]
        try:
            firsts = await self._first_records.first_records(keys)
        except MeshError as error:
            return [error] * len(keys)
        sure = [
            each._replace(first=firsts.get(key), is_sure=True)
            for key, each in zip(keys, made, strict=True)
        ]
        return [
            counters_lost() if isinstance(each, Unsure) else one.answer(each)
            for one, each in zip(sure, await self._count(sure), strict=True)
        ]

    async def _count(self, made: Sequence[_Made]) -> Sequence[Charged | ChargedOtherwise | Unsure]:
        # What is charged is found anew when other budgets are in force.
        outcomes, missing = await current(
            lambda: self._counters.settle([self._charge(each) for each in made]),
            self._reach_budgets,
        )
        self._openings.want(missing)
        return outcomes


def _in_time(call: MadeCall, now: datetime) -> MadeCall:
    """The call as it can have been: reports tell it when it ended, and must find it."""
    if call.called_at is None or _EPOCH <= call.called_at <= now + _MOST_AHEAD:
        return call
    # Long ago is as good as unknown, for then the ledger is asked whether it is a repeat.
    return call._replace(called_at=None if call.called_at < _EPOCH else now)


def _already_settled(key: str, cost_micros: int) -> AlreadySettled:
    return AlreadySettled(
        f"The key {key!r} was settled before with other figures, at {usd(cost_micros)}.",
        metadata={"cost_micros": str(cost_micros)},
    )
