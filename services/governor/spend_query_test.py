"""Spending by group: what the ledger has, each charge in one group and each task once."""

import io
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshkit import log
from services.governor import spend_zone
from services.governor.ledger_database import open_ledger
from services.governor.scripted_spending import NOON, ScriptedSpending, charge
from services.governor.spend_query import Dimension, SpendGroup, SpendLedger, SpendQuery
from sqlstore.database import Database

pytest_plugins = ["meshtest.fixtures", "services.governor.fixture_ledger"]

_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_LATER = NOON + timedelta(days=400)
_BERLIN = ZoneInfo("Europe/Berlin")


def _query(*group_by: Dimension, tenant: str | None = "acme", zone: str = "") -> SpendQuery:
    return SpendQuery(tenant, _EVER, _LATER, group_by, ZoneInfo(zone) if zone else UTC)


async def _groups(database: Database, query: SpendQuery) -> Sequence[SpendGroup]:
    page = await SpendLedger(database).page(query, last_charge=None, skip=0, limit=1_000)
    assert not page.has_more
    return page.groups


async def _costs(database: Database, query: SpendQuery) -> dict[tuple[str, ...], int]:
    return {tuple(each.values): each.figures.cost_micros for each in await _groups(database, query)}


async def test_spending_is_told_by_what_it_was_for(database: Database) -> None:
    """In the order of the groups' values; what a call has not is empty."""
    await ScriptedSpending(database).charge(
        charge("a", 1, task_type="chat", agent="helper", model="opus", tier=3),
        charge("b", 20, task_type="chat", agent="helper", model="haiku", tier=1),
        charge("c", 300, task_type="code", model="opus", tier=3),
        charge("d", 4_000, tenant="else", task_type="chat", model="opus", tier=3),
    )
    assert await _costs(database, _query(Dimension.MODEL)) == {("haiku",): 20, ("opus",): 301}
    assert await _costs(database, _query(Dimension.TASK_TYPE, Dimension.TIER)) == {
        ("chat", "fast"): 20,
        ("chat", "powerful"): 1,
        ("code", "powerful"): 300,
    }
    assert await _costs(database, _query(Dimension.AGENT)) == {("",): 300, ("helper",): 21}
    assert await _costs(database, _query(Dimension.TENANT, tenant=None)) == {
        ("acme",): 321,
        ("else",): 4_000,
    }
    (total,) = await _groups(database, _query())
    assert (total.values, total.figures.cost_micros, total.figures.output_tokens) == ([], 321, 6)


async def test_a_task_counts_once_in_each_group_that_it_had_calls_in(database: Database) -> None:
    """Whatever its number of calls; calls without a task are of no task's cost."""
    spending = ScriptedSpending(database)
    await spending.charge(
        charge("a", 10, task="t1", model="opus"),
        charge("b", 5, task="t1", model="opus"),
        charge("c", 1, task="t1", model="haiku"),
        charge("d", 100, task="t2", model="opus"),
        charge("e", 1_000, model="opus"),
        charge("f", 7, task="t3", model="haiku"),
    )
    await spending.end("t1", "never-charged", succeeded=True)
    await spending.end("t2", succeeded=False)
    haiku, opus = await _groups(database, _query(Dimension.MODEL))
    assert (haiku.tasks, haiku.succeeded, haiku.task_cost_micros) == (2, 1, 8)
    assert (opus.tasks, opus.succeeded, opus.task_cost_micros) == (2, 1, 115)
    (total,) = await _groups(database, _query())
    assert (total.tasks, total.succeeded, total.task_cost_micros) == (3, 1, 123)


async def test_days_and_hours_are_those_of_a_time_zone(database: Database) -> None:
    """Also over the night in which the clock is put back: an hour comes twice."""
    changing = datetime(2026, 10, 24, 21, 30, tzinfo=UTC)
    await ScriptedSpending(database).charge(
        *(charge(f"k{each}", 1 << each, changing + timedelta(hours=each)) for each in range(6))
    )
    assert await _costs(database, _query(Dimension.DAY)) == {
        ("2026-10-24",): 1 + 2 + 4,
        ("2026-10-25",): 8 + 16 + 32,
    }
    assert await _costs(database, _query(Dimension.DAY, zone="Europe/Berlin")) == {
        ("2026-10-24",): 1,
        ("2026-10-25",): 2 + 4 + 8 + 16 + 32,
    }
    assert await _costs(database, _query(Dimension.HOUR, zone="Europe/Berlin")) == {
        ("2026-10-24T23:00+02:00",): 1,
        ("2026-10-25T00:00+02:00",): 2,
        ("2026-10-25T01:00+02:00",): 4,
        ("2026-10-25T02:00+02:00",): 8,
        ("2026-10-25T02:00+01:00",): 16,
        ("2026-10-25T03:00+01:00",): 32,
    }
    assert await _costs(database, _query(Dimension.HOUR, zone="Asia/Kathmandu")) == {
        (f"2026-10-25T{3 + each:02}:00+05:45",): 1 << each for each in range(6)
    }


