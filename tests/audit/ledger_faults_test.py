"""A ledger that says something else than its journal is found out."""

import asyncio
import io
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from agentmesh.governor.v1.usage_record_pb2 import UsageRecord
from audit import api
from audit.report import Report
from meshkit import log, redis_store
from meshkit.bus import Bus
from meshkit.errors import DependencyUnavailable
from meshkit.ids import RandomIds
from meshtest.redis_server import RedisServer
from services.governor.journal_jetstream import JetStreamJournal
from services.governor.ledger_balances import LedgerBalances
from services.governor.ledger_database import open_ledger
from services.governor.ledger_projector import ledger_projector
from services.governor.ledger_writer import LedgerWriter
from services.governor.usage_stream import STREAM, SUBJECT, usage_stream_spec

pytest_plugins = ["meshtest.fixtures"]


@dataclass(frozen=True, slots=True)
class _Stores:
    bus: Bus
    redis: Any
    ledger: Any
    # As the audit is told.
    place: str

    async def audit(self, *, tenant: str = "") -> Report:
        return await api.run(self.bus, self.redis, ledger=self.place, tenant=tenant)

    async def do(self, statement: str) -> None:
        """Changes the ledger behind its back."""

        def work(connection: sa.Connection) -> None:
            connection.execute(sa.text(statement))

        await self.ledger.carry(work)


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _record(key: str, cost: int, *, tenant: str = "acme") -> UsageRecord:
    record = UsageRecord(tenant=tenant, key=key, model="stub")
    record.usage.cost_micros = cost
    record.settle_time.GetCurrentTime()
    record.call_time.CopyFrom(record.settle_time)
    return record


@pytest.fixture(params=["sqlite", "postgresql"])
async def stores(
    request: pytest.FixtureRequest,
    nats_url: str,
    shared_redis: RedisServer,
    tmp_path: Path,
) -> AsyncGenerator[_Stores]:
    """A journal of two tenants, with a key that stands in it twice, and its ledger."""
    address = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    redis = redis_store.connect(shared_redis.url)
    journal_log = log.get("test", stream=io.StringIO())
    ledger = await open_ledger(address, folder=tmp_path, log=journal_log)
    async with await Bus.connect(nats_url, name="test") as bus:
        journal = JetStreamJournal(bus, RandomIds())
        await journal.prepare(usage_stream_spec(keep_days=None, max_bytes=None))
        await journal.append([_record("a", 5), _record("b", 7), _record("c", 0)])
        await journal.append([_record("a", 6), _record("a", 11, tenant="other")])
        projector = ledger_projector(bus, LedgerWriter(ledger), journal_log)
        balances = LedgerBalances(bus, ledger, projector)
        async with _running(projector.run()):
            await balances.catch_up()
        yield _Stores(bus, redis, ledger, address or str(tmp_path / "ledger.sqlite"))
    await ledger.close()
    await redis.aclose()


async def test_a_ledger_that_follows_its_journal_holds(stores: _Stores) -> None:
    """A key counts once, and each tenant's sums agree."""
    report = await stores.audit()
    assert (report.findings, report.remarks) == ((), ())
    assert report.counts["ledger_charges"] == 4


@pytest.mark.parametrize(
    ("fault", "sentences"),
    [
        (
            "UPDATE charge SET cost_micros = 8 WHERE key = 'b'",
            [
                "The ledger has 3 charges of 13 micro-dollars up to message 2 of the journal,"
                " which has 3 of 12.",
                "The ledger has charges of 13 micro-dollars, and 12 booked.",
                "The ledger has charges of 13 micro-dollars, and 12 in the totals that budgets"
                " are begun again with.",
            ],
        ),
        (
            "DELETE FROM charge WHERE key = 'c'",
            [
                "The ledger has 2 charges of 12 micro-dollars up to message 2 of the journal,"
                " which has 3 of 12.",
            ],
        ),
        (
            "UPDATE entry SET amount_micros = 6 WHERE amount_micros = 5",
            [
                "The ledger has charges of 12 micro-dollars, and 13 booked.",
                "The ledger's bookings add up to 1 micro-dollars, not to 0.",
            ],
        ),
        (
            "UPDATE scope_total SET cost_micros = cost_micros + 1"
            " WHERE kind = 'tenant' AND tenant = 'acme'",
            [
                "The ledger has charges of 12 micro-dollars, and 13 in the totals that budgets"
                " are begun again with.",
            ],
        ),
    ],
)
async def test_a_ledger_that_was_changed_is_found(
    stores: _Stores, fault: str, sentences: list[str]
) -> None:
    """Charges, bookings and totals are each compared, and named with both figures."""
    await stores.do(fault)
    report = await stores.audit()
    assert {each.invariant for each in report.findings} == {"spend"}
    assert sorted(each.sentence for each in report.findings) == sorted(sentences)


async def test_a_journal_that_was_cut_is_not_compared(stores: _Stores) -> None:
    """What was removed from it after its time is in the ledger alone."""
    await stores.bus.purge(STREAM, SUBJECT, before_sequence=2)
    report = await stores.audit()
    assert report.findings == ()
    assert report.remarks == (
        "The ledger was not compared: what is old was removed from the journal.",
    )


async def test_one_tenants_ledger_is_compared_alone(stores: _Stores) -> None:
    """What is wrong with another tenant's is not told."""
    await stores.do("UPDATE charge SET cost_micros = 8 WHERE key = 'b'")
    assert (await stores.audit(tenant="other")).findings == ()
    assert len((await stores.audit(tenant="acme")).findings) == 3


async def test_a_ledger_behind_its_journal_is_told(stores: _Stores) -> None:
    """It is compared as far as it has come."""
    await JetStreamJournal(stores.bus, RandomIds()).append([_record("d", 3)])
    report = await stores.audit()
    assert report.findings == ()
    assert report.remarks == ("The ledger is 1 messages behind the journal.",)


async def test_a_place_without_a_ledger_is_refused(stores: _Stores, tmp_path: Path) -> None:
    """Nothing is made there."""
    nowhere = tmp_path / "none.sqlite"
    with pytest.raises(DependencyUnavailable) as caught:
        await api.run(stores.bus, stores.redis, ledger=str(nowhere))
    assert str(caught.value) == "Failed to read the ledger: unable to open database file."
    assert not nowhere.exists()
