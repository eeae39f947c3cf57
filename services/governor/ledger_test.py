"""The ledger holds what the journal says, once, whatever happens on the way."""

import asyncio
import io
import json
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
from services.governor.ledger_balances import LedgerBalances
from services.governor.ledger_charge import (
    Charge,
    charge_from,
    charge_text,
    charges_of_records,
    record_of,
)
from services.governor.ledger_database import open_ledger
from services.governor.ledger_projector import ledger_projector
from services.governor.ledger_refused import Refusal
from services.governor.ledger_repeats import SqlRepeats
from services.governor.ledger_sums import Sums, totals
from services.governor.ledger_tables import (
    ACCOUNT,
    CHARGE,
    ENTRY,
    METADATA,
    REFUSED,
    SCOPE_TOTAL,
)
from services.governor.ledger_writer import LedgerWriter
from services.governor.usage_stream import STREAM, usage_stream_spec
from sqlstore.database import Database
from sqlstore.positions import Place

pytest_plugins = ["meshtest.fixtures", "services.governor.fixture_ledger"]

_NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
_DAY = datetime(2026, 11, 20, tzinfo=UTC)
_NEXT_DAY = datetime(2026, 11, 21, tzinfo=UTC)
_GLOBAL = Scope(ScopeKind.GLOBAL)


@pytest.fixture
async def bus(nats_url: str) -> AsyncGenerator[Bus]:
    """There is a journal."""
    async with await Bus.connect(nats_url, name="test") as bus:
        await JetStreamJournal(bus, RandomIds()).prepare(
            usage_stream_spec(keep_days=None, max_bytes=None)
        )
        yield bus


def _record(key: str, cost: int, *, tenant: str = "acme", **fields: Any) -> UsageRecord:
    record = UsageRecord(tenant=tenant, key=key, model=fields.pop("model", "m"), **fields)
    record.usage.input_tokens = 10
    record.usage.output_tokens = 2
    record.usage.model_calls = 1
    record.usage.cost_micros = cost
    if not record.HasField("settle_time"):
        record.settle_time.FromDatetime(_NOON)
    return record


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


async def _append(bus: Bus, *batches: Sequence[UsageRecord]) -> list[int]:
    journal = JetStreamJournal(bus, RandomIds())
    return [await journal.append(each) for each in batches]


def _expand(connection: sa.Connection) -> None:
    """Makes the tables what a next release may make of them."""
    for table in METADATA.sorted_tables:
        for column in ("later TEXT", "more BIGINT NOT NULL DEFAULT 0"):
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {column}")
    connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999.0004'")


def _books(connection: sa.Connection) -> dict[tuple[str, str], int]:
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


async def test_each_charge_debits_the_tenant_and_credits_the_provider(
    bus: Bus, ledger_folder: Path, address: str
) -> None:
    """What costs nothing has no entries; what is found again is no charge again."""
    first = _record("a", 5, model="opus")
    await _append(
        bus,
        [first, _record("b", 7, model="haiku"), _record("free", 0, model="offline")],
        [_record("a", 500, model="haiku"), _record("a", 11, tenant="other", model="opus")],
        [first, first],
    )
    async with _ledger(bus, ledger_folder, address) as (database, balances):
        await balances.catch_up()
        books = await database.read(_books)
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
    await _append(bus, [_record("a", 5, session="s", task="t")])
    async with _ledger(bus, ledger_folder, address) as (database, balances):
        await balances.catch_up()
        await database.write(_expand)
    await _append(bus, [_record("a", 5), _record("b", 7)])
    async with _ledger(bus, ledger_folder, address) as (database, balances):
        await balances.catch_up()
        assert await database.read(_books) == {("spending", "acme"): 12, ("payable", "m"): -12}


async def test_a_balance_is_complete_up_to_where_the_journal_ended(
    bus: Bus, ledger_folder: Path, address: str
) -> None:
    """Of each scope by itself, within its window, with the place it is complete to."""
    late = _record("late", 1_000, task_type="chat")
    late.settle_time.FromDatetime(_NEXT_DAY)
    last = await _append(
        bus,
        [_record("a", 1, task_type="chat", agent="helper", session="s1", task="t1")],
        [_record("b", 20, task_type="chat", agent="other", session="s2"), late],
        [_record("c", 300, agent="helper"), _record("d", 4_000, tenant="else", task_type="chat")],
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
    await _append(bus, [_record("a", 1)])
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
    messages = [[_record(f"{each}/{key}", 1) for key in range(256)] for each in range(20)]
    await _append(bus, *messages)
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
        _record("nul\0", 1, session="a"),
        _record("s", 2, session="\0"),
        _record("large", 2**62),
        _record("", 3),
        _record("strange", 4, task="t"),
    ]
    batches = [
        [_record("a", 5), *wrong[:3], _record("b", 7)],
        [*wrong[3:], _record("c", 11, task="t"), _record("d", 13)],
        [_record("e", 17)],
    ]
    places = await _append(bus, *batches)
    run = asyncio.create_task(projector.run())
    found = await balances.balance(_GLOBAL, _DAY, _NEXT_DAY)
    books = await database.read(_books)
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


