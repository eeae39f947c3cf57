"""What the ledger does not take as it is, it keeps aside, and takes all else."""

import asyncio
import io
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from meshkit import log
from meshkit.bus import Bus
from services.governor.budget import Scope, ScopeKind
from services.governor.journalled_charges import NOON, append, read_books, usage_record
from services.governor.ledger_balances import LedgerBalances
from services.governor.ledger_charge import (
    charge_from,
    charge_text,
    charges_of_records,
    record_of,
)
from services.governor.ledger_database import open_ledger
from services.governor.ledger_projector import ledger_projector
from services.governor.ledger_refused import Refusal
from services.governor.ledger_repeats import SqlRepeats
from services.governor.ledger_tables import (
    REFUSED,
)
from services.governor.ledger_writer import LedgerWriter
from services.governor.usage_stream import STREAM
from sqlstore.database import Database
from sqlstore.positions import Place

pytest_plugins = ["meshtest.fixtures", "services.governor.fixture_ledger"]

_DAY = datetime(2026, 11, 20, tzinfo=UTC)

_NEXT_DAY = datetime(2026, 11, 21, tzinfo=UTC)

_GLOBAL = Scope(ScopeKind.GLOBAL)


async def _refuse(database: Database, key: str) -> None:
    """Has the database refuse this key, for a reason that nobody thought of."""

    def work(connection: sa.Connection) -> None:
        if connection.dialect.name == "postgresql":
            said = f"ALTER TABLE charge ADD CONSTRAINT strange CHECK (key <> '{key}')"
        else:
            said = (
                f"CREATE TRIGGER strange BEFORE INSERT ON charge WHEN NEW.key = '{key}'"
                " BEGIN SELECT RAISE(ABORT, 'strange'); END"
            )
        connection.exec_driver_sql(said)

    await database.write(work)


async def test_what_the_ledger_cannot_take_keeps_nothing_else_out(
    bus: Bus, ledger_folder: Path, address: str
) -> None:
    """Others of the same message are charged; it is told, and kept aside with its place."""
    refusals: list[Refusal] = []
    journal = log.get("test", stream=io.StringIO())
    database = await open_ledger(address, folder=ledger_folder, log=journal)
    await _refuse(database, "strange")
    writer = LedgerWriter(database, on_refusal=refusals.append)
    projector = ledger_projector(bus, writer, journal)
    balances = LedgerBalances(bus, database, projector)
    wrong = [
        usage_record("nul\0", 1, session="a"),
        usage_record("s", 2, session="\0"),
        usage_record("large", 2**62),
        usage_record("", 3),
        usage_record("strange", 4, task="t"),
    ]
    batches = [
        [usage_record("a", 5), *wrong[:3], usage_record("b", 7)],
        [*wrong[3:], usage_record("c", 11, task="t"), usage_record("d", 13)],
        [usage_record("e", 17)],
    ]
    places = await append(bus, *batches)
    run = asyncio.create_task(projector.run())
    found = await balances.balance(_GLOBAL, _DAY, _NEXT_DAY)
    books = await database.read(read_books)
    kept = await database.read(
        lambda on: on.execute(sa.select(REFUSED).order_by(REFUSED.c.sequence)).all()
    )
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    await database.close()
    assert found.spent_micros == 5 + 7 + 11 + 13 + 17
    assert books == {("spending", "acme"): 53, ("payable", "m"): -53}
    assert [each.sequence for each in kept] == [places[0]] * 3 + [places[1]] * 2
    assert {
        (json.loads(each.charge)["key"], json.loads(each.charge)["session"]) for each in kept
    } == {(each.key, each.session) for each in wrong}
    assert Counter(each.reason for each in kept) == Counter(each.reason for each in refusals)


async def test_repeat_that_says_something_else_is_kept_until_it_is_removed(
    bus: Bus, ledger_folder: Path, address: str
) -> None:
    """Another cost, another task, another end: each once, though it is carried twice.

    But none of the message that had the first: who settled both knows which one counts.
    """
    other_end = usage_record("a", 1)
    other_end.call_time.FromDatetime(NOON - timedelta(hours=1))
    later = usage_record("a", 1)
    later.settle_time.FromDatetime(NOON + timedelta(hours=1))
    told: list[None] = []
    journal = log.get("test", stream=io.StringIO())
    database = await open_ledger(address, folder=ledger_folder, log=journal)
    writer = LedgerWriter(database, on_repeats=lambda: told.append(None))
    repeats = SqlRepeats(database)
    first = charges_of_records(
        [usage_record("a", 1), usage_record("b", 1), usage_record("b", 3)], 4, 0
    )
    rest = charges_of_records(
        [
            usage_record("a", 1),
            later,
            usage_record("a", 2),
            usage_record("a", 1, task="t"),
            other_end,
        ],
        5,
        0,
    )
    places = [Place(0, 0), Place(4, 1), Place(5, 1)]
    try:
        await writer.lead()
        for _ in range(2):
            await writer.apply([first], stream=STREAM, before=places[0], after=places[1])
            await writer.apply([rest], stream=STREAM, before=places[1], after=places[2])
            waiting = await repeats.waiting(10)
            assert {each.charge for each in waiting} == {*rest[2:]}
            assert [each.charge.sequence for each in waiting] == [5, 5, 5]
            assert len(told) == 1
            told.clear()
            await repeats.remove(waiting)
            assert await repeats.waiting(10) == []
            await writer.clear(STREAM)
        assert charge_from(charge_text(rest[3])) == rest[3]
        assert charges_of_records([record_of(rest[3])], 5, 0) == [rest[3]]
    finally:
        await database.close()
