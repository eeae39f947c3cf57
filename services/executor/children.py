"""Child tasks: what a parent hands on to them, and how it reads what became of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from google.protobuf import struct_pb2

from agentmesh.common.v1 import tier_pb2
from agentmesh.common.v1.conversation_pb2 import ToolCall, ToolResult
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import ChildResult, TaskStatus
from agentmesh.coordinator.v1.task_pb2 import Task, TaskNote
from meshkit.ids import stable_id
from services.executor import conversation
from tasklog import lifecycle, subjects

MAX_CHILDREN: Final = 100
# How many tasks may stand above a child.
MAX_DEPTH: Final = 5

# In these a child has a result.
_DONE: Final = frozenset({task_pb2.TASK_STATE_SUCCEEDED, task_pb2.TASK_STATE_PARTIAL})


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of work for a child."""

    text: str
    # Empty for the built-in agent.
    agent: str
    # The parent's where it is unspecified.
    lane: tier_pb2.Lane


def children_of(
    parent: Task, status: TaskStatus, parts: Sequence[Part], *, sequence: int, now: datetime
) -> list[Task]:
    """The children of `parent`, one for each of `parts`.

    They share equally what is left of the parent's budget, and each has all of
    the time that is left to it.

    Args:
        parent: The task as it was submitted.
        status: Its status now.
        parts: What the children are to do.
        sequence: Of the event that asks for them: the names follow from it, so
            that they can be submitted any number of times.
        now: The time.
    """
    left = status.deadline.ToDatetime(tzinfo=now.tzinfo) - now
    children: list[Task] = []
    for index, part in enumerate(parts):
        child_id = stable_id("child", parent.name, str(sequence), str(index))
        child = Task(
            name=subjects.task_name(parent.tenant, child_id),
            tenant=parent.tenant,
            agent=part.agent,
            lane=part.lane or status.lane,
            priority=status.priority,
            labels=parent.labels,
            parent_task=parent.name,
            depth=parent.depth + 1,
            budget_micros=budget_share(parent, status, len(parts)),
        )
        child.input.text = part.text
        child.time_limit.FromTimedelta(max(left, timedelta(milliseconds=1)))
        children.append(child)
    return children


def budget_share(parent: Task, status: TaskStatus, count: int) -> int:
    """What each of `count` children may spend, in micro-dollars; 0 where nothing caps the parent.

    Not to be asked for children where `is_spent` says so.
    """
    return (parent.budget_micros - status.usage.cost_micros) // count if parent.budget_micros else 0


def is_spent(parent: Task, status: TaskStatus, count: int) -> bool:
    """Whether the parent has a budget and too little of it is left for `count` children."""
    return bool(parent.budget_micros) and budget_share(parent, status, count) <= 0


def result(call: ToolCall, children: Sequence[ChildResult]) -> ToolResult:
    """What the model reads of its children: each one's state, and its output or error."""
    answer = ToolResult(
        call_id=call.call_id,
        tool=call.tool,
        text="\n\n".join(
            f"Task {number} of {len(children)}: {_account(child)}"
            for number, child in enumerate(children, start=1)
        ),
        is_error=not any(child.state in _DONE for child in children),
    )
    listed = answer.data.get_or_create_list("tasks")
    for child in children:
        listed.append(_data(child))
        answer.citations.extend(child.citations)
    return answer


def notes(children: Iterable[ChildResult]) -> list[TaskNote]:
    """What the reader of the parent's result should know of its children."""
    return [
        TaskNote(
            code=f"CHILD_{_word(child)}", text=f"{child.task or 'A child task'}: {_why(child)}"
        )
        for child in children
        if child.state != task_pb2.TASK_STATE_SUCCEEDED
    ]


def _account(child: ChildResult) -> str:
    said = conversation.words(child.output) if child.state in _DONE else _why(child)
    return f"{_word(child)}\n{said}"


def _data(child: ChildResult) -> struct_pb2.Struct:
    # The words stand in the text; here is what a program needs besides.
    data = struct_pb2.Struct()
    data["task"] = child.task
    data["state"] = _word(child)
    if child.output.HasField("data"):
        data.get_or_create_struct("data").CopyFrom(child.output.data)
    if child.HasField("error"):
        data["error"] = child.error.message
    return data


def _word(child: ChildResult) -> str:
    if child.state == task_pb2.TASK_STATE_UNSPECIFIED:
        return "REFUSED"
    if child.state not in lifecycle.TERMINAL:
        return "UNFINISHED"
    return lifecycle.state_name(child.state)


def _why(child: ChildResult) -> str:
    if child.HasField("error"):
        return child.error.message
    match _word(child):
        case "PARTIAL":
            return "Its result is not complete."
        case "UNFINISHED":
            return "It was not done in time."
        case "CANCELLED":
            return "It was cancelled."
        case _:
            return "It has no result."
