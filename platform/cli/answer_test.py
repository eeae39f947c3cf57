"""The end of a task, as the user reads it."""

import io

import pytest

from agentmesh.common.v1.conversation_pb2 import Citation, ToolCall
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task, TaskNote, TaskState
from cli import answer
from cli.answer import Timing
from cli.terminal import Terminal
from meshkit import errors

_TIMING = Timing(mesh_ready=1.5, documents=0.5, run=0.02, total=2.25)


def _event(milliseconds: int) -> TaskEvent:
    event = TaskEvent(task="tenants/default/tasks/t1")
    event.time.FromNanoseconds((1_000_000 + milliseconds) * 1_000_000)
    return event


def _events() -> list[TaskEvent]:
    submitted, model, tool, completed = (_event(n) for n in (0, 5, 6, 12))
    submitted.submitted.SetInParent()
    call = ToolCall(call_id="c1", tool="calculator")
    call.arguments.update({"expression": "2480 * 0.175"})
    model.model_called.model = "offline"
    model.model_called.message.tool_calls.append(call)
    tool.tool_called.result.call_id = "c1"
    tool.tool_called.result.tool = "calculator"
    completed.completed.model_called.model = "offline"
    return [submitted, model, tool, completed]


def _task() -> Task:
    task = Task(name="tenants/default/tasks/t1", state=TaskState.TASK_STATE_SUCCEEDED)
    task.output.text = "17.5% of 2,480 is 434. See **rate limits** [1]."
    task.citations.append(
        Citation(
            uri="docs/runbooks/rate-limits.md",
            title="Rate limits",
            start_line=3,
            end_line=9,
            snippet="Our\nlimits.",
        )
    )
    task.notes.append(TaskNote(code="TOOL_SKIPPED", text="The clock could not be used."))
    task.usage.input_tokens = 1412
    task.usage.output_tokens = 33
    return task


def test_the_printed_answer() -> None:
    """The answer comes with its sources, tools, notes and figures."""
    out = io.StringIO()
    answer.show(Terminal(as_json=False, out=out), _task(), _events(), _TIMING)
    assert (
        out.getvalue()
        == """
17.5% of 2,480 is 434. See **rate limits** [1].

Sources
  [1] docs/runbooks/rate-limits.md:3-9
      Our limits.

Tools
  calculator(expression="2480 * 0.175")

Notes
  The clock could not be used. (TOOL_SKIPPED)

The offline model is no language model: it plans by rules and quotes what tools and documents say.
1,412 tokens in, 33 out · $0.00 · 12 ms from submitted to done, 20 ms here, 2.2 s in all · offline
"""
    )


def test_the_answer_as_json() -> None:
    """The document has all of it, with times in milliseconds."""
    document = answer.document(_task(), _events(), _TIMING)
    assert document["answer"] == "17.5% of 2,480 is 434. See **rate limits** [1]."
    assert document["citations"][0]["place"] == "docs/runbooks/rate-limits.md:3-9"
    assert document["timing"] == {
        "submitted_to_done_ms": 12.0,
        "run_ms": 20.0,
        "documents_ms": 500.0,
        "mesh_ready_ms": 1500.0,
        "total_ms": 2250.0,
    }
    assert (document["cost_micros"], document["model"]) == (0, "offline")
    assert document["model_is_language_model"] is False
    assert document["usage"]["input_tokens"] == 1412
    assert [each["sequence"] for each in document["events"]] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("citation", "text"),
    [
        (Citation(uri="a.md", start_line=3, end_line=9), "a.md:3-9"),
        (Citation(uri="a.md", start_line=3, end_line=3), "a.md:3"),
        (Citation(uri="a.pdf", page=2), "a.pdf page 2"),
        (Citation(title="Notes"), "Notes"),
    ],
)
def test_place(citation: Citation, text: str) -> None:
    """A source is named so that it can be opened at the right place."""
    assert answer.place(citation) == text


def test_a_failed_task_says_why() -> None:
    """The report of a failed task has its reason, and where to look."""
    task = Task(name="tenants/default/tasks/t1", state=TaskState.TASK_STATE_FAILED)
    task.error.CopyFrom(errors.to_status(errors.StepLimit("The task made 16 steps.")))
    report = answer.failure(task)
    assert report.line() == (
        "The task ended in FAILED: The task made 16 steps. (STEP_LIMIT)"
        " See `agentmesh task events tenants/default/tasks/t1`."
    )
    assert report.document()["error"]["code"] == "RESOURCE_EXHAUSTED"


def test_a_cancelled_task_has_no_error() -> None:
    """A task may end without a result and without an error."""
    task = Task(name="tenants/default/tasks/t1", state=TaskState.TASK_STATE_CANCELLED)
    assert answer.failure(task).message == "The task ended in CANCELLED."
