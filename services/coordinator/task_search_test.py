"""A page has exactly the tasks that are wanted, whatever is filtered by, in stable pages."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit.ids import RandomIds
from services.coordinator import task_search
from services.coordinator.read_model import TaskFilter
from services.coordinator.read_model_file import SqliteFiles
from services.coordinator.read_model_sql import SqlReadModel
from services.coordinator.read_model_writer import ReadModelWriter
from services.coordinator.task_row import Recorded
from sqlstore.database import Database
from sqlstore.positions import Place

_START = datetime(2026, 1, 1, tzinfo=UTC)
_STATES = (
    task_pb2.TASK_STATE_QUEUED,
    task_pb2.TASK_STATE_RUNNING,
    task_pb2.TASK_STATE_SUCCEEDED,
)
_LANES = (tier_pb2.LANE_STANDARD, tier_pb2.LANE_BATCH)
_LABELS = [{}, {"a": "1"}, {"a": "1", "b": "2"}, {"a": "1=b"}, {"a=1": "b"}, {"c": "x" * 200}]
_SESSIONS = ["", "s1", "s\0", "s" * 300]
_AGENTS = ["one@1", "one@2", "other@1"]
_TASKS = 400


def _task(number: int) -> Task:
    """No two attributes go together; several tasks are created at the same time."""
    task = Task(name=f"tenants/acme/tasks/t{number * 7919 % 1000:04}")
    task.state, task.lane = _STATES[number % 3], _LANES[number // 3 % 2]
    task.agent = f"tenants/acme/agents/{_AGENTS[number // 5 % 3]}"
    task.session = _SESSIONS[number // 7 % 4]
    for key, value in _LABELS[number // 2 % 6].items():
        task.labels[key] = value
    task.create_time.FromDatetime(_START + number // 3 * timedelta(seconds=1))
    return task


def _created(task: Task) -> datetime:
    return task.create_time.ToDatetime(tzinfo=UTC)


_ALL = sorted(map(_task, range(_TASKS)), key=lambda task: (_created(task), task.name))[::-1]


def _is_wanted(task: Task, wanted: TaskFilter) -> bool:
    return (
        (not wanted.states or task.state in wanted.states)
        and wanted.agent in ("", task.agent, task.agent.partition("@")[0])
        and wanted.session in ("", task.session)
        and wanted.lane in (tier_pb2.LANE_UNSPECIFIED, task.lane)
        and all(task.labels.get(key) == value for key, value in wanted.labels.items())
        and (wanted.created_after is None or _created(task) >= wanted.created_after)
        and (wanted.created_before is None or _created(task) < wanted.created_before)
    )


def _event(task: Task) -> TaskEvent:
    event = TaskEvent(task=task.name, sequence=1)
    event.submitted.task.CopyFrom(task)
    event.status.state, event.status.lane = task.state, task.lane
    event.status.create_time.CopyFrom(task.create_time)
    return event


@pytest.fixture
async def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqlReadModel]:
    """With all the tasks. Already so few are many."""
    monkeypatch.setattr(task_search, "_PROBED", 10)
    monkeypatch.setattr(task_search, "_LOOKED_AT", 40)
    files = await SqliteFiles.open(tmp_path, RandomIds())
    await _put(files, _ALL)
    yield SqlReadModel(files)
    await files.close()


async def _put(files: Database, tasks: list[Task], after: int = 0) -> None:
    entries = [Recorded(_event(task), number, 1) for number, task in enumerate(tasks, after + 1)]
    await ReadModelWriter(files).apply(
        entries,
        stream="TASKS",
        before=Place(after, 0),
        after=Place(after + len(tasks), 0),
    )


async def _pages(model: SqlReadModel, wanted: TaskFilter, limit: int) -> list[list[str]]:
    pages: list[list[str]] = []
    position: str | None = None
    while True:
        page = await model.list(wanted, position=position, limit=limit)
        pages.append([task.name for task in page.tasks])
        if not page.next_position:
            return pages
        assert page.next_position != position
        position = page.next_position


@st.composite
def _filters(draw: st.DrawFn) -> TaskFilter:
    def time() -> st.SearchStrategy[datetime | None]:
        seconds = st.integers(-5, _TASKS // 3 + 5)
        return st.none() | seconds.map(lambda each: _START + timedelta(seconds=each))

    agents = ["", "one", "one@2", "other@1", "none"]
    named = draw(st.sampled_from(agents))
    return TaskFilter(
        "acme",
        states=draw(st.lists(st.sampled_from(_STATES), max_size=3)),
        agent=named and f"tenants/acme/agents/{named}",
        session=draw(st.sampled_from([*_SESSIONS, "unknown"])),
        lane=draw(st.sampled_from((tier_pb2.LANE_UNSPECIFIED, *_LANES))),
        labels=draw(st.sampled_from([*_LABELS, {"a": "1", "b": "3"}])),
        created_after=draw(time()),
        created_before=draw(time()),
    )


@given(wanted=_filters(), limit=st.integers(1, 60))
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_all_that_are_wanted_are_found_once_and_in_order(
    model: SqlReadModel, wanted: TaskFilter, limit: int
) -> None:
    """However the filters go together, and however large the pages are."""
    pages = await _pages(model, wanted, limit)
    assert [name for page in pages for name in page] == [
        task.name for task in _ALL if _is_wanted(task, wanted)
    ]
    assert all(len(page) <= limit for page in pages)


async def test_a_page_ends_early_where_too_many_are_looked_at(model: SqlReadModel) -> None:
    """Filters that each fit many and together few: short pages, and a bounded number of them."""
    wanted = TaskFilter("acme", lane=tier_pb2.LANE_BATCH, labels={"a": "1", "b": "2"})
    pages = await _pages(model, wanted, 50)
    assert 1 < len(pages) <= 3
    assert sum(map(len, pages)) == sum(_is_wanted(task, wanted) for task in _ALL)


async def test_pages_stay_where_they_are_while_tasks_are_added(tmp_path: Path) -> None:
    """What is between two pages already comes; what is newer than the first page does not."""
    files = await SqliteFiles.open(tmp_path, RandomIds())
    model = SqlReadModel(files)
    even, odd = _ALL[::2], _ALL[1::2]
    await _put(files, even)
    seen: list[str] = []
    position: str | None = None
    for _ in range(4):
        page = await model.list(TaskFilter("acme"), position=position, limit=30)
        seen += [task.name for task in page.tasks]
        position = page.next_position
        if len(seen) == 30:
            await _put(files, odd, after=len(even))
    await files.close()
    order = {task.name: number for number, task in enumerate(_ALL)}
    assert all(order[one] < order[other] for one, other in pairwise(seen))
    assert seen[30:] == [task.name for task in _ALL[order[seen[29]] + 1 :]][:90]
