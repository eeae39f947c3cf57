"""A task event as a line."""

from typing import Any

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.common.v1.conversation_pb2 import BlobRef, Citation, ToolCall
from agentmesh.coordinator.v1.task_event_pb2 import (
    ChildResult,
    TaskEvent,
    TaskResumed,
    TaskSignal,
)
from agentmesh.coordinator.v1.task_pb2 import TaskInput, TaskState
from cli.event_line import event_line
from cli.run_view import line_text

pytest_plugins = ["cli.fixture_zone"]


def _event(after_milliseconds: int = 0) -> TaskEvent:
    event = TaskEvent(task="tenants/default/tasks/t1", writer="executor/e1")
    event.status.create_time.FromNanoseconds(1_000_000_000)
    event.time.FromNanoseconds(1_000_000_000 + after_milliseconds * 1_000_000)
    return event


def _later() -> TaskEvent:
    event = _event()
    event.format = 9
    return event


def _submitted() -> TaskEvent:
    event = _event()
    event.submitted.task.agent = "tenants/default/agents/assistant@1"
    event.submitted.task.lane = tier_pb2.LANE_INTERACTIVE
    return event


def _retaken() -> TaskEvent:
    event = _event(4000)
    event.started.attempt = 2
    event.started.resumed_after = 5
    return event


def _model() -> TaskEvent:
    event = _event(12)
    call = ToolCall(call_id="c1", tool="calculator")
    call.arguments.update({"expression": "2480 * 0.175"})
    event.model_called.model = "offline"
    event.model_called.tier = tier_pb2.MODEL_TIER_FAST
    event.model_called.duration.FromNanoseconds(1_200_000)
    event.model_called.message.tool_calls.append(call)
    event.usage.input_tokens = 1412
    event.usage.output_tokens = 33
    event.usage.cost_micros = 12
    return event


def _tool() -> TaskEvent:
    event = _event(13)
    event.tool_called.result.tool = "calculator"
    event.tool_called.result.text = "434\n\x1b[31m"
    event.tool_called.duration.FromNanoseconds(400_000)
    event.tool_called.replayed = True
    return event


def _search() -> TaskEvent:
    event = _event(13)
    event.tool_called.result.tool = "search_memory"
    for uri in ("docs/a.md", "docs/b.md", "docs/a.md"):
        event.tool_called.result.citations.append(Citation(uri=uri))
    return event


def _tool_failed() -> TaskEvent:
    event = _event(13)
    event.tool_called.result.tool = "calculator"
    event.tool_called.result.is_error = True
    event.tool_called.result.text = "division by zero"
    return event


def _waiting() -> TaskEvent:
    event = _event()
    event.waiting.wait.approval.call.tool = "pay"
    event.waiting.wait.approval.call.arguments.update({"amount": 5})
    event.waiting.wait.approval.why = "the tool requires approval"
    return event


def _resumed(**resumed: Any) -> TaskEvent:
    event = _event()
    event.resumed.CopyFrom(TaskResumed(**resumed))
    return event


def _signal(sender: str = "user:ada", **kind: Any) -> TaskSignal:
    return TaskSignal(sender=sender, **kind)


def _children(*states: TaskState) -> list[ChildResult]:
    return [ChildResult(state=state) for state in states]


def _until() -> TaskEvent:
    event = _event()
    event.waiting.wait.until.FromJsonString("2026-01-31T12:00:00Z")
    return event


def _delegated() -> TaskEvent:
    event = _event()
    event.waiting.wait.children.tasks.extend(["a", "b"])
    return event


def _asked() -> TaskEvent:
    event = _event()
    event.waiting.wait.input.question = "Which\ncolour?"
    return event


def _expired() -> TaskEvent:
    event = _event()
    event.expired.request_digest = "x"
    return event


