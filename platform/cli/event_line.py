"""A task event as a line for a person."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC
from typing import Any, cast

from google.protobuf.json_format import MessageToDict

from agentmesh.common.v1.conversation_pb2 import Message, ToolResult
from agentmesh.common.v1.tier_pb2 import Lane, ModelTier
from agentmesh.coordinator.v1.task_event_pb2 import (
    ModelCalled,
    TaskEvent,
    TaskResumed,
    ToolCalled,
)
from agentmesh.coordinator.v1.task_pb2 import TaskWait
from cli.task_state import state_name
from cli.wording import clean, dollars, plural, seconds, zoned_moment
from tasklog.formats import EVENTS


@dataclass(frozen=True, slots=True)
class EventLine:
    """What happened, and when."""

    # Seconds since the task was accepted.
    after_seconds: float
    label: str
    text: str
    # One of rich's styles, for the label.
    style: str = ""


def event_line(event: TaskEvent) -> EventLine:
    """The line of `event`; kinds that this version does not know are named as such."""
    created = event.status.create_time.ToNanoseconds() or event.time.ToNanoseconds()
    after_seconds = max(0.0, (event.time.ToNanoseconds() - created) / 1e9)
    label, text, style = _describe(event)
    return EventLine(after_seconds, label, clean(text), style)


def call_text(tool: str, arguments: Any) -> str:
    """A tool call as a line of code."""
    given = MessageToDict(arguments)
    inside = ", ".join(f"{name}={_json(value)}" for name, value in sorted(given.items()))
    return f"{tool}({inside})"


def lane_name(lane: int) -> str:
    """`interactive`, `standard` or `batch`."""
    return Lane.Name(lane).removeprefix("LANE_").lower() if lane in Lane.values() else str(lane)


def tier_name(tier: int) -> str:
    """`fast`, `balanced`, `powerful`, or nothing."""
    if not tier or tier not in ModelTier.values():
        return ""
    return ModelTier.Name(tier).removeprefix("MODEL_TIER_").lower()


def wait_text(wait: TaskWait) -> str:
    """What a task waits for."""
    match wait.WhichOneof("reason"):
        case "approval":
            call = wait.approval.call
            why = f" ({wait.approval.why})" if wait.approval.why else ""
            return f"for approval of {call_text(call.tool, call.arguments)}{why}"
        case "input":
            return f"for an answer: {wait.input.question}"
        case "until":
            return f"until {zoned_moment(wait.until.ToDatetime(tzinfo=UTC))}"
        case "children":
            return f"for {plural(len(wait.children.tasks), 'child task')}"
        case _:
            return ""


def _describe(event: TaskEvent) -> tuple[str, str, str]:
    match event.WhichOneof("kind"):
        case "submitted":
            task = event.submitted.task
            agent = task.agent.rsplit("/", 1)[-1]
            return "submitted", f"{event.task} to {agent}, {lane_name(task.lane)} lane", "cyan"
        case "started":
            return "started", _started(event), "cyan"
        case "model_called":
            return "model", _model(event.model_called, event), "magenta"
        case "tool_intended":
            return "tool", "about to make a call that must not happen twice", "blue"
        case "tool_called":
            return "tool", _tool(event.tool_called), "blue"
        case "waiting":
            return "waiting", wait_text(event.waiting.wait), "yellow"
        case "resumed":
            return "resumed", _resumed(event.resumed), "yellow" if event.resumed.expired else "cyan"
        case "retried":
            return "retried", event.retried.error.message, "yellow"
        case "degraded":
            return "degraded", event.degraded.note.text, "yellow"
        case "cancel_requested":
            return "cancelling", event.cancel_requested.reason, "yellow"
        case "completed":
            return "completed", _completed(event), "green"
        case "failed":
            return "failed", event.failed.error.message, "red"
        case "cancelled":
            return "cancelled", event.cancelled.reason, "red"
        case "dead_lettered":
            return "dead letter", event.dead_lettered.error.message, "red"
        case "redriven":
            return "redriven", event.redriven.comment, "cyan"
        case "discarded":
            return "discarded", event.discarded.comment, "red"
        case "expired":
            return "expired", "retention removed its content; state and usage remain", "yellow"
        case _:
            return "event", _unknown(event), "yellow"


def _unknown(event: TaskEvent) -> str:
    text = "of a kind that this version does not know"
    if event.format <= EVENTS.reads:
        return text
    return f"{text}, in format {event.format}; formats up to {EVENTS.reads} are known here"


def _started(event: TaskEvent) -> str:
    started = event.started
    text = f"attempt {started.attempt} by {event.writer}"
    return f"{text}, after event {started.resumed_after}" if started.attempt > 1 else text


def _resumed(resumed: TaskResumed) -> str:
    signal = resumed.signal
    by = f" by {signal.sender}" if signal.sender else ""
    match signal.WhichOneof("kind"):
        case "approval":
            return _remarked(f"approved{by}", signal.approval.comment)
        case "rejection":
            return _remarked(f"rejected{by}", signal.rejection.reason)
        case "input":
            given = signal.input
            words = given.text or _json(MessageToDict(given.data))
            return _remarked(f"answered{by}", words)
        case _ if resumed.children:
            states = Counter(
                state_name(child.state) if child.state else "refused" for child in resumed.children
            )
            counts = ", ".join(f"{count} {state}" for state, count in states.items())
            children = plural(len(resumed.children), "child task")
            if resumed.expired:
                return f"without waiting longer for {children}: {counts}"
            return f"after {children} ended: {counts}"
        case _ if resumed.expired:
            return "since nothing came in time"
        case _ if resumed.HasField("children_blob"):
            return "after its child tasks ended"
        case _:
            return "since its time has come"


def _remarked(text: str, remark: str) -> str:
    return f"{text}: {remark}" if remark else text


def _model(called: ModelCalled, event: TaskEvent) -> str:
    tier = tier_name(called.tier)
    who = f"{called.model} ({tier})" if tier else called.model
    figures = [seconds(called.duration.ToNanoseconds() / 1e9)]
    if called.cache:
        figures.append(f"{called.cache.lower()} cache")
    if event.usage.input_tokens or event.usage.output_tokens:
        figures.append(f"{event.usage.input_tokens:,} + {event.usage.output_tokens:,} tokens")
    if event.usage.cost_micros:
        figures.append(dollars(event.usage.cost_micros))
    return f"{who} {_said(called.message)} [{', '.join(figures)}]"


def _said(message: Message) -> str:
    if message.tool_calls:
        return "calls " + ", ".join(
            call_text(each.tool, each.arguments) for each in message.tool_calls
        )
    return "answers"


def _tool(called: ToolCalled) -> str:
    figures = [seconds(called.duration.ToNanoseconds() / 1e9)]
    if called.replayed:
        figures.append("from the record")
    return f"{called.result.tool} {_result(called.result)} [{', '.join(figures)}]"


def _result(result: ToolResult) -> str:
    if result.is_error:
        return f"failed: {result.text}"
    if result.citations:
        places: list[str] = []
        for each in result.citations:
            place = each.uri or each.title
            if place not in places:
                places.append(place)
        return f"found {plural(len(result.citations), 'passage')} in {', '.join(places)}"
    return f"→ {result.text}"


def _completed(event: TaskEvent) -> str:
    called = event.completed.model_called
    # The last step and the end of a task are one event.
    text = _model(called, event) if called.model else ""
    if event.completed.citations:
        text += f" with {plural(len(event.completed.citations), 'source')}"
    return text.strip()


def _json(value: Any) -> str:
    return json.dumps(_whole(value), ensure_ascii=False)


def _whole(value: Any) -> Any:
    """`value` with whole numbers as such: those of a Struct are all floats."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: _whole(each) for key, each in cast(dict[str, Any], value).items()}
        case list():
            return [_whole(each) for each in cast(list[Any], value)]
        case _:
            return value
