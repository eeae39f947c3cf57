"""Writes events into the tables of the read model."""

import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import sqlalchemy as sa

from meshkit import names
from services.coordinator import task_terms
from services.coordinator.read_model_tables import ALL, POSITION, SIZE, TASK, TERM
from services.coordinator.task_row import Recorded, TaskRow, take
from sqlstore.database import Database
from sqlstore.positions import INSERT, Place, Positions
from tasklog import subjects

_COLUMNS: Final = tuple(column.name for column in TASK.c)
_get_all: Final[Callable[[TaskRow], Iterable[Any]]] = operator.attrgetter(*_COLUMNS)
# They stay as they are once a task is known.
_FIXED: Final = frozenset({"tenant", "task_id", "created_micros", "parent_id"})
# How many tasks one statement asks for.
_CHUNK: Final = 500
_POSITIONS: Final = Positions(POSITION)

_Term = tuple[str, str, int, str]


class ReadModelWriter:
    """Carries events into a copy. Whoever comes second at the same place is refused."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # The database tells its dialect with the first connection.
        self._statements: _Statements | None = None

    async def lead(self) -> None:
        """Returns once this process is the one that carries events into the copy."""
        await self._database.lead()

    async def resign(self) -> None:
        """Lets another process carry, if one wants to."""
        await self._database.resign()

    async def places(self) -> Mapping[str, Place]:
        """How far each stream was carried; a stream of which nothing was is missing."""
        return await self._database.read(_POSITIONS.all)

    async def apply(
        self, entries: Sequence[Recorded], *, stream: str, before: Place, after: Place
    ) -> None:
        """Takes over a stream's events between two places, in one transaction.

        They may come in any order; repeats change nothing.

        Raises:
            Moved: The stream is not at `before` any more. Nothing was written.
        """

        def work(connection: sa.Connection) -> None:
            if self._statements is None:
                self._statements = _Statements.of(connection.dialect)
            _apply(connection, self._statements, entries, stream, before, after)

        await self._database.carry(work)

    async def clear(self, stream: str) -> None:
        """Forgets everything, whatever the stream: the log is another one than before."""
        await self._database.carry(_clear)


def _clear(connection: sa.Connection) -> None:
    for table in ALL:
        connection.execute(sa.delete(table))


@dataclass(frozen=True, slots=True)
class _Statements:
    """What is said once for each of many rows, in the words of a dialect.

    SQLAlchemy would look at every value of every row, which costs as much as
    the database does with it.
    """

    put_row: str
    forget_term: str
    add_term: str

    @classmethod
    def of(cls, dialect: sa.Dialect) -> Self:
        """With places for values in the order of the table's columns."""
        put = INSERT[dialect.name](TASK)
        changing = {name: put.excluded[name] for name in _COLUMNS if name not in _FIXED}
        whole = put.on_conflict_do_update(index_elements=["tenant", "task_id"], set_=changing)
        forget = sa.delete(TERM).where(*(column == sa.bindparam(None) for column in TERM.c))
        return cls(
            put_row=str(whole.compile(dialect=dialect)),
            forget_term=str(forget.compile(dialect=dialect)),
            add_term=str(sa.insert(TERM).compile(dialect=dialect)),
        )


def _apply(
    connection: sa.Connection,
    statements: _Statements,
    entries: Sequence[Recorded],
    stream: str,
    before: Place,
    after: Place,
) -> None:
    # First of all: it keeps others out until the end of the transaction.
    _POSITIONS.advance(connection, stream, before, after)
    by_task = defaultdict[str, list[Recorded]](list)
    for entry in entries:
        by_task[entry.event.task].append(entry)
    known = _rows(connection, by_task)
    changed: list[tuple[TaskRow | None, TaskRow]] = []
    for name, its_entries in by_task.items():
        old = known.get(name)
        new = take(old, its_entries)
        if new != old:
            changed.append((old, new))
    if changed:
        _many(connection, statements.put_row, [_values(new) for _, new in changed])
        _write_terms(connection, statements, changed)
        _write_sizes(connection, changed)


def _many(connection: sa.Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    if rows:
        connection.exec_driver_sql(statement, list(rows))


_FIND: Final = (
    sa.select(*(TASK.c[name] for name in _COLUMNS))
    .where(TASK.c.tenant == sa.bindparam("its_tenant"))
    .where(TASK.c.task_id.in_(sa.bindparam("ids", expanding=True)))
    .with_for_update()
)


def _rows(connection: sa.Connection, wanted: Iterable[str]) -> dict[str, TaskRow]:
    by_tenant = defaultdict[str, list[str]](list)
    for name in wanted:
        tenant, task_id = names.TASK.parse(name, field="task")
        by_tenant[tenant].append(task_id)
    found: dict[str, TaskRow] = {}
    for tenant, ids in by_tenant.items():
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            for values in connection.execute(_FIND, {"its_tenant": tenant, "ids": chunk}):
                row = _row(values)
                found[subjects.task_name(tenant, row.task_id)] = row
    return found


def _row(values: Iterable[Any]) -> TaskRow:
    fields = dict(zip(_COLUMNS, values, strict=True))
    fields["seen_beyond"] = tuple(map(int, fields["seen_beyond"].split()))
    return TaskRow(**fields)


def _values(row: TaskRow) -> tuple[Any, ...]:
    return tuple(
        " ".join(map(str, row.seen_beyond)) if value is row.seen_beyond else value
        for value in _get_all(row)
    )


def _write_terms(
    connection: sa.Connection,
    statements: _Statements,
    changed: Sequence[tuple[TaskRow | None, TaskRow]],
) -> None:
    gone: list[_Term] = []
    come: list[_Term] = []
    for old, new in changed:
        before, after = _terms(old, new)
        key = (new.created_micros, new.task_id)
        gone += ((new.tenant, term, *key) for term in before - after)
        come += ((new.tenant, term, *key) for term in after - before)
    # In the order of the index, whose pages are then gone through once.
    _many(connection, statements.forget_term, sorted(gone))
    _many(connection, statements.add_term, sorted(come))


def _terms(old: TaskRow | None, new: TaskRow) -> tuple[frozenset[str], frozenset[str]]:
    """What the task was found by, and what it is; only the difference counts."""
    if old is None:
        return frozenset(), task_terms.of_row(new)
    if old.first_event == new.first_event and old.lane == new.lane:
        # Mostly only the state changes, and an event need not be read for that.
        if not new.first_event or old.state == new.state:
            return frozenset(), frozenset()
        return frozenset({task_terms.state(old.state)}), frozenset({task_terms.state(new.state)})
    return task_terms.of_row(old), task_terms.of_row(new)


def _write_sizes(
    connection: sa.Connection, changed: Sequence[tuple[TaskRow | None, TaskRow]]
) -> None:
    grown = Counter[str]()
    for old, new in changed:
        grown[new.tenant] += new.size_bytes - (old.size_bytes if old else 0)
    insert = INSERT[connection.dialect.name](SIZE)
    size = SIZE.c.size_bytes + insert.excluded.size_bytes
    connection.execute(
        insert.on_conflict_do_update(index_elements=["tenant"], set_={"size_bytes": size}),
        [{"tenant": tenant, "size_bytes": grown[tenant]} for tenant in sorted(grown)],
    )
