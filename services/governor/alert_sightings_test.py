"""Tests of alerts about what the governor does before a limit is spent."""

import asyncio
import io
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest
import sqlalchemy as sa

from meshkit import log, redis_store
from meshkit.errors import DependencyUnavailable
from meshkit.redis_line import RedisLine
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from meshtest.redis_server import RedisServer
from services.governor import alert_sightings
from services.governor.account import Counter, Decision, Usage, Wish
from services.governor.alert import Alert, Kind
from services.governor.alert_database import AlertDatabase
from services.governor.alert_sightings import AlertSightings
from services.governor.alert_store_sql import SqlAlerts, record
from services.governor.budget import Budget, Scope, ScopeKind, Thresholds
from services.governor.calls import Allowed, Delayed, Denied, MadeCall, PlannedCall
from services.governor.governor_parts import Defaults, governor_parts
from services.governor.scripted_ledger import ScriptedLedger
from services.governor.window import WindowKind, window_of

pytest_plugins = ["meshtest.fixtures"]

T = TypeVar("T")
_NOW = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)
_DAY = "tenants/acme/budgets/tenant-day"


class _Database(AlertDatabase):
    """Is away as often as it is told to be."""

    faults = 0

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        if self.faults:
            self.faults -= 1
            raise DependencyUnavailable("It is away.")
        return await super().write(work)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[_Database]:
    made = _Database(sa.URL.create("sqlite", database=str(tmp_path / "ledger.sqlite")))
    yield made
    made.close()


@asynccontextmanager
async def _running(database: _Database, heard: list[str]) -> AsyncGenerator[AlertSightings]:
    sightings = AlertSightings(
        database,
        FakeClock(_NOW),
        log.get("test", stream=io.StringIO()),
        recorded=lambda: heard.append("recorded"),
    )
    running = asyncio.create_task(sightings.run())
    try:
        yield sightings
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _wish(scope: Scope | None = None, window: WindowKind = WindowKind.DAY) -> Wish:
    scope = scope or Scope(ScopeKind.TENANT, "acme")
    counter = Counter(
        id=f"{scope.kind}:{scope.tenant}:{scope.subject}:{window}",
        budget=Budget(scope, window, 1000, thresholds=Thresholds(50, 70, 80, 90)),
        window=window_of(window, _NOW, UTC),
        shutoff_micros=900,
        throttle_micros=800,
        degrade_micros=700,
        careful_micros=700,
    )
    return Wish("acme", "k", 1, 1, [counter])


def _decision(wish: Wish, level: int, spent: int, reserved: int = 50) -> Decision:
    return Decision(level, wish.counters[0].id, spent, reserved)


async def _found(database: AlertDatabase) -> list[Alert]:
    return list(await SqlAlerts(database).untold(100))


async def test_a_refusal_is_recorded_once(database: _Database) -> None:
    """The first one in a window is an alert, in words; those that follow are not."""
    heard: list[str] = []
    wish = _wish()
    async with _running(database, heard) as sightings:
        for spent in (850, 851, 852):
            sightings.notice(wish, _decision(wish, 3, spent))
        await eventually(lambda: heard == ["recorded"])
    [alert] = await _found(database)
    assert alert == Alert.of_budget(
        Kind.SHUTOFF,
        tenant="acme",
        budget=_DAY,
        window_start=datetime(2026, 11, 20, tzinfo=UTC),
        text="tenants/acme/budgets/tenant-day has no more room below 0.0009 USD: 0.00085 USD are"
        " spent and 0.00005 USD reserved. Calls are refused from here on."
        " It starts again at 2026-11-21T00:00Z.",
        time=_NOW,
        spent_micros=850,
        limit_micros=1000,
        percent=90,
    )


async def test_what_the_ledger_recorded_is_not_recorded_again(database: _Database) -> None:
    """It is the same crossing, whoever finds it first."""
    heard: list[str] = []
    wish = _wish()
    async with _running(database, heard) as sightings:
        sightings.notice(wish, _decision(wish, 3, 850))
        await eventually(lambda: heard == ["recorded"])
        [alert] = await _found(database)
        assert await database.write(lambda on: record(on, [alert])) == 0

    async with _running(database, heard) as another:
        another.notice(wish, _decision(wish, 3, 860))
        another.notice(wish, _decision(wish, 1, 860))
        await eventually(lambda: heard == ["recorded"] * 2)
    assert [each.kind for each in await _found(database)] == [Kind.SHUTOFF, Kind.DEGRADE]


