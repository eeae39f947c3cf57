"""Records whose key the ledger has already, and which say something else: kept until mended.

The counters may have counted both, where they had forgotten the first.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import sqlalchemy as sa

from services.governor.ledger_charge import Charge, charge_from, charge_text
from services.governor.ledger_tables import CHARGE, FIGURES, REPEAT, TASK, WORK
from services.governor.repeats import Repeat
from sqlstore.database import Database
from sqlstore.positions import INSERT

# How many keys one statement asks for.
_CHUNK: Final = 200
_WORK: Final = ("task_type", "agent", "model", "tier")


def keep_repeats(connection: sa.Connection, charges: Sequence[Charge]) -> int:
    """Keeps those of the charges that differ from what the ledger has of their keys; how many.

    Those of one message were settled together, and the counters took the first alone.
    """
    rows = [_row(each) for each in _differing(connection, charges)]
    if rows:
        insert = INSERT[connection.dialect.name](REPEAT)
        connection.execute(insert.on_conflict_do_nothing(), rows)
    return len(rows)


class SqlRepeats:
    """The Repeats of a ledger."""

    def __init__(self, database: Database) -> None:
        self._database: Final = database

    async def waiting(self, limit: int) -> Sequence[Repeat]:
        """The first of those that wait, in the order of the journal."""
        statement = sa.select(REPEAT).order_by(REPEAT.c.sequence).limit(limit)
        rows = await self._database.read(lambda on: on.execute(statement).all())
        return [Repeat(row.id, charge_from(row.charge)) for row in rows]

    async def remove(self, repeats: Sequence[Repeat]) -> None:
        """They wait no longer."""
        statement = sa.delete(REPEAT).where(REPEAT.c.id.in_([each.id for each in repeats]))
        await self._database.write(lambda on: on.execute(statement))


def _differing(connection: sa.Connection, charges: Sequence[Charge]) -> Sequence[Charge]:
    known: dict[tuple[str, str], tuple[int, tuple[Any, ...]]] = {}
    for start in range(0, len(charges), _CHUNK):
        keys = [(each.tenant, each.key) for each in charges[start : start + _CHUNK]]
        for row in connection.execute(_of_keys(keys)).mappings():
            known[row["tenant"], row["key"]] = row["sequence"], _said(row)
    differing: list[Charge] = []
    for charge in charges:
        first = known.get((charge.tenant, charge.key))
        if first and first[0] != charge.sequence and first[1] != _said(_columns(charge)):
            differing.append(charge)
    return differing


def _of_keys(keys: Sequence[tuple[str, str]]) -> sa.Executable:
    own = ("tenant", "key", "sequence", "session", "called_micros", "settled_micros", *FIGURES)
    return (
        sa.select(
            *(CHARGE.c[name] for name in own),
            *(WORK.c[name] for name in _WORK),
            sa.func.coalesce(TASK.c.name, "").label("task"),
        )
        .join(WORK, WORK.c.id == CHARGE.c.work_id)
        .outerjoin(TASK, TASK.c.id == CHARGE.c.task_id)
        .where(sa.tuple_(CHARGE.c.tenant, CHARGE.c.key).in_(keys))
    )


def _columns(charge: Charge) -> Mapping[str, Any]:
    return {**charge._asdict(), **charge.figures._asdict()}


def _said(columns: Mapping[Any, Any]) -> tuple[Any, ...]:
    """What tells one call from another one of its key."""
    # Who does not say when a call ended is asked about each time it is settled.
    called = columns["called_micros"]
    ended = None if called == columns["settled_micros"] else called
    return (ended, *(columns[name] for name in ("session", "task", *_WORK, *FIGURES)))


def _row(charge: Charge) -> dict[str, str | int]:
    text = charge_text(charge)
    return {
        "id": sha256(text.encode("ascii")).hexdigest(),
        "sequence": charge.sequence,
        "settled_micros": charge.settled_micros,
        "charge": text,
    }
