"""What tasks used, from the ledger."""

from collections import defaultdict
from typing import Final

import sqlalchemy as sa

from services.governor.forecast import TaskUse, TierUse
from services.governor.ledger_tables import CHARGE, WORK
from services.governor.spend_query import tier_text
from sqlstore.database import Readable

# So many of the latest charges are looked at, of so many agents and models.
_MOST_CHARGES: Final = 5_000
_MOST_WORKS: Final = 1_000


class SqlTaskUses:
    """TaskUses over the latest charges of tasks."""

    def __init__(self, database: Readable) -> None:
        self._database: Final = database

    async def of(self, tenant: str, task_type: str) -> TaskUse | None:
        """What the latest tasks of the type used; None where there were none."""

        def work(connection: sa.Connection) -> TaskUse | None:
            return _use(connection, tenant, task_type)

        return await self._database.read(work)


def _use(connection: sa.Connection, tenant: str, task_type: str) -> TaskUse | None:
    works = connection.execute(
        sa.select(WORK.c.id, WORK.c.tier)
        .where(WORK.c.tenant == tenant, WORK.c.task_type == task_type)
        .order_by(WORK.c.id.desc())
        .limit(_MOST_WORKS)
    ).all()
    latest: list[tuple[int, int, int, int, int]] = []
    for number, tier in works:
        rows = connection.execute(
            sa.select(CHARGE.c.id, CHARGE.c.task_id, CHARGE.c.model_calls, CHARGE.c.cost_micros)
            .where(CHARGE.c.work_id == number, CHARGE.c.task_id > 0)
            .order_by(CHARGE.c.id.desc())
            .limit(_MOST_CHARGES)
        )
        latest += ((*row, tier) for row in rows)
    latest.sort(reverse=True)
    tasks = set[int]()
    calls, costs = defaultdict[int, int](int), defaultdict[int, int](int)
    for _, task, model_calls, cost_micros, tier in latest[:_MOST_CHARGES]:
        tasks.add(task)
        calls[tier] += model_calls
        costs[tier] += cost_micros
    if not tasks:
        return None
    return TaskUse(
        len(tasks), [TierUse(tier_text(tier), calls[tier], costs[tier]) for tier in sorted(calls)]
    )
