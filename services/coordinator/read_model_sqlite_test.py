"""The list says what the log says, in whatever order the events come."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskStatus
from meshtest.ids import FakeIds
from services.coordinator.read_model import TaskFilter
from services.coordinator.read_model_sqlite import open_sqlite
from tasklog import lifecycle

_NOW = datetime(2026, 1, 2, tzinfo=UTC)


def _log() -> list[TaskEvent]:
    events: list[TaskEvent] = []
    status = TaskStatus(lane=tier_pb2.LANE_STANDARD)
    status.create_time.FromDatetime(_NOW)
    for kind in ("submitted", "started", "completed"):
        event = lifecycle.new_event("tenants/acme/tasks/t1", "test")
        getattr(event, kind).SetInParent()
        if kind == "submitted":
            task = event.submitted.task
            task.name, task.session = event.task, "s1"
            task.labels["team"] = "a"
            task.create_time.FromDatetime(_NOW)
        state = task_pb2.TASK_STATE_SUCCEEDED if kind == "completed" else None
        lifecycle.advance(status, event, sequence=len(events) + 1, time=_NOW, state=state)
        events.append(event)
        status = event.status
    return events


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_a_finished_task_is_listed_as_finished(tmp_path: Path, order: tuple[int]) -> None:
    """Though a crash made its first event come last, or any event come twice."""
    async with AsyncExitStack() as stack:
        model = await open_sqlite(tmp_path / "tasks.sqlite", FakeIds(), stack)
        events = _log()
        for index in order:
            await model.apply([events[index], events[index]])
        page = await model.list(TaskFilter("acme", labels={"team": "a"}), position=None, limit=10)
        (task,) = page.tasks
        assert task.state == task_pb2.TASK_STATE_SUCCEEDED
        assert task.session == "s1"


async def test_a_task_whose_submission_is_still_to_come_is_not_listed(tmp_path: Path) -> None:
    """There is nothing to show of it yet."""
    async with AsyncExitStack() as stack:
        model = await open_sqlite(tmp_path / "tasks.sqlite", FakeIds(), stack)
        await model.apply(_log()[1:])
        assert not (await model.list(TaskFilter("acme"), position=None, limit=10)).tasks


async def test_a_file_keeps_its_identity(tmp_path: Path) -> None:
    """The same file goes on where it was; a new one begins the log anew."""
    identities: list[str] = []
    for name in ("a.sqlite", "a.sqlite", "b.sqlite"):
        async with AsyncExitStack() as stack:
            ids = FakeIds()
            for _ in identities:
                ids.new()
            identities.append((await open_sqlite(tmp_path / name, ids, stack)).identity)
    assert identities[0] == identities[1] != identities[2]
