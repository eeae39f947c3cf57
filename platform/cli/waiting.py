"""What a waiting task waits for, and how it is answered."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from agentmesh.coordinator.v1.coordinator_service_pb2 import GetTaskRequest
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task, TaskState, TaskWait
from cli.gateway import CALL_SECONDS, Gateway
from cli.invocation import Invocation
from cli.task_state import state_name
from cli.wording import seconds, shorten, zoned_moment
from meshkit.errors import TaskNotFound

# What it counts as when nothing comes until the end of the wait.
_AT_THE_END: Final = {
    "approval": "then it counts as rejected",
    "input": "then it counts as unanswered",
    "children": "then it goes on without those that are open",
}
_INPUT: Final = 80


def for_person(wait: TaskWait) -> bool:
    """Whether a person must answer."""
    return wait.WhichOneof("reason") in ("approval", "input")


def answers(invocation: Invocation, task: Task) -> list[str]:
    """The command lines with which a person answers; empty where nobody is asked.

    Each answers what `task` waits for here, and nothing that it waits for later.
    """
    match task.wait.WhichOneof("reason"):
        case "approval":
            options = ("--approve", "--reject REASON")
        case "input":
            options = ("--input TEXT",)
        case _:
            options = ()
    words = ("task", "signal", task.name.rpartition("/")[2])
    seen = ("--last-sequence", str(task.last_sequence))
    return [invocation.command(*words, option, *seen) for option in options]


def end_text(wait: TaskWait, now: datetime) -> str:
    """When the wait ends by itself, and what that means; empty where it is unknown."""
    meaning = _AT_THE_END.get(wait.WhichOneof("reason") or "")
    if not meaning or not wait.HasField("expire_time"):
        return ""
    end = wait.expire_time.ToDatetime(tzinfo=UTC)
    left = max(0.0, (end - now).total_seconds())
    return f"{zoned_moment(end)} (in {seconds(left)}), {meaning}"


async def children(gateway: Gateway, wait: TaskWait) -> list[Task]:
    """The child tasks that are waited for, as they stand."""

    async def get(name: str) -> Task:
        try:
            answer = await gateway.coordinator.GetTask(
                GetTaskRequest(name=name), timeout=CALL_SECONDS
            )
        except TaskNotFound:
            return Task(name=name)  # about to be submitted, or refused
        return answer.task

    return await asyncio.gather(*(get(name) for name in wait.children.tasks))


def child_rows(tasks: Sequence[Task]) -> list[tuple[str, str, str]]:
    """A child's id, state and request, a row each."""
    return [
        (
            task.name.rpartition("/")[2],
            state_name(task.state) if task.state else "not there yet",
            shorten(task.input.text, _INPUT),
        )
        for task in tasks
    ]


async def hints(invocation: Invocation, gateway: Gateway, event: TaskEvent) -> list[str]:
    """What to tell after `event` of a task that began to wait: how to answer, or which children.

    Nothing where the task has gone on meanwhile.
    """
    if event.WhichOneof("kind") != "waiting":
        return []
    answer = await gateway.coordinator.GetTask(
        GetTaskRequest(name=event.task), timeout=CALL_SECONDS
    )
    task: Task = answer.task
    if task.state != TaskState.TASK_STATE_WAITING or task.last_sequence != event.sequence:
        return []
    lines = [f"answer with  {line}" for line in answers(invocation, task)]
    rows = child_rows(await children(gateway, task.wait))
    return lines + [f"child {name}  {state:<9}  {text}" for name, state, text in rows]


def say_it_goes_on(invocation: Invocation, task: str, *, embedded: bool = False) -> None:
    """Tells who stops following a task that this does not stop the task.

    `embedded`: the mesh ends with the command, and the task goes on with the next one.
    """
    task_id = task.rpartition("/")[2]
    invocation.terminal.warn("The task goes on all the same. To follow it, or to end it:")
    for words in (
        *([("up", "--detach")] if embedded else []),
        ("task", "watch", task_id),
        ("task", "cancel", task_id),
    ):
        invocation.terminal.warn(f"  {invocation.command(*words)}")
