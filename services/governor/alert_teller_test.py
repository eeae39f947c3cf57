"""Tests of telling: each alert is in the stream once, whatever dies in between."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from meshkit import log
from meshkit.bus import Bus, StoredMessage
from meshkit.errors import DependencyUnavailable
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from services.governor import alert_stream
from services.governor.alert import Alert, Kind
from services.governor.alert_database import AlertDatabase
from services.governor.alert_store_sql import SqlAlerts, record
from services.governor.alert_teller import AlertTeller, Told

pytest_plugins = ["meshtest.fixtures"]

_NOW = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)


def _alert(number: int, tenant: str = "acme") -> Alert:
    return Alert.of_budget(
        Kind.ALERT,
        tenant=tenant,
        budget=f"tenants/{tenant}/budgets/agent-day-a{number}",
        window_start=datetime(2026, 11, 20, tzinfo=UTC),
        text=f"Number {number}.",
        time=_NOW + timedelta(seconds=number),
        spent_micros=number,
        limit_micros=100,
    )


class _DyingStore(SqlAlerts):
    """Fails when it is to take note of what was told, as the process would that dies then."""

    deaths = 0

    async def mark(self, told: Sequence[Told]) -> None:
        if told and self.deaths:
            self.deaths -= 1
            raise DependencyUnavailable("It is dead.")
        await super().mark(told)


class _BehindBus(Bus):
    """Is answered first by replicas that are behind."""

    answers: list[StoredMessage | None]

    async def last(self, stream: str, subject_filter: str) -> StoredMessage | None:
        return self.answers.pop() if self.answers else await super().last(stream, subject_filter)


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with await Bus.connect(nats_url, name="test") as bus:
        await bus.ensure_stream(alert_stream.stream_spec(90))
        yield bus


@pytest.fixture
def database(tmp_path: Path) -> Iterator[AlertDatabase]:
    made = AlertDatabase.sqlite(tmp_path / "ledger.sqlite")
    yield made
    made.close()


async def _record(database: AlertDatabase, *alerts: Alert) -> None:
    await database.write(lambda connection: record(connection, alerts))


async def _told(bus: Bus) -> list[tuple[int, str]]:
    """Sequences and texts of all that is in the stream."""
    async with aclosing(bus.read(alert_stream.STREAM, alert_stream.ALL)) as messages:
        found = [alert_stream.decode(message) async for message in messages]
    return [(each.sequence, each.text) for each in found]


async def test_what_is_recorded_is_told_in_order(bus: Bus, database: AlertDatabase) -> None:
    """Alerts stand in the stream as they were found, each with all that it says."""
    await _record(database, _alert(1), _alert(2, "globex"))
    await _record(database, _alert(3))
    await AlertTeller(bus, SqlAlerts(database), log.get("test")).tell()
    assert await _told(bus) == [(1, "Number 1."), (2, "Number 2."), (3, "Number 3.")]

    message = await bus.last(alert_stream.STREAM, "alerts.globex")
    assert message is not None
    assert message.headers["Nats-Msg-Id"] == _alert(2, "globex").id
    assert alert_stream.alert_of(alert_stream.decode(message)) == _alert(2, "globex")
    assert await SqlAlerts(database).last_sequence() == 3


async def test_what_concerns_all_tenants_has_a_subject_of_its_own(
    bus: Bus, database: AlertDatabase
) -> None:
    """An alert of a global budget stands under `alerts.-`, which is no tenant's."""
    await _record(database, _alert(1, tenant=""))
    await AlertTeller(bus, SqlAlerts(database), log.get("test")).tell()
    message = await bus.last(alert_stream.STREAM, "alerts.-")
    assert message is not None
    assert alert_stream.decode(message).tenant == ""


async def test_telling_again_tells_nothing(bus: Bus, database: AlertDatabase) -> None:
    """What is told stays so, also where it is found again."""
    teller = AlertTeller(bus, SqlAlerts(database), log.get("test"))
    for _ in range(2):
        await _record(database, _alert(1))
        await teller.tell()
    assert await _told(bus) == [(1, "Number 1.")]


async def test_a_crash_after_telling_repeats_nothing(bus: Bus, database: AlertDatabase) -> None:
    """Who dies between telling and taking note of it is followed by one who looks."""
    dying = _DyingStore(database)
    dying.deaths = 1
    await _record(database, _alert(1), _alert(2))
    with pytest.raises(DependencyUnavailable, match="It is dead"):
        await AlertTeller(bus, dying, log.get("test")).tell()
    assert await _told(bus) == [(1, "Number 1.")]

    await AlertTeller(bus, SqlAlerts(database), log.get("test")).tell()
    assert await _told(bus) == [(1, "Number 1."), (2, "Number 2.")]


@pytest.mark.parametrize("seed", range(2))
async def test_many_tellers_that_die_tell_each_once(
    bus: Bus, database: AlertDatabase, seed: int
) -> None:
    """Three tellers at once, each of which dies at random and comes again: each alert once."""
    random = Random(seed)
    alerts = [_alert(number, random.choice(["acme", "globex", ""])) for number in range(40)]

    async def life() -> None:
        store = _DyingStore(database)
        while await store.untold(1):
            store.deaths = random.choice([0, 0, 1])
            try:
                await AlertTeller(bus, store, log.get("test")).tell()
            except DependencyUnavailable:
                await asyncio.sleep(0)

    await _record(database, *alerts[:20])
    async with asyncio.TaskGroup() as lives:
        for _ in range(3):
            lives.create_task(life())
        await _record(database, *alerts[20:])
    await life()
    assert sorted(text for _, text in await _told(bus)) == sorted(each.text for each in alerts)
    assert await SqlAlerts(database).last_sequence() == 40


