"""Waits, as an executor that a test plays puts them into the log; only for tests."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from agentmesh.common.v1 import usage_pb2
from agentmesh.common.v1.conversation_pb2 import ToolCall
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskWaiting
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput, TaskState
from meshtest.eventually import eventually
from services.coordinator.coordinator_mesh import Mesh
from tasklog import lifecycle
from tasklog.task_log import Entry


def for_approval(tool: str = "refund") -> TaskWaiting:
    """A person must agree to a call of `tool`."""
    waiting = TaskWaiting()
    waiting.wait.call_id = "call-1"
    waiting.wait.approval.call.CopyFrom(ToolCall(call_id="call-1", tool=tool))
    return waiting


def for_input(question: str = "Which one?") -> TaskWaiting:
    """A person must answer."""
    waiting = TaskWaiting()
    waiting.wait.call_id = "call-1"
    waiting.wait.input.question = question
    return waiting


def for_time(seconds: float) -> TaskWaiting:
    """So many seconds must pass."""
    waiting = TaskWaiting()
    waiting.wait.call_id = "call-1"
    waiting.wait.until.FromDatetime(datetime.now(UTC) + timedelta(seconds=seconds))
    return waiting


def for_children(parent: Task, *texts: str, agent: str = "") -> TaskWaiting:
    """One child for each text must end. Their names follow from the parent's."""
    waiting = TaskWaiting()
    waiting.wait.call_id = "call-1"
    for number, text in enumerate(texts):
        waiting.children.append(
            Task(
                name=f"{parent.name}-{number}",
                tenant=parent.tenant,
                agent=agent,
                parent_task=parent.name,
                depth=parent.depth + 1,
                input=TaskInput(text=text),
            )
        )
        waiting.wait.children.tasks.append(waiting.children[-1].name)
    return waiting


def expiring(waiting: TaskWaiting, seconds: float) -> TaskWaiting:
    """`waiting`, which ends after so many seconds whatever came."""
    waiting.wait.expire_time.FromDatetime(datetime.now(UTC) + timedelta(seconds=seconds))
    return waiting


async def append(
    mesh: Mesh, name: str, event: TaskEvent, state: TaskState | None = None, cost_micros: int = 0
) -> Entry:
    """Stores `event` as the next one of the task called `name`, at the present time."""
    task_id = name.rpartition("/")[2]
    last = await mesh.log.last("acme", task_id)
    assert last is not None
    event.task, event.writer = name, "executor/test"
    lifecycle.advance(
        last.event.status,
        event,
        sequence=last.event.sequence + 1,
        time=datetime.now(UTC),
        state=state,
        usage=None if not cost_micros else _cost(cost_micros),
    )
    return await mesh.log.append("acme", task_id, event, after=last.stream_sequence)


async def begin_wait(mesh: Mesh, task: Task, waiting: TaskWaiting) -> Entry:
    """Starts the task, unless it runs, and has it wait."""
    if (await get(mesh, task.name)).state != TaskState.TASK_STATE_RUNNING:
        await mesh.execute(task, "started")
    return await append(mesh, task.name, TaskEvent(waiting=waiting))


async def get(mesh: Mesh, name: str) -> Task:
    """The task as GetTask answers it."""
    return (await mesh.tasks.GetTask(pb.GetTaskRequest(name=name), timeout=60)).task


async def events(mesh: Mesh, name: str) -> Sequence[TaskEvent]:
    """The task's log."""
    task_id = name.rpartition("/")[2]
    return [entry.event async for entry in mesh.log.read("acme", task_id)]


async def kinds(mesh: Mesh, name: str) -> Sequence[str | None]:
    """What happened to the task, in order."""
    return [event.WhichOneof("kind") for event in await events(mesh, name)]


async def reaches(mesh: Mesh, name: str, wanted: str) -> None:
    """Returns once the task is in the state `wanted`, such as `QUEUED`."""

    async def check() -> bool:
        last = await mesh.log.last("acme", name.rpartition("/")[2])
        state = "" if last is None else lifecycle.state_name(last.event.status.state)
        assert state == wanted
        return True

    await eventually(check)


def _cost(micros: int) -> usage_pb2.Usage:
    return usage_pb2.Usage(cost_micros=micros, model_calls=1)
