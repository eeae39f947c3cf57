"""The list says what the log says, in whatever order the events come."""

import io
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import pytest
import sqlalchemy as sa

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskStatus
from meshkit import log
from meshkit.ids import RandomIds
from services.coordinator import read_model_sql
from services.coordinator.read_model import DeadLetterFilter, TaskFilter
from services.coordinator.read_model_database import PURPOSE, Copies
from services.coordinator.read_model_file import SqliteFiles
from services.coordinator.read_model_postgres import PostgresCopies
from services.coordinator.read_model_sql import SqlReadModel
from services.coordinator.read_model_tables import ALL
from services.coordinator.read_model_writer import ReadModelWriter
from services.coordinator.task_row import Recorded
from sqlstore.positions import Moved, Place
from sqlstore.postgres_schema import parse_address
from tasklog import lifecycle

pytest_plugins = ["meshtest.fixtures"]

_NOW = datetime(2026, 1, 2, tzinfo=UTC)


def _log(
    *kinds: str,
    task_id: str = "t1",
    parent: str = "",
    ended: int = 0,
    lane: tier_pb2.Lane = tier_pb2.LANE_STANDARD,
) -> list[Recorded]:
    """A task's events, a second apart; `ended` counts from there."""
    events: list[Recorded] = []
    status = TaskStatus(lane=lane)
    status.parent_task = f"tenants/acme/tasks/{parent}" if parent else ""
    status.create_time.FromDatetime(_NOW)
    for kind in kinds:
        event = lifecycle.new_event(f"tenants/acme/tasks/{task_id}", "test")
        getattr(event, kind).SetInParent()
        if kind == "submitted":
            task = event.submitted.task
            task.name, task.session = event.task, "s1"
            task.labels["team"] = "a"
            task.create_time.FromDatetime(_NOW)
        state = task_pb2.TASK_STATE_SUCCEEDED if kind == "completed" else None
        time = _NOW + timedelta(seconds=len(events) + ended)
        lifecycle.advance(status, event, sequence=len(events) + 1, time=time, state=state)
        events.append(Recorded(event, len(events) + 1, 100))
        status = event.status
    return events


