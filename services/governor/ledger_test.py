"""The ledger holds what the journal says, once, whatever happens on the way."""

import asyncio
import io
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from agentmesh.governor.v1.usage_record_pb2 import UsageRecord
from meshkit import log
from meshkit.bus import Bus
from meshkit.errors import DependencyUnavailable
from meshkit.ids import RandomIds
from meshtest.eventually import eventually
from services.governor import ledger_balances
from services.governor.account import FirstRecord, Usage
from services.governor.budget import Scope, ScopeKind
from services.governor.journal_jetstream import JetStreamJournal
from services.governor.journalled_charges import NOON, append, read_books, usage_record
from services.governor.ledger_balances import LedgerBalances
from services.governor.ledger_charge import (
    Charge,
)
from services.governor.ledger_database import open_ledger
from services.governor.ledger_projector import ledger_projector
from services.governor.ledger_sums import Sums, totals
from services.governor.ledger_tables import (
    CHARGE,
    METADATA,
    SCOPE_TOTAL,
)
from services.governor.ledger_writer import LedgerWriter
from services.governor.usage_stream import STREAM, usage_stream_spec
from sqlstore.database import Database
from sqlstore.positions import Place

pytest_plugins = ["meshtest.fixtures", "services.governor.fixture_ledger"]
_DAY = datetime(2026, 11, 20, tzinfo=UTC)
_NEXT_DAY = datetime(2026, 11, 21, tzinfo=UTC)
_GLOBAL = Scope(ScopeKind.GLOBAL)


@asynccontextmanager
async def _ledger(
    bus: Bus, folder: Path, address: str
) -> AsyncGenerator[tuple[Database, LedgerBalances]]:
    """A ledger that is kept up with the journal."""
    journal = log.get("test", stream=io.StringIO())
    database = await open_ledger(address, folder=folder, log=journal)
    projector = ledger_projector(bus, LedgerWriter(database), journal)
    run = asyncio.create_task(projector.run())
    try:
        yield database, LedgerBalances(bus, database, projector)
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        await database.close()


def _expand(connection: sa.Connection) -> None:
    """Makes the tables what a next release may make of them."""
    for table in METADATA.sorted_tables:
        for column in ("later TEXT", "more BIGINT NOT NULL DEFAULT 0"):
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {column}")
    connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999.0004'")


async def test_each_charge_debits_the_tenant_and_credits_the_provider(
    bus: Bus, ledger_folder: Path, address: str
) -> None:
    """What costs nothing has no entries; what is found again is no charge again."""
    first = usage_record("a", 5, model="opus")
    await append(
        bus,
        [first, usage_record("b", 7, model="haiku"), usage_record("free", 0, model="offline")],
        [
            usage_record("a", 500, model="haiku"),
            usage_record("a", 11, tenant="other", model="opus"),
        ],
        [first, first],
    )
    async with _ledger(bus, ledger_folder, address) as (database, balances):
        await balances.catch_up()
        books = await database.read(read_books)
        charges = await database.read(lambda on: on.scalar(sa.select(sa.func.count(CHARGE.c.id))))
    assert books == {
        ("spending", "acme"): 12,
        ("spending", "other"): 11,
        ("payable", "opus"): -16,
        ("payable", "haiku"): -7,
    }
    assert charges == 4


async def test_tables_of_the_next_release_serve_this_one(
    bus: Bus, ledger_folder: Path, address: str
) -> None:
    """A governor that is still to be upgraded starts, carries and answers as ever."""
    await append(bus, [usage_record("a", 5, session="s", task="t")])
    async with _ledger(bus, ledger_folder, address) as (database, balances):
        await balances.catch_up()
        await database.write(_expand)
    await append(bus, [usage_record("a", 5), usage_record("b", 7)])
    async with _ledger(bus, ledger_folder, address) as (database, balances):
        await balances.catch_up()
        assert await database.read(read_books) == {("spending", "acme"): 12, ("payable", "m"): -12}


