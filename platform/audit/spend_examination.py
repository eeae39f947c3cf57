"""Compares the counters of spending, and the ledger, with the journal of usage."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Final, Protocol

from audit import spend
from audit.entry import Entry
from audit.finding import Finding
from audit.hash_set import HashSet
from audit.histories import Histories
from audit.recent import ON_ITS_WAY
from audit.second_look import patiently
from audit.spend import CounterKey, Standing, Sums
from audit.track import Track
from audit.usage import Journal
from meshkit.clock import Clock


class Counters(Protocol):
    """The counters, only read."""

    async def keys(self, tenant: str) -> list[CounterKey]: ...
    async def standing(
        self, keys: Sequence[CounterKey], patience: timedelta
    ) -> Standing | None: ...


class BudgetWords(Protocol):
    """What was said of budgets, only read."""

    async def newest(self, key: CounterKey) -> int: ...


class SpendExamination:
    """Counters and the journal, reservations and their time."""

    def __init__(
        self, journal: Journal, counters: Counters, words: BudgetWords, clock: Clock, *, tenant: str
    ) -> None:
        """`tenant`: whose counters; all where it is empty."""
        self._journal: Final = journal
        self._words: Final = words
        self._counters: Final = counters
        self._clock: Final = clock
        self._tenant: Final = tenant
        self._now: Final = clock.now()
        self._final_before: Final = self._now - ON_ITS_WAY
        self._sums: Final = Sums(self._final_before.timestamp())
        self._seen: Final = HashSet()
        self._read_to = 0
        self._counts: Final = Counter[str]()
        self._remarks: Final[list[str]] = []
        self._found: list[Finding] = []

    @property
    def kinds(self) -> frozenset[str]:
        """None: it does not look at the log."""
        return frozenset()

    def see(self, entry: Entry, before: Track | None) -> None:
        """Not called."""

    async def catch_up(self) -> list[Finding]:
        """Nothing."""
        return []

    async def finish(self, histories: Histories) -> list[Finding]:
        """Looks at everything, and again where something differs."""
        span = await self._journal.span()
        keys = [
            key
            for key in await self._counters.keys(self._tenant)
            if spend.is_present(key, self._now)
            and (span is None or span.whole or key.start >= span.since.timestamp())
        ]
        for key in keys:
            self._sums.track(key)
        self._counts["counters"] = len(keys)

        async def look() -> bool:
            self._found = await self._look(keys)
            return not self._found

        await patiently(look, self._clock)
        return self._found

    async def _look(self, keys: Sequence[CounterKey]) -> list[Finding]:
        # What is in the journal before the counters are looked at, they must have, but for
        # what is on its way; what is not in it afterwards, they cannot have.
        await self._read_on()
        least = self._sums.least()
        standing = await self._counters.standing(keys, ON_ITS_WAY)
        await self._read_on()
        most = self._sums.most()
        if standing is None:
            self._remarks[:] = [
                "There are too many reservations to look at them at one moment; counters were not"
                " compared with the journal."
            ]
            return []
        self._counts["reservations"] = standing.reservations
        found: list[Finding] = []
        for key, counted in standing.counters.items():
            wrong = spend.counts_wrongly(key, counted, least[key], most[key])
            # One whose budget was removed or set anew counts no more until it is opened again.
            if wrong is not None and await self._words.newest(key) <= counted.written:
                found.append(wrong)
        return found + [
            spend.stays_reserved(each)
            for each in standing.overdue
            if self._tenant in ("", each.tenant)
        ]

    async def _read_on(self) -> None:
        span = await self._journal.span()
        if span is None:
            return
        async with aclosing(self._journal.read(self._read_to, span.end)) as records:
            async for spent in records:
                if self._seen.add((spent.tenant, spent.key)):
                    self._sums.add(spent)
                    self._counts["settlements"] += 1
                    if spent.settled_at > self._final_before.timestamp():
                        # Counters may have it or not.
                        self._counts["recent_settlements"] += 1
                else:
                    self._counts["repeated_settlements"] += 1
        self._read_to = max(self._read_to, span.end)

    def counts(self) -> Mapping[str, int]:
        """What was looked at."""
        return self._counts

    def remarks(self) -> Sequence[str]:
        """What could not be looked at."""
        return self._remarks
