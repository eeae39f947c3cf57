"""The numbers under which the ledger knows tasks, kinds of work and accounts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from services.governor.ledger_charge import Charge
from services.governor.ledger_tables import ACCOUNT, TASK, WORK
from sqlstore.positions import INSERT

# How many rows one statement asks for, and how many numbers are remembered of a kind.
_CHUNK: Final = 200
_MOST_KEPT: Final = 20_000
_SPENDING: Final = "spending"
_PAYABLE: Final = "payable"

Key = tuple[Any, ...]


class Numbers:
    """Gives a number to what has none yet; remembers some. For one thread at a time.

    After a transaction that was not committed it has to forget everything.
    """

    def __init__(self) -> None:
        self._works: Final = _Numbered(WORK, ("tenant", "task_type", "agent", "model", "tier"), {})
        self._tasks: Final = _Numbered(
            TASK, ("tenant", "name"), {"ended_micros": 0, "succeeded": False}
        )
        self._accounts: Final = _Numbered(ACCOUNT, ("kind", "subject"), {})

    def of_works(self, connection: sa.Connection, charges: Sequence[Charge]) -> list[int]:
        """The number of each charge's kind of work."""
        return self._works.of(
            connection,
            [(each.tenant, each.task_type, each.agent, each.model, each.tier) for each in charges],
        )

    def of_tasks(self, connection: sa.Connection, charges: Sequence[Charge]) -> list[int]:
        """The number of each charge's task, 0 for none."""
        named = [(each.tenant, each.task) for each in charges if each.task]
        numbers = iter(self._tasks.of(connection, named))
        return [next(numbers) if each.task else 0 for each in charges]

    def of_accounts(
        self, connection: sa.Connection, charges: Iterable[Charge]
    ) -> list[tuple[int, int]]:
        """The accounts that each charge debits and credits."""
        keys: list[Key] = []
        for each in charges:
            keys += ((_SPENDING, each.tenant), (_PAYABLE, each.model))
        numbers = self._accounts.of(connection, keys)
        return list(zip(numbers[::2], numbers[1::2], strict=True))

    def forget(self) -> None:
        """Remembers nothing any more."""
        for each in (self._works, self._tasks, self._accounts):
            each.forget()


class _Numbered:
    """A table whose rows are known by a key and get a number."""

    def __init__(self, table: sa.Table, key: Sequence[str], beginning: Mapping[str, Any]) -> None:
        self._table: Final = table
        self._key: Final = [table.c[name] for name in key]
        self._beginning: Final = dict(beginning)
        self._known: dict[Key, int] = {}

    def of(self, connection: sa.Connection, keys: Sequence[Key]) -> list[int]:
        new = sorted({key for key in keys if key not in self._known})
        if new:
            if len(self._known) + len(new) > _MOST_KEPT:
                self._known.clear()
                new = sorted(set(keys))
            self._learn(connection, new)
            missing = [key for key in new if key not in self._known]
            if missing:
                self._add(connection, missing)
                self._learn(connection, missing)
        return [self._known[key] for key in keys]

    def forget(self) -> None:
        self._known.clear()

    def _learn(self, connection: sa.Connection, keys: Sequence[Key]) -> None:
        for start in range(0, len(keys), _CHUNK):
            wanted = sa.tuple_(*self._key).in_(keys[start : start + _CHUNK])
            rows = connection.execute(sa.select(self._table.c.id, *self._key).where(wanted))
            self._known.update((tuple(key), number) for number, *key in rows)

    def _add(self, connection: sa.Connection, keys: Sequence[Key]) -> None:
        insert = INSERT[connection.dialect.name](self._table).on_conflict_do_nothing()
        names = [column.name for column in self._key]
        rows = [dict(zip(names, key, strict=True)) | self._beginning for key in keys]
        connection.execute(insert, rows)