async def test_a_balance_is_complete_up_to_where_the_journal_ended(
    bus: Bus, ledger_folder: Path, address: str
) -> None:
    """Of each scope by itself, within its window, with the place it is complete to."""
    late = usage_record("late", 1_000, task_type="chat")
    late.settle_time.FromDatetime(_NEXT_DAY)
    last = await append(
        bus,
        [usage_record("a", 1, task_type="chat", agent="helper", session="s1", task="t1")],
        [usage_record("b", 20, task_type="chat", agent="other", session="s2"), late],
        [
            usage_record("c", 300, agent="helper"),
            usage_record("d", 4_000, tenant="else", task_type="chat"),
        ],
    )
    async with _ledger(bus, ledger_folder, address) as (_, balances):
        expected = {
            _GLOBAL: 4_321,
            Scope(ScopeKind.TENANT, "acme"): 321,
            Scope(ScopeKind.TASK_TYPE, "acme", "chat"): 21,
            Scope(ScopeKind.AGENT, "acme", "helper"): 301,
            Scope(ScopeKind.SESSION, "acme", "s1"): 1,
            Scope(ScopeKind.TASK, "acme", "t1"): 1,
            Scope(ScopeKind.TASK, "acme", "none"): 0,
        }
        found = {each: await balances.balance(each, _DAY, _NEXT_DAY) for each in expected}
        ever = await balances.balance(Scope(ScopeKind.TENANT, "acme"), _DAY, None)
    assert {scope: each.spent_micros for scope, each in found.items()} == expected
    assert {each.sequence for each in found.values()} == {last[-1]}
    assert found[_GLOBAL].usage.input_tokens == 40
    assert found[_GLOBAL].usage.model_calls == 4
    assert ever.spent_micros == 1_321


@pytest.mark.parametrize("kind", [ScopeKind.SESSION, ScopeKind.TASK])
async def test_a_session_and_a_task_are_found_by_an_index(tmp_path: Path, kind: ScopeKind) -> None:
    """And not by looking at every charge that there is."""
    database = await open_ledger("", folder=tmp_path, log=log.get("test", stream=io.StringIO()))
    statement = totals(Scope(kind, "acme", "x"), _DAY, None)

    def work(connection: sa.Connection) -> str:
        text = statement.compile(connection, compile_kwargs={"literal_binds": True})
        return str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").all())

    plan = await database.read(work)
    await database.close()
    assert f"SEARCH charge USING INDEX charge_{kind}" in plan