async def test_the_first_record_of_a_key_is_found(
    bus: Bus, ledger_folder: Path, address: str
) -> None:
    """As the journal had it; a key that has none is missing."""
    places = await _append(bus, [_record("a", 1)], [_record("b", 1), _record("a", 2)])
    async with _ledger(bus, ledger_folder, address) as (_, balances):
        wanted = [("acme", "a"), ("acme", "b"), ("acme", "c"), ("other", "a")]
        found = await balances.first_records(wanted)
    usage = Usage(input_tokens=10, output_tokens=2, model_calls=1)
    assert found == {
        ("acme", key): FirstRecord(place, _NOON, "m", 1, usage)
        for key, place in zip("ab", places, strict=True)
    }


async def test_repeat_that_says_something_else_is_kept_until_it_is_removed(
    bus: Bus, ledger_folder: Path, address: str
) -> None:
    """Another cost, another task, another end: each once, though it is carried twice.

    But none of the message that had the first: who settled both knows which one counts.
    """
    other_end = _record("a", 1)
    other_end.call_time.FromDatetime(_NOON - timedelta(hours=1))
    later = _record("a", 1)
    later.settle_time.FromDatetime(_NOON + timedelta(hours=1))
    told: list[None] = []
    journal = log.get("test", stream=io.StringIO())
    database = await open_ledger(address, folder=ledger_folder, log=journal)
    writer = LedgerWriter(database, on_repeats=lambda: told.append(None))
    repeats = SqlRepeats(database)
    first = charges_of_records([_record("a", 1), _record("b", 1), _record("b", 3)], 4, 0)
    rest = charges_of_records(
        [_record("a", 1), later, _record("a", 2), _record("a", 1, task="t"), other_end], 5, 0
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


async def test_what_was_settled_is_known_by_the_hour(
    bus: Bus, ledger_folder: Path, address: str
) -> None:
    """For who looks for what is unusual."""
    records: list[UsageRecord] = []
    for minutes in (0, 14, 59, 60, 185):
        record = _record(f"k{minutes}", minutes + 1)
        record.settle_time.FromDatetime(_NOON + timedelta(minutes=minutes))
        records.append(record)
    await _append(bus, records)
    hours = [_NOON + timedelta(hours=each) for each in (3, 0, 1, 2, -1)]
    async with _ledger(bus, ledger_folder, address) as (database, balances):
        await balances.catch_up()
        by_hour = await database.read(lambda on: Sums(on).by_hour("acme", hours))
        first = await database.read(lambda on: Sums(on).first_time("acme"))
        none = await database.read(lambda on: Sums(on).first_time("nobody"))
        spent = await database.read(
            lambda on: Sums(on).spent(Scope(ScopeKind.TENANT, "acme"), _NOON, None)
        )
    assert by_hour == [186, 1 + 15 + 60, 61, 0, 0]
    assert (first, none, spent) == (_NOON, None, 323)


async def test_a_journal_that_begins_anew_takes_nothing_away(bus: Bus, tmp_path: Path) -> None:
    """A broker that lost everything gives its sequences again: what was charged stays charged."""
    await _append(bus, [_record("a", 1), _record("b", 2)])
    async with _ledger(bus, tmp_path, "") as (database, balances):
        await balances.catch_up()
    async with _ledger(bus, tmp_path, "") as (database, _):
        writer = LedgerWriter(database)
        before = (await writer.places())[STREAM]
        # As after a journal that had more than this one has now.
        await writer.apply([], stream=STREAM, before=before, after=Place(9, 9))
    await _append(bus, [_record("b", 2), _record("c", 40)])
    async with _ledger(bus, tmp_path, "") as (_, balances):

        async def spent() -> bool:
            return (await balances.balance(_GLOBAL, _DAY, None)).spent_micros == 43

        await eventually(spent)


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
        await _append(bus, [_record(key, cost), _record(key, cost + 1, tenant="other")])

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
        books = await database.read(_books)
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
