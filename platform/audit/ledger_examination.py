"""Compares the ledger with the journal that it was built from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Final

from audit import ledger
from audit.entry import Entry
from audit.finding import Finding
from audit.hash_set import HashSet
from audit.histories import Histories
from audit.ledger import Ledger, Sum
from audit.track import Track
from audit.usage import Journal


class LedgerExamination:
    """The ledger's sums, tenant by tenant, at the place in the journal that it has come to."""

    def __init__(self, journal: Journal, store: Ledger, *, tenant: str) -> None:
        """`tenant`: whose; all where it is empty."""
        self._journal: Final = journal
        self._store: Final = store
        self._tenant: Final = tenant
        self._counts: Final = Counter[str]()
        self._remarks: Final[list[str]] = []

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
        """Asks the ledger first, so that the journal has all that is in it."""
        standing = await self._store.standing()
        span = await self._journal.span()
        if span is None:
            return []
        if not span.whole:
            self._remarks.append(
                "The ledger was not compared: what is old was removed from the journal."
            )
            return []
        if span.end > standing.position:
            self._remarks.append(
                f"The ledger is {span.end - standing.position} messages behind the journal."
            )
        sums = await self._sums(standing.position)
        self._counts["ledger_charges"] = sum(
            account.charges for account in standing.accounts.values()
        )
        return [
            each for each in ledger.compare(standing, sums) if self._tenant in ("", each.tenant)
        ]

    async def _sums(self, until: int) -> Mapping[str, Sum]:
        seen = HashSet()
        sums: dict[str, Sum] = {}
        async with aclosing(self._journal.read(0, until)) as records:
            async for spent in records:
                if seen.add((spent.tenant, spent.key)):
                    before = sums.get(spent.tenant, Sum())
                    sums[spent.tenant] = Sum(before.charges + 1, before.micros + spent.cost_micros)
        return sums

    def counts(self) -> Mapping[str, int]:
        """What was looked at."""
        return self._counts

    def remarks(self) -> Sequence[str]:
        """What could not be compared, and how far the ledger is behind."""
        return self._remarks