async def test_a_balance_that_cannot_be_complete_is_none(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody carries the journal, who asks is told so after a while."""
    monkeypatch.setattr(ledger_balances, "_MOST_BEHIND_SECONDS", 0.2)
    await append(bus, [usage_record("a", 1)])
    journal = log.get("test", stream=io.StringIO())
    database = await open_ledger("", folder=tmp_path, log=journal)
    projector = ledger_projector(bus, LedgerWriter(database), journal)
    with pytest.raises(DependencyUnavailable) as caught:
        await LedgerBalances(bus, database, projector).balance(_GLOBAL, _DAY, None)
    assert str(caught.value) == "The ledger has not caught up with the journal in time."
    await database.close()


class _Batches(LedgerWriter):
    """Knows how many charges were written at once."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.sizes: list[int] = []

    async def apply(
        self, entries: Sequence[Sequence[Charge]], *, stream: str, before: Place, after: Place
    ) -> None:
        self.sizes.append(sum(map(len, entries)))
        await super().apply(entries, stream=stream, before=before, after=after)


async def test_catching_up_takes_a_few_hundred_charges_at_a_time(bus: Bus, tmp_path: Path) -> None:
    """However many wait: neither the database nor the event loop is ever long busy with them."""
    messages = [[usage_record(f"{each}/{key}", 1) for key in range(256)] for each in range(20)]
    await append(bus, *messages)
    journal = log.get("test", stream=io.StringIO())
    database = await open_ledger("", folder=tmp_path, log=journal)
    writer = _Batches(database)
    projector = ledger_projector(bus, writer, journal)
    run = asyncio.create_task(projector.run())
    await LedgerBalances(bus, database, projector).catch_up()
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    await database.close()
    assert sum(writer.sizes) == 20 * 256
    assert max(writer.sizes) == 256


async def test_the_first_record_of_a_key_is_found(
    bus: Bus, ledger_folder: Path, address: str
) -> None:
    """As the journal had it; a key that has none is missing."""
    places = await append(bus, [usage_record("a", 1)], [usage_record("b", 1), usage_record("a", 2)])
    async with _ledger(bus, ledger_folder, address) as (_, balances):
        wanted = [("acme", "a"), ("acme", "b"), ("acme", "c"), ("other", "a")]
        found = await balances.first_records(wanted)
    usage = Usage(input_tokens=10, output_tokens=2, model_calls=1)
    assert found == {
        ("acme", key): FirstRecord(place, NOON, "m", 1, usage)
        for key, place in zip("ab", places, strict=True)
    }


async def test_what_was_settled_is_known_by_the_hour(
    bus: Bus, ledger_folder: Path, address: str
) -> None:
    """For who looks for what is unusual."""
    records: list[UsageRecord] = []
    for minutes in (0, 14, 59, 60, 185):
        record = usage_record(f"k{minutes}", minutes + 1)
        record.settle_time.FromDatetime(NOON + timedelta(minutes=minutes))
        records.append(record)
    await append(bus, records)
    hours = [NOON + timedelta(hours=each) for each in (3, 0, 1, 2, -1)]
    async with _ledger(bus, ledger_folder, address) as (database, balances):
        await balances.catch_up()
        by_hour = await database.read(lambda on: Sums(on).by_hour("acme", hours))
        first = await database.read(lambda on: Sums(on).first_time("acme"))
        none = await database.read(lambda on: Sums(on).first_time("nobody"))
        spent = await database.read(
            lambda on: Sums(on).spent(Scope(ScopeKind.TENANT, "acme"), NOON, None)
        )
    assert by_hour == [186, 1 + 15 + 60, 61, 0, 0]
    assert (first, none, spent) == (NOON, None, 323)


async def test_a_journal_that_begins_anew_takes_nothing_away(bus: Bus, tmp_path: Path) -> None:
    """A broker that lost everything gives its sequences again: what was charged stays charged."""
    await append(bus, [usage_record("a", 1), usage_record("b", 2)])
    async with _ledger(bus, tmp_path, "") as (database, balances):
        await balances.catch_up()
    async with _ledger(bus, tmp_path, "") as (database, _):
        writer = LedgerWriter(database)
        before = (await writer.places())[STREAM]
        # As after a journal that had more than this one has now.
        await writer.apply([], stream=STREAM, before=before, after=Place(9, 9))
    await append(bus, [usage_record("b", 2), usage_record("c", 40)])
    async with _ledger(bus, tmp_path, "") as (_, balances):

        async def spent() -> bool:
            return (await balances.balance(_GLOBAL, _DAY, None)).spent_micros == 43

        await eventually(spent)


async def test_a_balance_is_never_that_of_a_journal_that_was_lost(
    bus: Bus, ledger_folder: Path, address: str
) -> None:
    """Until the ledger is carried anew its place is beyond what is new, which would not count."""
    for number in range(5):
        await append(bus, [usage_record(f"a{number}", 1)])
    async with _ledger(bus, ledger_folder, address) as (_, balances):
        await balances.catch_up()
        link: Any = vars(bus)["_link"]
        await link.ask_json(f"$JS.API.STREAM.DELETE.{STREAM}", {})
        await JetStreamJournal(bus, RandomIds()).prepare(
            usage_stream_spec(keep_days=None, max_bytes=None)
        )
        assert await append(bus, [usage_record("b", 10)], [usage_record("c", 20)]) == [1, 2]
        balance = await balances.balance(_GLOBAL, _DAY, None)
        assert (balance.spent_micros, balance.sequence) == (35, 2)


async def _program(nats_url: str, folder: Path, address: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.governor.ledger_program"),
        *(nats_url, folder, address),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
    )


async def _applied(program: asyncio.subprocess.Process) -> None:
    """Once the one before it has died."""
    assert program.stdout is not None
    async with asyncio.timeout(60):
        assert await program.stdout.readline() == b"applied\n"


async def test_a_process_may_be_killed_at_any_moment(
    bus: Bus, nats_url: str, ledger_folder: Path, address: str
) -> None:
    """Another one goes on: no charge is lost, and none is there twice."""
    seed = random.randrange(10_000)
    print("seed", seed)
    chance = random.Random(seed)
    expected = Counter[str]()
    keys: list[tuple[str, int]] = []

    async def charge() -> None:
        # One in four is there before.
        if keys and chance.random() < 0.25:
            key, cost = chance.choice(keys)
        else:
            key, cost = f"k{len(keys)}", chance.randrange(1_000)
            keys.append((key, cost))
        await append(bus, [usage_record(key, cost), usage_record(key, cost + 1, tenant="other")])

    programs = [await _program(nats_url, ledger_folder, address)]
    for _ in range(2):
        await charge()
        # It leads now; the next one stands by.
        await _applied(programs[-1])
        programs.append(await _program(nats_url, ledger_folder, address))
        dies_after = chance.randrange(40)
        for number in range(40):
            await charge()
            if number == dies_after:
                programs[-2].kill()
    await charge()
    await _applied(programs[-1])
    programs[-1].kill()
    for each in programs:
        await each.wait()
    expected["acme"] = sum(cost for _, cost in keys)
    expected["other"] = sum(cost + 1 for _, cost in keys)
    async with _ledger(bus, ledger_folder, address) as (database, balances):
        assert (await balances.balance(_GLOBAL, _DAY, None)).spent_micros == expected.total()
        books = await database.read(read_books)
        quarters = await database.read(
            lambda on: on.scalar(
                sa.select(sa.func.sum(SCOPE_TOTAL.c.model_calls)).where(
                    SCOPE_TOTAL.c.kind == "global"
                )
            )
        )
    assert books == {
        ("spending", "acme"): expected["acme"],
        ("spending", "other"): expected["other"],
        ("payable", "m"): -expected.total(),
    }
    assert quarters == 2 * len(keys)