def _completed() -> TaskEvent:
    event = _event(20)
    event.completed.model_called.model = "offline"
    event.completed.citations.append(Citation(uri="docs/a.md"))
    return event


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            _submitted(),
            "  0.000 s  submitted    tenants/default/tasks/t1 to assistant@1, interactive lane",
        ),
        (_retaken(), "  4.000 s  started      attempt 2 by executor/e1, after event 5"),
        (
            _model(),
            '  0.012 s  model        offline (fast) calls calculator(expression="2480 * 0.175")'
            " [1 ms, 1,412 + 33 tokens, $0.000012]",
        ),
        (_tool(), "  0.013 s  tool         calculator → 434 [31m [0.4 ms, from the record]"),
        (
            _search(),
            "  0.013 s  tool         search_memory found 3 passages in docs/a.md, docs/b.md [0 ms]",
        ),
        (_tool_failed(), "  0.013 s  tool         calculator failed: division by zero [0 ms]"),
        (
            _waiting(),
            "  0.000 s  waiting      for approval of pay(amount=5) (the tool requires approval)",
        ),
        (_asked(), "  0.000 s  waiting      for an answer: Which colour?"),
        (_until(), "  0.000 s  waiting      until 2026-01-31 13:00:00 +01:00"),
        (_delegated(), "  0.000 s  waiting      for 2 child tasks"),
        (
            _resumed(signal=_signal(approval=TaskSignal.Approval(comment="once"))),
            "  0.000 s  resumed      approved by user:ada: once",
        ),
        (
            _resumed(signal=_signal("", approval=TaskSignal.Approval())),
            "  0.000 s  resumed      approved",
        ),
        (
            _resumed(signal=_signal(rejection=TaskSignal.Rejection(reason="too much"))),
            "  0.000 s  resumed      rejected by user:ada: too much",
        ),
        (
            _resumed(signal=_signal(input=TaskInput(text="blue"))),
            "  0.000 s  resumed      answered by user:ada: blue",
        ),
        (
            _resumed(signal=_signal(input={"data": {"n": 1}})),
            '  0.000 s  resumed      answered by user:ada: {"n": 1}',
        ),
        (
            _resumed(
                children=_children(
                    TaskState.TASK_STATE_SUCCEEDED,
                    TaskState.TASK_STATE_FAILED,
                    TaskState.TASK_STATE_SUCCEEDED,
                    TaskState.TASK_STATE_UNSPECIFIED,
                )
            ),
            "  0.000 s  resumed      after 4 child tasks ended: 2 SUCCEEDED, 1 FAILED, 1 refused",
        ),
        (
            _resumed(expired=True, children=_children(TaskState.TASK_STATE_RUNNING)),
            "  0.000 s  resumed      without waiting longer for 1 child task: 1 RUNNING",
        ),
        (
            _resumed(children_blob=BlobRef(digest="d")),
            "  0.000 s  resumed      after its child tasks ended",
        ),
        (_resumed(expired=True), "  0.000 s  resumed      since nothing came in time"),
        (_resumed(), "  0.000 s  resumed      since its time has come"),
        (
            _expired(),
            "  0.000 s  expired      retention removed its content; state and usage remain",
        ),
        (_completed(), "  0.020 s  completed    offline answers [0 ms] with 1 source"),
        (_event(), "  0.000 s  event        of a kind that this version does not know"),
        (
            _later(),
            "  0.000 s  event        of a kind that this version does not know, in format 9;"
            " formats up to 1 are known here",
        ),
    ],
)
@pytest.mark.usefixtures("berlin")
def test_every_kind_of_event_has_a_line(event: TaskEvent, line: str) -> None:
    """An event is one line that says when it happened and what it was."""
    assert line_text(event_line(event), 200) == line


def test_every_kind_in_the_contract_is_described() -> None:
    """No kind of event falls through to the words for unknown ones."""
    for field in TaskEvent.DESCRIPTOR.oneofs_by_name["kind"].fields:
        event = _event()
        getattr(event, field.name).SetInParent()
        assert event_line(event).label != "event", field.name


def test_a_long_line_is_cut() -> None:
    """What does not fit the width is cut at its end."""
    event = _tool()
    event.tool_called.result.text = "x" * 500
    line = line_text(event_line(event), 80)
    assert len(line) == 80
    assert line.endswith("…")
