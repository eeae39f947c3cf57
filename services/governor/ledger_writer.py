"""Writes charges into the tables of the ledger."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, Protocol

import sqlalchemy as sa
from sqlalchemy import exc

from services.governor.budget import ScopeKind
from services.governor.ledger_charge import Charge, Figures
from services.governor.ledger_numbers import Numbers
from services.governor.ledger_refused import Refusal, is_refusal, keep_aside, refusal_of
from services.governor.ledger_repeats import keep_repeats
from services.governor.ledger_tables import (
    CHARGE,
    ENTRY,
    FIGURES,
    POSITION,
    QUARTER_MICROS,
    SCOPE_TOTAL,
)
from sqlstore.database import Database
from sqlstore.positions import INSERT, Place, Positions

POSITIONS: Final = Positions(POSITION)

_ScopeKey = tuple[str, str, str, int]


class Companion(Protocol):
    """Somebody who writes something of his own together with charges."""

    def leads(self) -> None:
        """Called in the event loop when this process begins to carry: others may have before."""
        ...

    def beside(self, charges: Sequence[Charge]) -> Callable[[sa.Connection], None]:
        """What is done in the same transaction, after these charges were written.

        Called in the event loop; what it gives runs in another thread. Some of the charges
        may have been written before.
        """
        ...

    def written(self) -> None:
        """Called in the event loop when such a transaction is done."""
        ...


class LedgerWriter:
    """Carries the journal into the ledger. Whoever comes second at the same place is refused."""

    def __init__(
        self,
        database: Database,
        *,
        companions: Sequence[Companion] = (),
        on_refusal: Callable[[Refusal], None] = lambda refusal: None,
        on_repeats: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_refusal`: told of each charge that could not be taken, when it is kept aside.

        `on_repeats`: called when repeats that say something else were kept.
        """
        self._database: Final = database
        self._companions: Final = companions
        self._on_refusal: Final = on_refusal
        self._on_repeats: Final = on_repeats
        self._numbers: Final = Numbers()
        # The database tells its dialect with the first connection.
        self._statements: _Statements | None = None

    async def lead(self) -> None:
        """Returns once this process is the one that carries into the ledger."""
        await self._database.lead()
        for each in self._companions:
            each.leads()

    async def resign(self) -> None:
        """Lets another process carry, if one wants to."""
        await self._database.resign()

    async def places(self) -> Mapping[str, Place]:
        """How far each stream was carried; a stream of which nothing was is missing."""
        return await self._database.read(POSITIONS.all)

    async def apply(
        self, entries: Sequence[Sequence[Charge]], *, stream: str, before: Place, after: Place
    ) -> None:
        """Takes over the charges between two places of the journal, in one transaction.

        Of several with the same key of a tenant only the first ever counts. What
        cannot be taken is kept aside, and keeps nothing else out.

        Raises:
            Moved: The stream is not at `before` any more. Nothing was written.
        """
        charges: list[Charge] = []
        refusals: list[Refusal] = []
        for charge in chain.from_iterable(entries):
            refusal = refusal_of(charge)
            if refusal is None:
                charges.append(charge)
            else:
                refusals.append(refusal)
        beside = [each.beside(charges) for each in self._companions]
        repeats = 0

        def work(connection: sa.Connection) -> None:
            nonlocal repeats
            # First of all: it keeps others out until the end of the transaction.
            POSITIONS.advance(connection, stream, before, after)
            if charges:
                if self._statements is None:
                    self._statements = _Statements(connection.dialect)
                refused, repeated = self._take(connection, self._statements, charges)
                refusals.extend(refused)
                repeats = keep_repeats(connection, repeated)
            keep_aside(connection, refusals)
            for each in beside:
                each(connection)

        try:
            await self._database.carry(work)
        except BaseException:
            # What was numbered in it may not be there.
            self._numbers.forget()
            raise
        for refusal in refusals:
            self._on_refusal(refusal)
        if repeats:
            self._on_repeats()
        for each in self._companions:
            each.written()

    async def clear(self, stream: str) -> None:
        """Begins at the beginning of the stream again; what was charged stays charged."""

        def work(connection: sa.Connection) -> None:
            POSITIONS.forget(connection, stream)

        await self._database.carry(work)

    def _take(
        self, connection: sa.Connection, statements: "_Statements", charges: Sequence[Charge]
    ) -> tuple[Sequence[Refusal], Sequence[Charge]]:
        """Writes what the database takes; what it does not is found by halves. Also the repeats."""
        try:
            with connection.begin_nested():
                return (), _write(connection, statements, self._numbers, charges)
        except exc.DBAPIError as error:
            if not is_refusal(error):
                raise
            self._numbers.forget()
            if len(charges) == 1:
                return [Refusal(charges[0], f"The database refuses it: {error.orig}")], ()
        middle = len(charges) // 2
        refused, repeated = self._take(connection, statements, charges[:middle])
        more_refused, more_repeated = self._take(connection, statements, charges[middle:])
        return [*refused, *more_refused], [*repeated, *more_repeated]


