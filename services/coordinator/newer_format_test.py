"""A coordinator meets what one of a later version wrote."""

from collections.abc import Awaitable, Callable

import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit.errors import NewerFormat, is_retryable
from services.coordinator.coordinator_mesh import PARENT, Mesh
from tasklog.formats import EventFormats
from tasklog.partitions import WHOLE

pytest_plugins = ["meshtest.fixtures", "services.coordinator.coordinator_mesh"]


async def _watch(mesh: Mesh, name: str) -> None:
    async for _ in mesh.tasks.WatchTask(pb.WatchTaskRequest(name=name), timeout=60):
        pass


async def _list(mesh: Mesh, name: str) -> None:
    await mesh.tasks.ListTaskEvents(pb.ListTaskEventsRequest(name=name), timeout=60)


async def _get(mesh: Mesh, name: str) -> None:
    await mesh.tasks.GetTask(pb.GetTaskRequest(name=name), timeout=60)


async def _cancel(mesh: Mesh, name: str) -> None:
    await mesh.tasks.CancelTask(pb.CancelTaskRequest(name=name), timeout=60)


async def _started_by_a_later_version(mesh: Mesh, patch: pytest.MonkeyPatch) -> Task:
    task = await mesh.submit(request_id="once")
    later = EventFormats((lambda event: None,), writes=2)
    with patch.context() as upgraded:
        upgraded.setattr("tasklog.task_log.EVENTS", later)
        await mesh.execute(task, "started")
    return task


@pytest.mark.parametrize("call", [_get, _watch, _list, _cancel])
async def test_calls_about_its_task_may_be_made_again_elsewhere(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, call: Callable[[Mesh, str], Awaitable[None]]
) -> None:
    """They say which format it is, and which are known here; nothing is written."""
    task = await _started_by_a_later_version(mesh, monkeypatch)
    with pytest.raises(NewerFormat) as caught:
        await call(mesh, task.name)
    assert caught.value.message == (
        f"Event 2 of {task.name} is of format 2; this version of Agentmesh reads formats up to 1."
        " A later version can read it."
    )
    assert caught.value.metadata == {"format": "2", "reads": "1"}
    assert is_retryable(caught.value)
    last = await mesh.bus.last(WHOLE.stream, WHOLE.scope("acme", task.name.rpartition("/")[2]))
    assert last is not None
    assert b"executor/test" in last.payload


async def test_other_tasks_are_as_ever(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that it cannot read is nobody else's matter."""
    await _started_by_a_later_version(mesh, monkeypatch)
    task = await mesh.submit("another")
    await _get(mesh, task.name)
    assert task.name.startswith(f"{PARENT}/tasks/")
