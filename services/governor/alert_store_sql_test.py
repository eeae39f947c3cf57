"""Tests of alerts in SQL: each is there once, until it is told and for ever after."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.governor.alert import Alert, Kind
from services.governor.alert_database import AlertDatabase
from services.governor.alert_store_sql import SqlAlerts, record
from services.governor.alert_teller import Told

pytest_plugins = ["meshtest.fixtures"]

_NOW = datetime(2026, 11, 20, 15, 30, 0, 250_000, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AlertDatabase]:
    if request.param == "sqlite":
        made = AlertDatabase.sqlite(tmp_path / "ledger.sqlite")
    else:
        made = AlertDatabase.postgresql(request.getfixturevalue("postgres_url"))
    yield made
    made.close()


def _alert(number: int) -> Alert:
    return Alert.of_budget(
        Kind.DEGRADE,
        tenant="acme",
        budget=f"tenants/acme/budgets/agent-day-a{number}",
        window_start=datetime(2026, 11, 20, tzinfo=UTC),
        text="Four fifths are spent: “8 €”.",
        time=_NOW + timedelta(seconds=number),
        spent_micros=8_000_000_000_000_000,
        limit_micros=9_000_000_000_000_000,
    )


async def _record(database: AlertDatabase, alerts: Sequence[Alert]) -> int:
    return await database.write(lambda connection: record(connection, alerts))


async def test_what_is_recorded_is_there_until_it_is_told(database: AlertDatabase) -> None:
    """Alerts come back as they were, in their order, and no more once they are told."""
    store = SqlAlerts(database)
    first, second, third = _alert(1), _alert(2), _alert(3)
    assert await store.untold(10) == []
    assert await store.last_sequence() == 0

    assert await _record(database, [first]) == 1
    assert await _record(database, [third, second]) == 2
    assert await store.untold(10) == [first, third, second]
    assert await store.untold(1) == [first]

    await store.mark([Told(first, 7)])
    assert await store.untold(10) == [third, second]
    assert await store.last_sequence() == 7


async def test_an_alert_is_recorded_once(database: AlertDatabase) -> None:
    """The same crossing found again adds nothing, before and after it is told."""
    store = SqlAlerts(database)
    alert = _alert(1)
    again = replace(alert, spent_micros=1, text="It is worse now.")
    assert await _record(database, [alert, again]) == 1
    [recorded] = await store.untold(10)
    assert await _record(database, [again, _alert(2)]) == 1
    assert await store.untold(10) == [recorded, _alert(2)]

    await store.mark([Told(recorded, 1), Told(_alert(2), 2)])
    assert await _record(database, [alert, _alert(2)]) == 0
    assert await store.untold(10) == []


async def test_nothing_is_recorded_where_the_transaction_fails(database: AlertDatabase) -> None:
    """Alerts belong to the transaction of the entries that caused them."""

    def work(connection: object) -> None:
        assert record(connection, [_alert(1)]) == 1  # pyright: ignore[reportArgumentType]
        raise KeyError("the entries")

    with pytest.raises(KeyError, match="the entries"):
        await database.write(work)
    assert await SqlAlerts(database).untold(10) == []


async def test_what_others_told_is_added(database: AlertDatabase) -> None:
    """An alert that is told and unknown here is known from then on, and keeps its sequence."""
    store = SqlAlerts(database)
    await store.mark([Told(_alert(1), 4), Told(_alert(2), 5)])
    await store.mark([Told(_alert(1), 9)])
    assert await _record(database, [_alert(1), _alert(2)]) == 0
    assert await store.untold(10) == []
    assert await store.last_sequence() == 5
    await store.mark([])
