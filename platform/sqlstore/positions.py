"""How far each stream was carried into a copy: written together with what was carried."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

# Compared byte by byte, whatever language the server speaks.
KEY: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
# `INSERT ... ON CONFLICT` is said alike in both dialects, by functions of their own.
INSERT: Final[Mapping[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


@dataclass(frozen=True, slots=True)
class Place:
    """How far a stream was carried into a copy."""

    # The last stream sequence, 0 for none.
    position: int
    # When that message was stored, in nanoseconds since 1970.
    stamp_ns: int


# Before a stream's first message.
BEGINNING: Final = Place(0, 0)


class Moved(Exception):
    """Somebody else carries into the copy, or has put another one in its place."""


def columns() -> tuple[sa.Column[Any], ...]:
    """Those of the table that `Positions` is about."""
    return (
        sa.Column("stream", KEY, primary_key=True),
        # The last stream sequence that was carried into the copy, 0 for none.
        sa.Column("position", sa.BigInteger, nullable=False),
        # When that message was stored, in nanoseconds since 1970.
        sa.Column("stamp_ns", sa.BigInteger, nullable=False),
    )


class Positions:
    """A table with a row for each stream that is carried into the copy."""

    def __init__(self, table: sa.Table) -> None:
        self._table: Final = table
        self._advance: Final = (
            sa.update(table)
            .where(table.c.stream == sa.bindparam("its_stream"))
            .where(table.c.position == sa.bindparam("before"))
            .where(table.c.stamp_ns == sa.bindparam("before_ns"))
            .values(position=sa.bindparam("after"), stamp_ns=sa.bindparam("after_ns"))
        )

    def all(self, connection: sa.Connection) -> Mapping[str, Place]:
        """How far each stream was carried; a stream of which nothing was is missing."""
        rows = connection.execute(sa.select(self._table))
        return {row.stream: Place(row.position, row.stamp_ns) for row in rows}

    def advance(self, connection: sa.Connection, stream: str, before: Place, after: Place) -> None:
        """Keeps others out until the end of the transaction, so it comes first in it.

        Raises:
            Moved: The stream is not at `before` any more. Nothing was written.
        """
        if before == BEGINNING:
            begun = INSERT[connection.dialect.name](self._table).values(
                stream=stream, position=0, stamp_ns=0
            )
            connection.execute(begun.on_conflict_do_nothing())
        moved = connection.execute(
            self._advance,
            {
                "its_stream": stream,
                "before": before.position,
                "before_ns": before.stamp_ns,
                "after": after.position,
                "after_ns": after.stamp_ns,
            },
        )
        if moved.rowcount != 1:
            raise Moved

    def forget(self, connection: sa.Connection, stream: str) -> None:
        """Puts the stream at its beginning."""
        connection.execute(sa.delete(self._table).where(self._table.c.stream == stream))