@pytest.mark.parametrize(
    ("level", "spent", "kinds"),
    [
        (0, 1000, []),
        (1, 629, []),
        (1, 630, ["DEGRADE"]),
        (2, 719, []),
        (2, 720, ["THROTTLE"]),
        (3, 809, []),
        (3, 810, ["SHUTOFF"]),
    ],
)
async def test_much_must_be_spent(
    database: _Database, level: int, spent: int, kinds: list[str]
) -> None:
    """A call that is too large, or what is reserved for a while, is nothing to be told."""
    heard: list[str] = []
    wish = _wish()
    last = _wish(Scope(ScopeKind.AGENT, "acme", "helper"))
    async with _running(database, heard) as sightings:
        sightings.notice(wish, _decision(wish, level, spent))
        sightings.notice(last, _decision(last, 3, 900))
        await eventually(lambda: len(heard) == len(kinds) + 1)
    assert [each.kind for each in await _found(database)] == [*kinds, "SHUTOFF"]


async def test_a_task_at_its_own_cap_is_nothing_to_tell(database: _Database) -> None:
    """Neither is a decision under a budget that the call does not have."""
    heard: list[str] = []
    task = _wish(Scope(ScopeKind.TASK, "acme", "t1"), WindowKind.LIFETIME)
    other = _wish()
    async with _running(database, heard) as sightings:
        sightings.notice(task, _decision(task, 3, 1000))
        sightings.notice(other, Decision(3, "another", 1000, 0))
        sightings.notice(other, _decision(other, 3, 1000))
        await eventually(lambda: heard == ["recorded"])
    assert [each.budget for each in await _found(database)] == [_DAY]


async def test_a_ledger_that_is_away_is_waited_for(
    database: _Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was noted meanwhile is recorded afterwards."""
    monkeypatch.setattr(alert_sightings, "_RETRY_SECONDS", 0.01)
    database.faults = 3
    heard: list[str] = []
    wish = _wish()
    async with _running(database, heard) as sightings:
        sightings.notice(wish, _decision(wish, 3, 900))
        sightings.notice(wish, _decision(wish, 2, 900))
        await eventually(lambda: len(heard) == 2)
    assert [each.kind for each in await _found(database)] == [Kind.SHUTOFF, Kind.THROTTLE]


async def test_more_than_there_is_room_for_comes_again(
    database: _Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notes that wait are bounded; what did not fit is noted with its next decision."""
    wishes = [_wish(Scope(ScopeKind.AGENT, "acme", f"a{each}")) for each in range(300)]
    heard: list[str] = []
    async with _running(database, heard) as sightings:
        for wish in wishes:
            sightings.notice(wish, _decision(wish, 3, 900))
        await eventually(lambda: len(heard) == 256)
        for wish in wishes:
            sightings.notice(wish, _decision(wish, 3, 900))
        await eventually(lambda: len(heard) == 300)
    assert len(await _found(database)) == 100


async def test_spending_that_stops_short_of_the_limit_is_told(
    database: _Database, redis_server: RedisServer
) -> None:
    """A governor whose budgets have no room for a call more says so, though less is spent."""
    clock = FakeClock(_NOW)
    heard: list[str] = []
    async with (
        redis_store.connect(redis_server.url) as store,
        RedisLine(store) as line,
        _running(database, heard) as sightings,
    ):
        defaults = Defaults(1000, 1_000_000, Thresholds(0, 0, 80, 100))
        parts = governor_parts(line, clock, ScriptedLedger(), defaults, notice=sightings.notice)

        async def spend(number: int, *, interactive: bool) -> object:
            call = PlannedCall("acme", f"k{number}", "unit", 150, 0, interactive=interactive)
            [verdict] = await parts.admission.admit([call])
            if isinstance(verdict, Allowed):
                usage = Usage(input_tokens=150, model_calls=1)
                await parts.settling.settle([MadeCall("acme", verdict.key, "unit", usage)])
            return verdict

        for number in range(5):
            assert isinstance(await spend(number, interactive=False), Allowed)
        assert isinstance(await spend(5, interactive=False), Delayed)
        assert isinstance(await spend(6, interactive=True), Allowed)
        assert isinstance(await spend(7, interactive=True), Denied)
        await eventually(lambda: len(heard) == 2)
    assert [(each.kind, each.spent_micros) for each in await _found(database)] == [
        (Kind.THROTTLE, 750),
        (Kind.SHUTOFF, 900),
    ]
