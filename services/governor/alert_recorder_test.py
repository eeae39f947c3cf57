"""Tests from the journal to the stream of alerts: each crossing once, whatever dies on the way."""

import asyncio
import io
import os
import random
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from agentmesh.governor.v1 import usage_record_pb2 as pb
from meshkit import log
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from meshkit.ids import RandomIds
from meshtest.eventually import eventually
from services.governor import alert_stream
from services.governor.alert_finder import AlertFinder
from services.governor.alert_recorder import AlertRecorder
from services.governor.alert_store_sql import SqlAlerts
from services.governor.alert_tables import ALERT
from services.governor.alert_teller import AlertTeller
from services.governor.budget import Budget, Scope, ScopeKind, Thresholds
from services.governor.budgets import Budgets
from services.governor.journal_jetstream import JetStreamJournal
from services.governor.ledger_charge import Charge, Figures
from services.governor.ledger_database import open_ledger
from services.governor.ledger_projector import ledger_projector
from services.governor.ledger_tables import CHARGE
from services.governor.ledger_writer import LedgerWriter
from services.governor.usage_stream import STREAM, usage_stream_spec
from services.governor.window import WindowKind
from sqlstore.database import Database
from sqlstore.positions import Moved, Place

pytest_plugins = ["meshtest.fixtures", "services.governor.fixture_ledger"]

_LIMIT = 1_000
_FOUR = ["ALERT", "DEGRADE", "THROTTLE", "SHUTOFF"]


@pytest.fixture
async def bus(nats_url: str) -> AsyncGenerator[Bus]:
    """There are a journal and a stream of alerts."""
    async with await Bus.connect(nats_url, name="test") as bus:
        await JetStreamJournal(bus, RandomIds()).prepare(
            usage_stream_spec(keep_days=None, max_bytes=None)
        )
        await bus.ensure_stream(alert_stream.stream_spec(90))
        yield bus


def _budgets_of(tenant: str) -> Sequence[Budget]:
    scope = Scope(ScopeKind.TENANT, tenant)
    return [Budget(scope, WindowKind.DAY, _LIMIT, thresholds=Thresholds(25, 50, 75, 100))]


def _record(key: str, cost: int, tenant: str, time: datetime) -> pb.UsageRecord:
    record = pb.UsageRecord(tenant=tenant, key=key, model="m", task_type="chat", agent="helper")
    record.usage.cost_micros = cost
    record.usage.model_calls = 1
    record.settle_time.FromDatetime(time)
    return record


async def _append(bus: Bus, *records: pb.UsageRecord) -> None:
    await JetStreamJournal(bus, RandomIds()).append(records)


async def _told(bus: Bus) -> list[tuple[str, str]]:
    """Tenants and kinds of all that is in the stream."""
    async with aclosing(bus.read(alert_stream.STREAM, alert_stream.ALL)) as messages:
        alerts = [alert_stream.decode(message) async for message in messages]
    return [(each.tenant, each.kind) for each in alerts]


@asynccontextmanager
async def _governor(bus: Bus, folder: Path, address: str) -> AsyncGenerator[Database]:
    """A ledger that is kept up with the journal, and tells alerts."""
    lines = log.get("test", stream=io.StringIO())
    database = await open_ledger(address, folder=folder, log=lines)
    recorder = AlertRecorder(AlertFinder(Budgets(_budgets_of), SystemClock()))
    teller = AlertTeller(bus, SqlAlerts(database), lines)
    recorder.on_recorded(teller.wake)
    projector = ledger_projector(bus, LedgerWriter(database, companions=[recorder]), lines)
    jobs = [asyncio.create_task(teller.run()), asyncio.create_task(projector.run())]
    try:
        yield database
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        await database.close()


async def test_spending_fires_each_threshold_once(
    bus: Bus, ledger_folder: Path, address: str
) -> None:
    """As calls are settled, each kind is told when it is reached; repeats count for nothing."""
    now = datetime.now(UTC)
    async with _governor(bus, ledger_folder, address):
        for number in range(1, 13):
            record = _record(f"k{number}", 100, "acme", now)
            await _append(bus, record, record)
            await _append(bus, record)
        await eventually(lambda: _is_told(bus, 4))
    assert await _told(bus) == [("acme", kind) for kind in _FOUR]
    message = await bus.last(alert_stream.STREAM, "alerts.acme")
    assert message is not None
    assert alert_stream.decode(message).limit_micros == _LIMIT


