"""Finds a page of tasks by their terms, however many tasks there are."""

from collections.abc import Collection, Sequence
from typing import Any, Final

import sqlalchemy as sa

from services.coordinator.read_model_tables import TASK, TERM

# How many tasks are looked at to see which terms leave the fewest.
_PROBED: Final = 1_000
# How many tasks a page looks at before it ends early, with what it has found.
_LOOKED_AT: Final = 5_000

# When a task was created, in microseconds since 1970, and its id.
Position = tuple[int, str]
# After every position, and before every position.
NEWEST: Final[Position] = (10**18 - 1, "~")
OLDEST: Final[Position] = (-(10**18), "")


class TaskSearch:
    """Tasks of a tenant that have at least one term of each group, between two positions.

    One group leads: its tasks come from the index in the order of the list, and
    of each it is looked up whether it has the others' terms. The rarest leads, and
    how many tasks are looked at is bounded, so that a page costs about the same
    whatever is asked for.
    """

    def __init__(
        self,
        connection: sa.Connection,
        tenant: str,
        groups: Sequence[Collection[str]],
        *,
        newest: Position,
        oldest: Position,
    ) -> None:
        """`newest` is the first position that is not wanted any more, `oldest` the last wanted."""
        self._connection = connection
        self._tenant = tenant
        self._groups = groups
        self._newest = newest
        self._oldest = oldest

    def page(self, limit: int) -> tuple[Sequence[Any], Position | None]:
        """The first tasks, newest first, and the position after which the others come.

        There may be fewer than `limit`, though others follow. None where none follow.
        """
        leading, *others = self._groups
        oldest = self._oldest
        if others:
            leading, *others = sorted(self._groups, key=self._reach)
            oldest = self._nth(leading, _LOOKED_AT) or oldest
        rows = self._rows(leading, others, oldest, limit + 1)
        if len(rows) > limit:
            return rows[:limit], (rows[limit - 1].created_micros, rows[limit - 1].task_id)
        return rows, oldest if oldest != self._oldest else None

    def _reach(self, group: Collection[str]) -> Position:
        """How far back so many tasks of a group go; those of the rarest go furthest."""
        return self._nth(group, _PROBED) or self._oldest

    def _nth(self, group: Collection[str], number: int) -> Position | None:
        """Where the group's task of that number is; None where there are fewer."""
        found = self._in_order(group, (), self._oldest, number).limit(1).offset(number - 1)
        row = self._connection.execute(found).one_or_none()
        return None if row is None else (row.created_micros, row.task_id)

    def _rows(
        self,
        leading: Collection[str],
        others: Sequence[Collection[str]],
        oldest: Position,
        limit: int,
    ) -> Sequence[Any]:
        found = self._in_order(leading, others, oldest, limit).limit(limit).subquery()
        return self._connection.execute(
            sa.select(
                found.c.created_micros, found.c.task_id, TASK.c.first_event, TASK.c.last_event
            )
            .join(TASK, (TASK.c.tenant == self._tenant) & (TASK.c.task_id == found.c.task_id))
            .order_by(found.c.created_micros.desc(), found.c.task_id.desc())
        ).all()

    def _in_order(
        self,
        leading: Collection[str],
        others: Sequence[Collection[str]],
        oldest: Position,
        wanted: int,
    ) -> sa.Select[Any, Any]:
        """The positions of tasks with one of the leading terms, newest first.

        No more than the first `wanted` are asked of it.
        """
        parts = [_newest_first(self._with_term(term, others, oldest)) for term in leading]
        if len(parts) == 1:
            return parts[0]
        # PostgreSQL does not see that the index has each part in order, and would
        # sort all that there is; so each is cut before they are put together.
        cut = (sa.select(part.limit(wanted).subquery()) for part in parts)
        return _newest_first(sa.select(sa.union_all(*cut).subquery()))

    def _with_term(
        self, term: str, others: Sequence[Collection[str]], oldest: Position
    ) -> sa.Select[Any, Any]:
        place = sa.tuple_(TERM.c.created_micros, TERM.c.task_id)
        statement = sa.select(TERM.c.created_micros, TERM.c.task_id).where(
            TERM.c.tenant == self._tenant,
            TERM.c.term == term,
            place < sa.tuple_(*self._newest),
            place >= sa.tuple_(*oldest),
        )
        for group in others:
            other = TERM.alias()
            has_it = (
                sa.select(sa.literal(1))
                .where(
                    other.c.tenant == self._tenant,
                    other.c.term.in_(group),
                    other.c.created_micros == TERM.c.created_micros,
                    other.c.task_id == TERM.c.task_id,
                )
                # With an offset PostgreSQL looks each task up and makes no join of it.
                .limit(1)
                .offset(0)
            )
            statement = statement.where(has_it.exists())
        return statement


def _newest_first(positions: sa.Select[Any, Any]) -> sa.Select[Any, Any]:
    columns = positions.selected_columns
    return positions.order_by(columns.created_micros.desc(), columns.task_id.desc())
