"""What a tool call waited for and what came of it, as the task's log tells it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from agentmesh.common.v1.conversation_pb2 import ToolCall, ToolResult
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskResumed, TaskWaiting
from agentmesh.coordinator.v1.task_pb2 import TaskNote, TaskWait
from services.executor import children, conversation

# An event must not grow with the arguments of a call that stands in the log already.
_MAX_SHOWN_BYTES: Final = 32 * 1024


@dataclass(frozen=True, slots=True)
class Approved:
    """A person agreed to the call."""

    # The call gets a key of its own, since the one before may have had its effect.
    key_suffix: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The call has its result; nothing is left to be executed."""

    result: ToolResult
    notes: Sequence[TaskNote] = ()


def outcome(events: Sequence[TaskEvent], call: ToolCall) -> Approved | Answered | None:
    """What came of the last wait of `call`; None if it never waited.

    Only waits since the model's last message count: ids of calls are the
    model's, and may come again later.
    """
    resumed: TaskEvent | None = None
    for event in reversed(events):
        match event.WhichOneof("kind"):
            case "resumed":
                resumed = event
            case "waiting" if event.waiting.wait.call_id == call.call_id and resumed is not None:
                return _outcome(call, event.waiting.wait, resumed)
            case "model_called":
                return None
            case _:
                pass
    return None


def for_approval(
    call: ToolCall, why: str, *, outcome_unknown: bool, now: datetime, wait_limit: timedelta
) -> TaskWaiting:
    """The wait for a person who says whether `call` is made."""
    waiting = TaskWaiting()
    waiting.wait.call_id = call.call_id
    waiting.wait.expire_time.FromDatetime(now + wait_limit)
    approval = waiting.wait.approval
    approval.call.CopyFrom(call)
    if call.ByteSize() > _MAX_SHOWN_BYTES:
        approval.call.ClearField("arguments")
        why += " Its arguments are too large to be shown here; they stand in the task's log."
    approval.why = why
    approval.outcome_unknown = outcome_unknown
    return waiting


def failed(call: ToolCall, why: str) -> ToolResult:
    """The result of a call that did not work out; the model reads why."""
    return ToolResult(call_id=call.call_id, tool=call.tool, is_error=True, text=why)


def _outcome(call: ToolCall, wait: TaskWait, event: TaskEvent) -> Approved | Answered:
    resumed = event.resumed
    match wait.WhichOneof("reason"):
        case "approval":
            if resumed.signal.HasField("approval"):
                return Approved(f"/{event.sequence}" if wait.approval.outcome_unknown else "")
            return Answered(failed(call, _refusal(resumed)))
        case "input":
            return Answered(_input(call, resumed))
        case "children" if resumed.children:
            return Answered(
                children.result(call, resumed.children), children.notes(resumed.children)
            )
        case "children":
            return Answered(failed(call, "None of the tasks was done in time."))
        case _:
            time = event.time.ToJsonString()
            return Answered(
                ToolResult(
                    call_id=call.call_id, tool=call.tool, text=f"The wait is over: it is {time}."
                )
            )


def _refusal(resumed: TaskResumed) -> str:
    if not resumed.signal.HasField("rejection"):
        return "Nobody approved this call in time, so it was not made."
    reason = resumed.signal.rejection.reason or "no reason was given"
    return f"{resumed.signal.sender or 'A person'} rejected this call: {reason}"


def _input(call: ToolCall, resumed: TaskResumed) -> ToolResult:
    if not resumed.signal.HasField("input"):
        return failed(call, "Nobody answered in time.")
    said = resumed.signal.input
    result = ToolResult(call_id=call.call_id, tool=call.tool, text=conversation.words(said))
    if said.HasField("data"):
        result.data.CopyFrom(said.data)
    return result
