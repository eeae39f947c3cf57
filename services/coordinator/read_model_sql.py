"""The read model in SQL, on whichever database."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from agentmesh.coordinator.v1.task_pb2 import Task
from services.coordinator import task_terms
from services.coordinator.read_model import (
    DeadLetterFilter,
    Letter,
    LetterPage,
    Page,
    TaskFilter,
)
from services.coordinator.read_model_tables import IS_CHILD, IS_DEAD, TASK
from services.coordinator.task_search import NEWEST, OLDEST, Position, TaskSearch
from sqlstore.database import Database
from tasklog import fold
from tasklog.formats import EVENTS

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
# How many dead letters a page looks at before it ends early, with what it has found.
_LOOKED_AT: Final = 5_000


class SqlReadModel:
    """A ReadModel over tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, wanted: TaskFilter, *, position: str | None, limit: int) -> Page:
        """One page, newest first. It may be short, or empty, with others to follow."""
        newest, oldest = NEWEST, OLDEST
        if wanted.created_before is not None:
            newest = (_micros(wanted.created_before), "")
        if wanted.created_after is not None:
            oldest = (_micros(wanted.created_after), "")
        if position is not None:
            newest = min(newest, _split(position))
        groups = task_terms.of_filter(wanted)
        rows, following = await self._database.read(
            lambda connection: TaskSearch(
                connection, wanted.tenant, groups, newest=newest, oldest=oldest
            ).page(limit)
        )
        return Page([_task(row) for row in rows], _joined(following))

    async def dead_letters(
        self, wanted: DeadLetterFilter, *, position: str | None, limit: int
    ) -> LetterPage:
        """One page, the last to come first. It may be short, or empty, with others to follow."""
        place = sa.tuple_(TASK.c.ended_micros, TASK.c.task_id)
        newest_first = (TASK.c.ended_micros.desc(), TASK.c.task_id.desc())
        dead = [TASK.c.tenant == wanted.tenant, sa.text(IS_DEAD)]
        if wanted.before is not None:
            dead.append(TASK.c.ended_micros < _micros(wanted.before))
        if position is not None:
            dead.append(place < sa.tuple_(*_split(position)))
        # It cannot be shown while its first event is still to come.
        fits = [sa.func.length(TASK.c.first_event) > 0]
        if wanted.lane:
            fits.append(TASK.c.lane == wanted.lane)
        if wanted.reason:
            fits.append(TASK.c.reason == wanted.reason)
        reach = (
            sa.select(TASK.c.ended_micros, TASK.c.task_id)
            .where(*dead)
            .order_by(*newest_first)
            .limit(1)
            .offset(_LOOKED_AT - 1)
        )
        found = (
            sa.select(
                TASK.c.ended_micros,
                TASK.c.task_id,
                TASK.c.reason,
                TASK.c.first_event,
                TASK.c.last_event,
            )
            .where(*dead, *fits)
            .order_by(*newest_first)
            .limit(limit + 1)
        )

        def page(on: sa.Connection) -> tuple[Sequence[Any], Position | None]:
            last = on.execute(reach).one_or_none()
            if last is None:
                rows, oldest = on.execute(found).all(), None
            else:
                oldest = _place(last)
                rows = on.execute(found.where(place >= sa.tuple_(*oldest))).all()
            return rows[:limit], _place(rows[limit - 1]) if len(rows) > limit else oldest

        rows, following = await self._database.read(page)
        letters = [
            Letter(_task(row), _EPOCH + row.ended_micros * _MICROSECOND, row.reason) for row in rows
        ]
        return LetterPage(letters, _joined(following))

    async def open_children(self, tenant: str, task_id: str) -> Sequence[str]:
        """Ids of the task's children that have not ended."""
        statement = (
            sa.select(TASK.c.task_id)
            .where(TASK.c.tenant == tenant, TASK.c.parent_id == task_id, sa.text(IS_CHILD))
            .where(TASK.c.ended_micros == 0)
            .order_by(TASK.c.task_id)
        )
        return await self._database.read(lambda on: on.scalars(statement).all())

    async def listed(self, tenant: str, task_ids: Sequence[str]) -> Sequence[str]:
        """Those of `task_ids` that are known; no more than a few hundred."""
        statement = sa.select(TASK.c.task_id).where(
            TASK.c.tenant == tenant, TASK.c.task_id.in_(task_ids)
        )
        return await self._database.read(lambda on: on.scalars(statement).all())


def _task(row: Any) -> Task:
    return fold.task_of(EVENTS.decode(row.first_event), EVENTS.decode(row.last_event))


def _place(row: Any) -> Position:
    return row.ended_micros, row.task_id


def _split(position: str) -> Position:
    micros, _, task_id = position.partition("/")
    return int(micros), task_id


def _joined(position: Position | None) -> str:
    return f"{position[0]}/{position[1]}" if position else ""


def _micros(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND
