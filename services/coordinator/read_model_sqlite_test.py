"""The list says what the log says, in whatever order the events come."""

import sqlite3
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskStatus
from meshkit.errors import DependencyUnavailable
from meshkit.ids import RandomIds
from services.coordinator.read_model import DeadLetterFilter, TaskFilter
from services.coordinator.read_model_file import open_file
from services.coordinator.read_model_sqlite import SqliteReadModel
from services.coordinator.task_row import Recorded
from tasklog import lifecycle

_NOW = datetime(2026, 1, 2, tzinfo=UTC)


def _log(*kinds: str, task_id: str = "t1", parent: str = "", ended: int = 0) -> list[Recorded]:
    """A task's events, a second apart; `ended` counts from there."""
    events: list[Recorded] = []
    status = TaskStatus(lane=tier_pb2.LANE_STANDARD)
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


async def _open(path: Path, stack: AsyncExitStack) -> SqliteReadModel:
    return SqliteReadModel(await open_file(path / "tasks.sqlite", RandomIds(), stack))


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_a_finished_task_is_listed_as_finished(tmp_path: Path, order: tuple[int]) -> None:
    """Though a crash made its first event come last, or any event come twice."""
    async with AsyncExitStack() as stack:
        model = await _open(tmp_path, stack)
        events = _log("submitted", "started", "completed")
        for index in order:
            await model.apply([events[index], events[index]])
        page = await model.list(TaskFilter("acme", labels={"team": "a"}), position=None, limit=10)
        (task,) = page.tasks
        assert task.state == task_pb2.TASK_STATE_SUCCEEDED
        assert task.session == "s1"


async def test_a_task_whose_submission_is_still_to_come_is_not_listed(tmp_path: Path) -> None:
    """There is nothing to show of it yet."""
    async with AsyncExitStack() as stack:
        model = await _open(tmp_path, stack)
        await model.apply(_log("submitted", "started", "completed")[1:])
        assert not (await model.list(TaskFilter("acme"), position=None, limit=10)).tasks


@pytest.mark.parametrize("order", list(permutations(range(4))))
async def test_an_expired_task_is_listed_without_its_content(
    tmp_path: Path, order: tuple[int]
) -> None:
    """Its state is still found; its labels and its session are not."""
    async with AsyncExitStack() as stack:
        model = await _open(tmp_path, stack)
        events = _log("submitted", "started", "completed", "expired")
        for index in order:
            await model.apply([events[index]])
        everything = TaskFilter("acme", states=[task_pb2.TASK_STATE_SUCCEEDED])
        (task,) = (await model.list(everything, position=None, limit=10)).tasks
        assert (task.name, task.last_sequence) == ("tenants/acme/tasks/t1", 4)
        for gone in (TaskFilter("acme", labels={"team": "a"}), TaskFilter("acme", session="s1")):
            assert not (await model.list(gone, position=None, limit=10)).tasks


async def test_children_are_found_by_their_parent(tmp_path: Path) -> None:
    """Those that are open; other tasks' children are others', and so are other tenants'."""
    async with AsyncExitStack() as stack:
        model = await _open(tmp_path, stack)
        await model.apply(_log("submitted", task_id="p"))
        await model.apply(_log("submitted", "started", task_id="c1", parent="p"))
        await model.apply(_log("submitted", "cancelled", task_id="c2", parent="p"))
        await model.apply(_log("submitted", task_id="c3", parent="q"))
        assert await model.open_children("acme", "p") == ["c1"]
        assert await model.open_children("other", "p") == []


async def test_dead_letters_come_last_first_in_stable_pages(tmp_path: Path) -> None:
    """More that come between two pages move none of them."""
    async with AsyncExitStack() as stack:
        model = await _open(tmp_path, stack)
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


@pytest.mark.parametrize("after", ["redriven", "discarded", "expired"])
async def test_what_is_no_dead_letter_any_more_is_not_listed(tmp_path: Path, after: str) -> None:
    """Put back, discarded, or removed by retention."""
    async with AsyncExitStack() as stack:
        model = await _open(tmp_path, stack)
        events = _log("submitted", "dead_lettered", after)
        await model.apply([*events, events[1]])
        page = await model.dead_letters(DeadLetterFilter("acme"), position=None, limit=10)
        assert not page.letters


async def test_a_file_keeps_its_identity(tmp_path: Path) -> None:
    """The same file goes on where it was; a new one begins the log anew."""
    identities: list[str] = []
    for name in ("a.sqlite", "a.sqlite", "b.sqlite"):
        async with AsyncExitStack() as stack:
            identities.append((await open_file(tmp_path / name, RandomIds(), stack)).identity)
    assert identities[0] == identities[1] != identities[2]


@pytest.mark.parametrize("former", ["older", "later", "damaged"])
async def test_a_file_that_cannot_be_used_is_built_again(tmp_path: Path, former: str) -> None:
    """It gets a new identity, and with it the log from the beginning."""
    path = tmp_path / "tasks.sqlite"
    if former == "damaged":
        path.write_bytes(b"not a database" * 100)
    else:
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE identity (id TEXT)")
            database.execute("INSERT INTO identity VALUES ('former')")
            database.execute("CREATE TABLE task (tenant TEXT)")
            database.execute(f"PRAGMA user_version = {0 if former == 'older' else 99}")
        database.close()
    async with AsyncExitStack() as stack:
        file = await open_file(path, RandomIds(), stack)
        assert file.identity != "former"
        model = SqliteReadModel(file)
        await model.apply(_log("submitted"))
        assert len((await model.list(TaskFilter("acme"), position=None, limit=10)).tasks) == 1


async def test_a_file_that_cannot_be_read_is_a_dependency_that_is_away(tmp_path: Path) -> None:
    """Whatever is asked; the log is whole, so the call may be repeated later."""
    async with AsyncExitStack() as stack:
        file = await open_file(tmp_path / "tasks.sqlite", RandomIds(), stack)
        model = SqliteReadModel(file)
        await file.database.execute("DROP TABLE task")
        for asked in (
            model.list(TaskFilter("acme"), position=None, limit=10),
            model.dead_letters(DeadLetterFilter("acme"), position=None, limit=10),
            model.open_children("acme", "t1"),
        ):
            with pytest.raises(DependencyUnavailable) as caught:
                await asked
            assert str(caught.value) == "Failed to use the read model: no such table: task."
            assert caught.value.metadata == {"dependency": "read_model"}


async def test_a_file_that_does_not_fit_the_log_is_built_again(tmp_path: Path) -> None:
    """It is told by its identity and by the last position that was written along with events."""
    path = tmp_path / "tasks.sqlite"
    async with AsyncExitStack() as stack:
        first = await open_file(path, RandomIds(), stack)
        await SqliteReadModel(first).apply(_log("submitted"), position=7)
        await SqliteReadModel(first).apply([], position=5)
    asked: list[tuple[str, int]] = []

    async def fits(identity: str, position: int) -> bool:
        asked.append((identity, position))
        return len(asked) == 1

    identities: list[str] = []
    for tasks in (1, 0):
        async with AsyncExitStack() as stack:
            file = await open_file(path, RandomIds(), stack, fits=fits)
            identities.append(file.identity)
            page = await SqliteReadModel(file).list(TaskFilter("acme"), position=None, limit=10)
            assert len(page.tasks) == tasks
    assert asked == [(first.identity, 7)] * 2
    assert identities[0] == first.identity != identities[1]
