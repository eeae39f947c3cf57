"""Child tasks: what a parent hands on to them, and how it reads what became of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from google.protobuf import struct_pb2

from agentmesh.common.v1 import tier_pb2
from agentmesh.common.v1.conversation_pb2 import ToolCall, ToolResult
from agentmesh.common.v1.usage_pb2 import Usage
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
    lane: tier_pb2.Lane = tier_pb2.LANE_UNSPECIFIED
    # The most it may spend, in micro-dollars, and use, in tokens; 0 for its share of
    # what is left to the parent, which is the most in any case.
    max_cost_micros: int = 0
    max_tokens: int = 0
    # The agent is the parent's own, and does the part itself.
    without_workers: bool = False


def children_of(
    parent: Task,
    status: TaskStatus,
    parts: Sequence[Part],
    *,
    sequence: int,
    now: datetime,
    kept_shares: int = 0,
) -> list[Task]:
    """The children of `parent`, one for each of `parts`.

    They share equally what is left of the parent's money and tokens, and each has
    all of the time that is left to it.

    Args:
        parent: The task as it was submitted.
        status: Its status now.
        parts: What the children are to do.
        sequence: Of the event that asks for them: the names follow from it, so
            that they can be submitted any number of times.
        now: The time.
        kept_shares: So many shares stay with the parent.
    """
    shares = len(parts) + kept_shares
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
            budget_micros=least(part.max_cost_micros, budget_share(parent, status, shares)),
            budget_tokens=least(part.max_tokens, token_share(parent, status, shares)),
            without_workers=part.without_workers,
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


def token_share(parent: Task, status: TaskStatus, count: int) -> int:
    """How many tokens each of `count` children may use; 0 where nothing caps the parent."""
    return (
        (parent.budget_tokens - tokens_used(status.usage)) // count if parent.budget_tokens else 0
    )


def is_spent(parent: Task, status: TaskStatus, count: int) -> bool:
    """Whether the parent has a budget and too little of it is left for `count` children."""
    return (bool(parent.budget_micros) and budget_share(parent, status, count) <= 0) or (
        bool(parent.budget_tokens) and token_share(parent, status, count) <= 0
    )


def tokens_used(usage: Usage) -> int:
    """The tokens of model calls, in and out."""
    return usage.input_tokens + usage.output_tokens


def least(*limits: int) -> int:
    """The smallest of some limits, of which 0 is none."""
    return min((limit for limit in limits if limit), default=0)


def result(call: ToolCall, children: Sequence[ChildResult]) -> ToolResult:
    """What the model reads of its children: each one's state, and its output or error."""
    answer = ToolResult(
        call_id=call.call_id,
        tool=call.tool,
        text="\n\n".join(
            f"Task {number} of {len(children)}: {state_word(child)}\n{words(child)}"
            for number, child in enumerate(children, start=1)
        ),
        is_error=not any(is_done(child) for child in children),
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
            code=f"CHILD_{state_word(child)}",
            text=f"{child.task or 'A child task'}: {_why(child)}",
        )
        for child in children
        if child.state != task_pb2.TASK_STATE_SUCCEEDED
    ]


def words(child: ChildResult) -> str:
    """What a child found, or why it found nothing."""
    return conversation.words(child.output) if is_done(child) else _why(child)


def is_done(child: ChildResult) -> bool:
    """Whether it has a result."""
    return child.state in _DONE


def state_word(child: ChildResult) -> str:
    """`SUCCEEDED`, ...; `REFUSED` if it was never accepted, `UNFINISHED` if it did not stop."""
    if child.state == task_pb2.TASK_STATE_UNSPECIFIED:
        return "REFUSED"
    if child.state not in lifecycle.TERMINAL:
        return "UNFINISHED"
    return lifecycle.state_name(child.state)


def _data(child: ChildResult) -> struct_pb2.Struct:
    # The words stand in the text; here is what a program needs besides.
    data = struct_pb2.Struct()
    data["task"] = child.task
    data["state"] = state_word(child)
    if child.output.HasField("data"):
        data.get_or_create_struct("data").CopyFrom(child.output.data)
    if child.HasField("error"):
        data["error"] = child.error.message
    return data


def _why(child: ChildResult) -> str:
    if child.HasField("error"):
        return child.error.message
    match state_word(child):
        case "PARTIAL":
            return "Its result is not complete."
        case "UNFINISHED":
            return "It was not done in time."
        case "CANCELLED":
            return "It was cancelled."
        case _:
            return "It has no result."