async def test_ledgers_that_know_nothing_of_each_other_tell_each_alert_once(
    bus: Bus, tmp_path: Path
) -> None:
    """Two processes with ledgers of their own find the same alerts, and one of them tells each."""
    async with AsyncExitStack() as stack:
        databases = [AlertDatabase.sqlite(tmp_path / f"{name}.sqlite") for name in "ab"]
        for each in databases:
            stack.callback(each.close)
            await _record(each, *(_alert(number) for number in range(10)))
        async with asyncio.TaskGroup() as group:
            for each in databases:
                group.create_task(AlertTeller(bus, SqlAlerts(each), log.get("test")).tell())
        assert [text for _, text in await _told(bus)] == [f"Number {n}." for n in range(10)]


async def test_a_ledger_built_anew_tells_nothing_again(
    bus: Bus, database: AlertDatabase, tmp_path: Path
) -> None:
    """One that was lost finds again what was told, and learns from the stream that it was."""
    await _record(database, _alert(1), _alert(2))
    await AlertTeller(bus, SqlAlerts(database), log.get("test")).tell()

    anew = AlertDatabase.sqlite(tmp_path / "anew.sqlite")
    await _record(anew, _alert(1), _alert(2), _alert(3))
    await AlertTeller(bus, SqlAlerts(anew), log.get("test")).tell()
    assert await SqlAlerts(anew).untold(10) == []
    anew.close()
    assert await _told(bus) == [(1, "Number 1."), (2, "Number 2."), (3, "Number 3.")]


async def test_a_broker_that_lost_everything_goes_on_counting(
    bus: Bus, database: AlertDatabase, tmp_path: Path
) -> None:
    """Sequences keep rising, so that no reader misses what comes after such a loss."""
    teller = AlertTeller(bus, SqlAlerts(database), log.get("test"))
    await _record(database, _alert(1), _alert(2))
    await teller.tell()
    await bus.purge(alert_stream.STREAM, alert_stream.ALL)

    other = NatsServer(tmp_path / "another broker")
    other.start()
    try:
        async with await Bus.connect(other.url, name="test") as empty:
            await empty.ensure_stream(alert_stream.stream_spec(90))
            await _record(database, _alert(3), _alert(4))
            await AlertTeller(empty, SqlAlerts(database), log.get("test")).tell()
            assert await _told(empty) == [(3, "Number 3."), (4, "Number 4.")]
    finally:
        other.stop()


async def test_a_replica_that_is_behind_has_lost_nothing(
    bus: Bus, nats_url: str, database: AlertDatabase
) -> None:
    """One that does not know the last alert yet is no broker without its messages."""
    await _record(database, _alert(1), _alert(2))
    await AlertTeller(bus, SqlAlerts(database), log.get("test")).tell()
    async with await _BehindBus.connect(nats_url, name="test") as behind:
        behind.answers = [await bus.last(alert_stream.STREAM, alert_stream.ALL), None]
        await _record(database, _alert(3))
        await AlertTeller(bus, SqlAlerts(database), log.get("test")).tell()
        await _record(database, _alert(4))
        await AlertTeller(behind, SqlAlerts(database), log.get("test")).tell()
        assert behind.answers == []
    assert await _told(bus) == [(number, f"Number {number}.") for number in (1, 2, 3, 4)]


async def test_where_all_alerts_are_too_old_the_next_goes_on(
    bus: Bus, database: AlertDatabase
) -> None:
    """An empty stream knows how far it has come."""
    teller = AlertTeller(bus, SqlAlerts(database), log.get("test"))
    await _record(database, _alert(1), _alert(2))
    await teller.tell()
    await bus.purge(alert_stream.STREAM, alert_stream.ALL)
    await _record(database, _alert(3))
    await teller.tell()
    assert await _told(bus) == [(3, "Number 3.")]


async def test_the_teller_outlives_the_broker(
    bus: Bus, database: AlertDatabase, shared_nats: NatsServer
) -> None:
    """While the broker is away nothing is told; when it is back, all that is recorded is."""
    teller = AlertTeller(bus, SqlAlerts(database), log.get("test", stream=io.StringIO()))
    running = asyncio.create_task(teller.run())
    try:
        shared_nats.kill()
        await _record(database, _alert(1))
        teller.wake()
        await asyncio.to_thread(shared_nats.start)
        await _record(database, _alert(2))
        teller.wake()

        async def both() -> bool:
            return len(await _told(bus)) == 2

        await eventually(both)
        assert await _told(bus) == [(1, "Number 1."), (2, "Number 2.")]
    finally:
        running.cancel()


async def test_an_alert_is_a_line_in_the_log(bus: Bus, database: AlertDatabase) -> None:
    """Whoever tells an alert writes one line with all that it says."""
    stream = io.StringIO()
    await _record(database, _alert(1))
    await AlertTeller(bus, SqlAlerts(database), log.get("governor", stream=stream)).tell()
    line = json.loads(stream.getvalue())
    del line["time"]
    assert line == {
        "level": "warning",
        "event": "alert",
        "service": "governor",
        "kind": "ALERT",
        "tenant": "acme",
        "budget": "tenants/acme/budgets/agent-day-a1",
        "text": "Number 1.",
        "spent_micros": 1,
        "limit_micros": 100,
        "id": _alert(1).id,
        "sequence": 1,
    }