async def test_one_call_may_fire_all(bus: Bus, tmp_path: Path) -> None:
    """A call that takes the whole limit reaches every threshold at once."""
    async with _governor(bus, tmp_path, ""):
        await _append(bus, _record("k", 5 * _LIMIT, "acme", datetime.now(UTC)))
        await eventually(lambda: _is_told(bus, 4))
    assert sorted(await _told(bus)) == sorted(("acme", kind) for kind in _FOUR)


async def _is_told(bus: Bus, count: int) -> bool:
    return len(await _told(bus)) >= count


async def test_alerts_stand_and_fall_with_the_charges_behind_them(
    ledger_folder: Path, address: str
) -> None:
    """A transaction that fails leaves neither; the next one leaves both."""
    lines = log.get("test", stream=io.StringIO())
    database = await open_ledger(address, folder=ledger_folder, log=lines)
    heard: list[str] = []
    recorder = AlertRecorder(AlertFinder(Budgets(_budgets_of), SystemClock()))
    recorder.on_recorded(lambda: heard.append("recorded"))
    writer = LedgerWriter(database, companions=[recorder])
    await writer.lead()
    now = datetime.now(UTC)
    micros = (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

    def charge(key: str) -> Charge:
        figures = Figures(cost_micros=300)
        names = ("chat", "helper", "m", 0, "", "", "")
        return Charge("acme", key, *names, 1, micros, micros, figures)

    async def counts() -> list[int]:
        def work(on: sa.Connection) -> list[int]:
            tables = (CHARGE, ALERT)
            return [on.scalar(sa.select(sa.func.count()).select_from(t)) or 0 for t in tables]

        return await database.read(work)

    try:
        with pytest.raises(Moved):
            await writer.apply(
                [[charge("a")]], stream=STREAM, before=Place(7, 7), after=Place(8, 8)
            )
        assert await counts() == [0, 0]
        assert heard == []
        await writer.apply([[charge("a")]], stream=STREAM, before=Place(0, 0), after=Place(1, 1))
        assert await counts() == [1, 1]
        assert heard == ["recorded"]
        await writer.apply([[charge("a")]], stream=STREAM, before=Place(1, 1), after=Place(2, 2))
        assert await counts() == [1, 1]
        assert heard == ["recorded"]
    finally:
        await database.close()


async def test_governors_may_be_killed_at_any_moment(
    bus: Bus, nats_url: str, ledger_folder: Path, address: str
) -> None:
    """Two governors, of which one or the other is killed again and again: each alert once."""
    chance = random.Random(1)
    tenants = [f"t{number}" for number in range(8)]
    now = datetime.now(UTC)
    programs = [await _program(nats_url, ledger_folder, address) for _ in range(2)]
    try:
        for turn in range(3):
            for number in range(16):
                tenant = chance.choice(tenants)
                await _append(bus, _record(f"{turn}-{number}", 130, tenant, now))
            # One of them is at work, and somewhere in it.
            await eventually(lambda turn=turn: _is_told(bus, 3 * turn + 1))
            await asyncio.sleep(chance.uniform(0.0, 0.05))
            victim = chance.randrange(2)
            programs[victim].kill()
            await programs[victim].wait()
            programs[victim] = await _program(nats_url, ledger_folder, address)
        for tenant in tenants:
            await _append(bus, _record("last", 2 * _LIMIT, tenant, now))
        await eventually(lambda: _is_told(bus, 4 * len(tenants)), timeout_seconds=60)
    finally:
        for program in programs:
            program.kill()
            await program.wait()
    told = await _told(bus)
    assert sorted(told) == sorted((tenant, kind) for tenant in tenants for kind in _FOUR)


async def _program(nats_url: str, folder: Path, address: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.governor.alert_program"),
        *(nats_url, folder, address, str(_LIMIT)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.DEVNULL,
    )
