"""Test-only: charges as the journal has them, and the books that they come to."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from agentmesh.governor.v1.usage_record_pb2 import UsageRecord
from meshkit.bus import Bus
from meshkit.ids import RandomIds
from services.governor.journal_jetstream import JetStreamJournal
from services.governor.ledger_tables import (
    ACCOUNT,
    ENTRY,
)

NOON: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)


def usage_record(key: str, cost: int, *, tenant: str = "acme", **fields: Any) -> UsageRecord:
    """What a call of a dozen tokens used, settled at noon if nothing else is said."""
    record = UsageRecord(tenant=tenant, key=key, model=fields.pop("model", "m"), **fields)
    record.usage.input_tokens = 10
    record.usage.output_tokens = 2
    record.usage.model_calls = 1
    record.usage.cost_micros = cost
    if not record.HasField("settle_time"):
        record.settle_time.FromDatetime(NOON)
    return record


async def append(bus: Bus, *batches: Sequence[UsageRecord]) -> list[int]:
    """The places of these batches in the journal."""
    journal = JetStreamJournal(bus, RandomIds())
    return [await journal.append(each) for each in batches]


def read_books(connection: sa.Connection) -> dict[tuple[str, str], int]:
    """What each account comes to; every charge's entries sum to 0."""
    unbalanced = (
        sa.select(ENTRY.c.charge_id)
        .group_by(ENTRY.c.charge_id)
        .having((sa.func.sum(ENTRY.c.amount_micros) != 0) | (sa.func.count() != 2))
    )
    assert connection.execute(unbalanced).all() == []
    rows = connection.execute(
        sa.select(ACCOUNT.c.kind, ACCOUNT.c.subject, sa.func.sum(ENTRY.c.amount_micros))
        .join_from(ACCOUNT, ENTRY, ACCOUNT.c.id == ENTRY.c.account_id)
        .group_by(ACCOUNT.c.kind, ACCOUNT.c.subject)
    )
    return {(kind, subject): int(amount) for kind, subject, amount in rows}