@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("America/St_Johns", datetime(2026, 11, 1, 4, 30, tzinfo=UTC)),
        ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
        ("Pacific/Chatham", datetime(2026, 4, 4, 14, tzinfo=UTC)),
    ],
)
async def test_hours_come_in_order_of_time(database: Database, zone: str, change: datetime) -> None:
    """Also where the clock is put back, by half an hour or in the middle of an hour."""
    times = [change + timedelta(minutes=15 * each) for each in range(-12, 12)]
    await ScriptedSpending(database).charge(
        *(charge(f"k{place}", 1, each) for place, each in enumerate(times))
    )
    groups = await _groups(database, _query(Dimension.HOUR, zone=zone))
    hours = [each.values[0] for each in groups]
    assert len({each[-6:] for each in hours}) == 2
    assert hours == sorted(hours, key=datetime.fromisoformat)
    assert sum(each.figures.cost_micros for each in groups) == len(times)


async def test_only_calls_of_the_time_count(database: Database) -> None:
    """From the start on, until before the end, whenever they were settled."""
    times = [NOON - timedelta(microseconds=1), NOON, NOON + timedelta(hours=1)]
    await ScriptedSpending(database).charge(
        *(charge(f"k{place}", 1 << place, each) for place, each in enumerate(times)),
        charge("late", 1_000, NOON, settled_micros=1),
    )
    query = SpendQuery("acme", NOON, NOON + timedelta(hours=1), (), UTC)
    (total,) = await _groups(database, query)
    assert total.figures.cost_micros == 2 + 1_000
    nothing = SpendQuery("acme", NOON, NOON, (Dimension.MODEL,), _BERLIN)
    assert await _groups(database, nothing) == []


async def test_pages_rest_on_the_same_charges(database: Database) -> None:
    """What is charged while somebody turns pages is not in them."""
    spending, ledger = ScriptedSpending(database), SpendLedger(database)
    await spending.charge(*(charge(f"k{each}", 1, model=f"m{each}") for each in range(5)))
    query, found, last = _query(Dimension.MODEL), list[SpendGroup](), None
    for skip in (0, 2, 4):
        page = await ledger.page(query, last_charge=last, skip=skip, limit=2)
        found += page.groups
        last = page.last_charge
        assert page.has_more == (skip < 4)
        await spending.charge(charge(f"n{skip}", 50, model="m4"), charge(f"o{skip}", 50, model="a"))
    assert [each.values for each in found] == [[f"m{each}"] for each in range(5)]
    assert {each.figures.cost_micros for each in found} == {1}


_CHARGES = st.lists(
    st.tuples(
        st.sampled_from(["k1", "k2", "k3", "k4"]),
        st.integers(0, 10**9),
        st.integers(-1_000, 1_000),
        st.sampled_from(["", "t1", "t2"]),
        st.sampled_from(["m1", "m2"]),
    ),
    max_size=20,
)


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
@given(batches=st.lists(_CHARGES, max_size=4), zone=st.sampled_from(["UTC", "Europe/Berlin"]))
async def test_groups_add_up_to_the_whole(
    made_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[tuple[str, int, int, str, str]]],
    zone: str,
) -> None:
    """However spending is grouped, and whatever is repeated: the first of a key counts."""
    folder = tmp_path_factory.mktemp("ledger")
    shutil.copy(made_file, folder)
    database = await open_ledger("", folder=folder, log=log.get("test", stream=io.StringIO()))
    spending, expected = ScriptedSpending(database), dict[str, int]()
    for batch in batches:
        for key, cost, *_ in batch:
            expected.setdefault(key, cost)
        await spending.charge(
            *(
                charge(key, cost, NOON + timedelta(hours=hours), task=task, model=model)
                for key, cost, hours, task, model in batch
            )
        )
    for group_by in ((Dimension.DAY,), (Dimension.MODEL, Dimension.HOUR), ()):
        groups = await _groups(database, _query(*group_by, zone=zone))
        assert sum(each.figures.cost_micros for each in groups) == sum(expected.values())
        assert sum(each.figures.model_calls for each in groups) == len(expected)
    await database.close()


@pytest.mark.parametrize(
    "name", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]
)
def test_stretches_are_those_of_the_zone(name: str) -> None:
    """At every hour of two years the offset is the zone's."""
    zone, start = ZoneInfo(name), datetime(2025, 1, 1, tzinfo=UTC)
    found = spend_zone.stretches(zone, start, start + timedelta(days=730))
    for hour in range(730 * 24):
        time = start + timedelta(hours=hour)
        micros = int(time.timestamp()) * 1_000_000
        ahead = [each.ahead_micros for each in found if each.start_micros <= micros][-1]
        assert time.astimezone(zone).utcoffset() == timedelta(microseconds=ahead)