class _Model(SqlReadModel):
    """A read model and its writer, which keeps account of the place."""

    def __init__(self, database: Copies) -> None:
        super().__init__(database)
        self._writer = ReadModelWriter(database)
        self._place = Place(0, 0)

    async def apply(self, entries: Sequence[Recorded]) -> None:
        before, self._place = self._place, Place(self._place.position + 1, 0)
        await self._writer.apply(entries, stream="TASKS", before=before, after=self._place)


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(
    tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[SqliteFiles | PostgresCopies]:
    """An empty copy."""
    if request.param == "sqlite":
        copies = await SqliteFiles.open(tmp_path / "read_model", RandomIds())
    else:
        url = parse_address(request.getfixturevalue("postgres_url"), setting=PURPOSE.setting)
        copies = await PostgresCopies.open(url, log.get("test", stream=io.StringIO()))
    await copies.lead()
    yield copies
    await copies.close()


@pytest.fixture
def model(database: Copies) -> _Model:
    """Over the empty copy."""
    return _Model(database)


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_a_finished_task_is_listed_as_finished(model: _Model, order: tuple[int]) -> None:
    """Though a crash made its first event come last, or any event come twice."""
    events = _log("submitted", "started", "completed")
    for index in order:
        await model.apply([events[index], events[index]])
    page = await model.list(TaskFilter("acme", labels={"team": "a"}), position=None, limit=10)
    (task,) = page.tasks
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert task.session == "s1"


def _expand(connection: sa.Connection) -> None:
    """Makes the tables what a next release may make of them."""
    for table in ALL:
        for column in ("later TEXT", "more BIGINT NOT NULL DEFAULT 0"):
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {column}")
    connection.exec_driver_sql("CREATE TABLE later (id BIGINT PRIMARY KEY)")
    connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999.0001'")


async def test_tables_of_the_next_release_serve_this_one(postgres_url: str) -> None:
    """A coordinator that is still to be upgraded starts, carries and lists as ever."""
    url, journal = (
        parse_address(postgres_url, setting=PURPOSE.setting),
        log.get("test", stream=io.StringIO()),
    )
    upgraded = await PostgresCopies.open(url, journal)
    await upgraded.write(_expand)
    await upgraded.close()
    copies = await PostgresCopies.open(url, journal)
    await copies.lead()
    model = _Model(copies)
    await model.apply(_log("submitted", "started"))
    await model.apply(_log("submitted", "started", "completed")[2:])
    page = await model.list(TaskFilter("acme", labels={"team": "a"}), position=None, limit=10)
    assert [task.state for task in page.tasks] == [task_pb2.TASK_STATE_SUCCEEDED]
    await copies.close()


async def test_a_task_whose_submission_is_still_to_come_is_not_listed(model: _Model) -> None:
    """There is nothing to show of it yet."""
    await model.apply(_log("submitted", "started", "completed")[1:])
    assert not (await model.list(TaskFilter("acme"), position=None, limit=10)).tasks


@pytest.mark.parametrize("order", list(permutations(range(4))))
async def test_an_expired_task_is_listed_without_its_content(
    model: _Model, order: tuple[int]
) -> None:
    """Its state is still found; its labels and its session are not."""
    events = _log("submitted", "started", "completed", "expired")
    for index in order:
        await model.apply([events[index]])
    everything = TaskFilter("acme", states=[task_pb2.TASK_STATE_SUCCEEDED])
    (task,) = (await model.list(everything, position=None, limit=10)).tasks
    assert (task.name, task.last_sequence) == ("tenants/acme/tasks/t1", 4)
    for gone in (TaskFilter("acme", labels={"team": "a"}), TaskFilter("acme", session="s1")):
        assert not (await model.list(gone, position=None, limit=10)).tasks


async def test_children_are_found_by_their_parent(model: _Model) -> None:
    """Those that are open; other tasks' children are others', and so are other tenants'."""
    await model.apply(_log("submitted", task_id="p"))
    await model.apply(_log("submitted", "started", task_id="c1", parent="p"))
    await model.apply(_log("submitted", "cancelled", task_id="c2", parent="p"))
    await model.apply(_log("submitted", task_id="c3", parent="q"))
    assert await model.open_children("acme", "p") == ["c1"]
    assert await model.open_children("other", "p") == []


async def test_dead_letters_come_last_first_in_stable_pages(model: _Model) -> None:
    """More that come between two pages move none of them."""
    for number in range(5):
        await model.apply(
            _log("submitted", "dead_lettered", task_id=f"t{number}", ended=number // 2)
        )
    wanted = DeadLetterFilter("acme")
    first = await model.dead_letters(wanted, position=None, limit=2)
    await model.apply(_log("submitted", "dead_lettered", task_id="t9", ended=9))
    second = await model.dead_letters(wanted, position=first.next_position, limit=2)
    third = await model.dead_letters(wanted, position=second.next_position, limit=2)
    assert third.next_position == ""
    letters = [letter for page in (first, second, third) for letter in page.letters]
    assert [letter.task.name[-2:] for letter in letters] == ["t4", "t3", "t2", "t1", "t0"]
    assert letters[0].time == _NOW + timedelta(seconds=3)
    assert letters[0].reason == "INTERNAL"
    before = DeadLetterFilter("acme", before=_NOW + timedelta(seconds=2))
    page = await model.dead_letters(before, position=None, limit=10)
    assert [letter.task.name[-2:] for letter in page.letters] == ["t1", "t0"]


async def test_a_page_looks_at_so_many_dead_letters_only(
    model: _Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where few of them are wanted a page may be empty; the next goes on where it ended."""
    monkeypatch.setattr(read_model_sql, "_LOOKED_AT", 3)
    for number in range(8):
        lane = tier_pb2.LANE_BATCH if number in (0, 1) else tier_pb2.LANE_STANDARD
        await model.apply(
            _log("submitted", "dead_lettered", task_id=f"t{number}", ended=number, lane=lane)
        )
    pages: list[list[str]] = []
    position: str | None = None
    while position != "":
        wanted = DeadLetterFilter("acme", lane=tier_pb2.LANE_BATCH)
        page = await model.dead_letters(wanted, position=position, limit=2)
        pages.append([letter.task.name[-2:] for letter in page.letters])
        position = page.next_position
    assert pages == [[], [], ["t1", "t0"]]


@pytest.mark.parametrize("after", ["redriven", "discarded", "expired"])
async def test_what_is_no_dead_letter_any_more_is_not_listed(model: _Model, after: str) -> None:
    """Put back, discarded, or removed by retention."""
    events = _log("submitted", "dead_lettered", after)
    await model.apply([*events, events[1]])
    page = await model.dead_letters(DeadLetterFilter("acme"), position=None, limit=10)
    assert not page.letters


async def test_who_comes_second_at_the_same_place_is_refused(database: Copies) -> None:
    """Nothing of its batch is written, and it can see where the copy is."""
    writer, model = ReadModelWriter(database), SqlReadModel(database)
    before, after = Place(0, 0), Place(3, 30)
    await writer.apply(_log("submitted"), stream="TASKS", before=before, after=after)
    entries = _log("submitted", task_id="t2")
    for late in (before, Place(3, 31), Place(2, 20)):
        with pytest.raises(Moved):
            await writer.apply(entries, stream="TASKS", before=late, after=Place(4, 40))
    assert await model.listed("acme", ["t1", "t2"]) == ["t1"]
    await writer.apply([], stream="TASKS-1", before=before, after=Place(7, 70))
    assert await writer.places() == {"TASKS": after, "TASKS-1": Place(7, 70)}


async def test_a_cleared_copy_begins_anew(database: Copies) -> None:
    """Nothing is listed, and every stream is at its beginning."""
    writer, model = ReadModelWriter(database), _Model(database)
    await model.apply(_log("submitted"))
    await writer.clear("TASKS")
    assert await writer.places() == {}
    assert await model.listed("acme", ["t1"]) == []