class _Statements:
    """What is said once for each of many rows, in the words of a dialect.

    SQLAlchemy would look at every value of every row, which costs as much as
    the database does with it.
    """

    def __init__(self, dialect: sa.Dialect) -> None:
        insert = INSERT[dialect.name]
        add = insert(SCOPE_TOTAL)
        grown = {name: SCOPE_TOTAL.c[name] + add.excluded[name] for name in FIGURES}
        key = ["kind", "tenant", "subject", "quarter"]
        self.charge: Final = str(insert(CHARGE).on_conflict_do_nothing().compile(dialect=dialect))
        self.entry: Final = str(insert(ENTRY).compile(dialect=dialect))
        self.scope_total: Final = str(
            add.on_conflict_do_update(index_elements=key, set_=grown).compile(dialect=dialect)
        )


def _write(
    connection: sa.Connection,
    statements: _Statements,
    numbers: Numbers,
    charges: Sequence[Charge],
) -> Sequence[Charge]:
    """Those whose keys were charged before."""
    works = numbers.of_works(connection, charges)
    tasks = numbers.of_tasks(connection, charges)
    first = (connection.scalar(sa.select(sa.func.max(CHARGE.c.id))) or 0) + 1
    _many(
        connection,
        statements.charge,
        (
            (
                *(number, each.tenant, each.key, work, task, each.session, each.price_version),
                *(each.sequence, each.called_micros, each.settled_micros),
                *each.figures,
            )
            for number, (each, work, task) in enumerate(
                zip(charges, works, tasks, strict=True), start=first
            )
        ),
    )
    written = set(connection.scalars(sa.select(CHARGE.c.id).where(CHARGE.c.id >= first)))
    numbered = dict(enumerate(charges, start=first))
    new = {number: each for number, each in numbered.items() if number in written}
    _write_entries(connection, statements, numbers, new)
    _write_totals(connection, statements, new.values())
    return [each for number, each in numbered.items() if number not in written]


def _write_entries(
    connection: sa.Connection,
    statements: _Statements,
    numbers: Numbers,
    charges: Mapping[int, Charge],
) -> None:
    costly = {number: each for number, each in charges.items() if each.figures.cost_micros}
    accounts = numbers.of_accounts(connection, costly.values())
    rows: list[tuple[int, int, int]] = []
    for (number, charge), (spending, payable) in zip(costly.items(), accounts, strict=True):
        amount = charge.figures.cost_micros
        rows += ((number, spending, amount), (number, payable, -amount))
    _many(connection, statements.entry, rows)


def _write_totals(
    connection: sa.Connection, statements: _Statements, charges: Iterable[Charge]
) -> None:
    alike = defaultdict[tuple[str, str, str, int], list[Figures]](list)
    for each in charges:
        quarter = each.settled_micros // QUARTER_MICROS
        alike[each.tenant, each.task_type, each.agent, quarter].append(each.figures)
    totals = defaultdict[_ScopeKey, list[list[int]]](list)
    for key, figures in alike.items():
        total = _sum(figures)
        for scope in _scopes(*key):
            totals[scope].append(total)
    # In the order of the index, whose pages are then gone through once.
    _many(
        connection, statements.scope_total, ((*key, *_sum(totals[key])) for key in sorted(totals))
    )


def _sum(rows: Iterable[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*rows, strict=True)]


def _scopes(tenant: str, task_type: str, agent: str, quarter: int) -> Iterable[_ScopeKey]:
    """Those that have budgets with windows. Sessions and tasks are added up when asked for."""
    yield (ScopeKind.GLOBAL.value, "", "", quarter)
    yield (ScopeKind.TENANT.value, tenant, "", quarter)
    if task_type:
        yield (ScopeKind.TASK_TYPE.value, tenant, task_type, quarter)
    if agent:
        yield (ScopeKind.AGENT.value, tenant, agent, quarter)


def _many(connection: sa.Connection, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    prepared = list(rows)
    if prepared:
        connection.exec_driver_sql(statement, prepared)
