"""Makes the counters agree with the ledger where a key was settled twice with other figures.

The ledger has a key once: as the journal had it first. Counters remember a settled key for an
hour, and a lost Redis none; whoever settles it then with other figures is charged there, too. The
ledger keeps such repeats, and each is looked into here, once whoever settled it has his answer.
Where that was that he is charged, it is another call that was made and is paid: it is written to
the journal once more, under a key of its own. And the counters in which it may be are opened from
the ledger again.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final, NamedTuple, Protocol

from agentmesh.governor.v1 import usage_record_pb2
from meshkit.clock import Clock
from meshkit.errors import MeshError
from meshkit.log import Log
from meshkit.time_limit import within
from services.governor.account import Counter, SettledAs, Usage
from services.governor.ledger_charge import Charge, record_of
from services.governor.outdated import ReachBudgets, current
from services.governor.scopes import Kind, Scopes

_BATCH: Final = 256
_RETRY_SECONDS: Final = 1.0
# What another process kept and did not live to mend is mended after this.
_LOOK_AFTER_SECONDS: Final = 60.0
# Longer than a settlement is under way between journal and counters.
_SETTLED: Final = timedelta(seconds=10)


class Repeat(NamedTuple):
    """A record that differs from what the ledger has of its key."""

    id: str
    charge: Charge


class Repeats(Protocol):
    """Those that wait. Both methods raise DependencyUnavailable while they are away."""

    async def waiting(self, limit: int) -> Sequence[Repeat]:
        """The first of them, in the order of the journal."""
        ...

    async def remove(self, repeats: Sequence[Repeat]) -> None:
        """They wait no longer."""
        ...


class Counters(Protocol):
    """Where spending is counted. Both methods raise DependencyUnavailable."""

    async def settled_as(self, tenant: str, key: str) -> SettledAs | None:
        """By what a key is settled; None where that is not remembered."""
        ...

    async def forget(self, counters: Sequence[Counter], place: int) -> Sequence[Counter]:
        """Has those opened anew that were opened before that place of the journal; which.

        Raises Outdated.
        """
        ...


class Openings(Protocol):
    """Who begins counters that are not there."""

    def want(self, counters: Sequence[Counter]) -> None:
        """Has these opened soon."""
        ...


class Journal(Protocol):
    """Where every settlement is written before it is counted."""

    async def append(self, records: Sequence[usage_record_pb2.UsageRecord]) -> int:
        """Stores records together; their place. Raises DependencyUnavailable."""
        ...


class RepeatMender:
    """Looks into what the ledger keeps. Several may: what is done twice changes nothing."""

    def __init__(
        self,
        repeats: Repeats,
        counters: Counters,
        scopes: Scopes,
        openings: Openings,
        journal: Journal,
        reach_budgets: ReachBudgets,
        clock: Clock,
        log: Log,
        *,
        wake: asyncio.Event,
    ) -> None:
        """`wake` is set when there is something new."""
        self._repeats: Final = repeats
        self._counters: Final = counters
        self._scopes: Final = scopes
        self._openings: Final = openings
        self._journal: Final = journal
        self._reach_budgets: Final = reach_budgets
        self._clock: Final = clock
        self._log: Final = log
        self._wake: Final = wake

    async def run(self) -> None:
        """Runs until cancelled; what fails is tried again."""
        while True:
            self._wake.clear()
            try:
                some_wait = await self.mend()
            except MeshError as error:
                self._log.warning("repeats.failed", error=str(error))
                await self._clock.sleep(_RETRY_SECONDS)
                continue
            if some_wait:
                await self._clock.sleep(_SETTLED.total_seconds())
                continue
            with suppress(TimeoutError), within(_LOOK_AFTER_SECONDS):
                await self._wake.wait()

    async def mend(self) -> bool:
        """Mends what was settled some seconds ago; whether there is more.

        Raises:
            DependencyUnavailable: Something is away. Repeating it is safe.
        """
        found = await self._repeats.waiting(_BATCH)
        before = self._clock.now() - _SETTLED
        ripe = [each for each in found if each.charge.settled_at <= before]
        for repeat in ripe:
            await self._mend(repeat)
        if ripe:
            await self._repeats.remove(ripe)
        return bool(found)

    async def _mend(self, repeat: Repeat) -> None:
        charge = repeat.charge
        place = charge.sequence
        is_paid = await self._counters.settled_as(charge.tenant, charge.key) == _as_settled(charge)
        if is_paid:
            # The same key however often this is done: the ledger has it once.
            own = charge._replace(key=f"{charge.key}#{place}")
            place = await self._journal.append([record_of(own)])
        kind = Kind(charge.tenant, charge.task_type, charge.agent, charge.session)
        forgotten = await current(
            lambda: self._counters.forget(self._scopes.of(kind, charge.settled_at), place),
            self._reach_budgets,
        )
        self._openings.want(forgotten)
        self._log.warning(
            "ledger.repeated",
            tenant=ascii(charge.tenant),
            key=ascii(charge.key),
            sequence=charge.sequence,
            charged_again=is_paid,
        )


def _as_settled(charge: Charge) -> SettledAs:
    figures = charge.figures
    usage = Usage(
        input_tokens=figures.input_tokens,
        output_tokens=figures.output_tokens,
        cached_input_tokens=figures.cached_input_tokens,
        model_calls=figures.model_calls,
        tool_calls=figures.tool_calls,
        cache_hits=figures.cache_hits,
    )
    return SettledAs(charge.sequence, charge.model, figures.cost_micros, usage)
