"""A page of events fits into a message, whatever the events hold."""

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from services.coordinator.coordinator_mesh import Mesh
from tasklog import lifecycle

pytest_plugins = ["meshtest.fixtures", "services.coordinator.coordinator_mesh"]

_MIB = 1024 * 1024


async def _call_tool(mesh: Mesh, name: str, size_bytes: int) -> None:
    task_id = name.rpartition("/")[2]
    last = await mesh.log.last("acme", task_id)
    assert last is not None
    event = lifecycle.new_event(name, "executor/test")
    event.tool_called.result.text = "x" * size_bytes
    lifecycle.advance(
        last.event.status,
        event,
        sequence=last.event.sequence + 1,
        time=last.event.time.ToDatetime(),
    )
    await mesh.log.append("acme", task_id, event, after=last.stream_sequence)


async def _pages(mesh: Mesh, name: str, page_size: int) -> list[list[TaskEvent]]:
    pages: list[list[TaskEvent]] = []
    token = ""
    while token or not pages:
        answer = await mesh.tasks.ListTaskEvents(
            pb.ListTaskEventsRequest(name=name, page_size=page_size, page_token=token), timeout=60
        )
        pages.append([*answer.events])
        token = answer.next_page_token
    return pages


async def test_large_events_come_in_more_pages(mesh: Mesh) -> None:
    """A page ends before it is larger than 4 MiB; one event alone may be larger."""
    task = await mesh.submit()
    await mesh.execute(task, "started")
    for size_bytes in (2 * _MIB, 2 * _MIB, 1, 5 * _MIB, 1 * _MIB):
        await _call_tool(mesh, task.name, size_bytes)
    pages = await _pages(mesh, task.name, 1_000)
    assert [[event.sequence for event in page] for page in pages] == [[1, 2, 3], [4, 5], [6], [7]]


async def test_small_events_fill_a_page(mesh: Mesh) -> None:
    """The last page has no token, also where it is full."""
    task = await mesh.submit()
    await mesh.execute(task, "started")
    for _ in range(2):
        await _call_tool(mesh, task.name, 1)
    pages = await _pages(mesh, task.name, 2)
    assert [[event.sequence for event in page] for page in pages] == [[1, 2], [3, 4]]
