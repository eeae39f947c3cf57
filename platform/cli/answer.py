"""The end of a task, as the user reads it: the answer, its sources, what it cost."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from agentmesh.common.v1.conversation_pb2 import Citation
from agentmesh.coordinator.v1.task_event_pb2 import ModelCalled, TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task
from cli.event_line import call_text
from cli.plain import to_plain
from cli.problem import Report
from cli.task_state import good, state_name
from cli.terminal import Terminal
from cli.wording import dollars, seconds, shorten

OFFLINE: Final = "offline"
OFFLINE_NOTICE: Final = (
    "The offline model is no language model:"
    " it plans by rules and quotes what tools and documents say."
)
_INDENT: Final = " " * 6
# Characters of a snippet where there is no terminal to fit.
_SNIPPET: Final = 160


@dataclass(frozen=True, slots=True)
class Timing:
    """How long what took, in seconds."""

    # Until the mesh was ready; 0 where it ran already.
    mesh_ready: float
    # Storing the documents; 0 where none were given.
    documents: float
    # From the call to the last message, by this process's clock.
    run: float
    # From the start of the command to its answer.
    total: float


def submitted_to_done_seconds(events: Sequence[TaskEvent]) -> float | None:
    """From the first event to the last, by the clocks of their writers; None without events."""
    if not events:
        return None
    return (events[-1].time.ToNanoseconds() - events[0].time.ToNanoseconds()) / 1e9


def models(events: Sequence[TaskEvent]) -> list[str]:
    """The models that answered, in the order of their first call."""
    calls = [call for event in events if (call := _model_call(event)) is not None]
    return list(dict.fromkeys(call.model for call in calls if call.model))


def place(citation: Citation) -> str:
    """Where a passage stands: `docs/a.md:12-20`, `a.pdf page 3`."""
    where = citation.uri or citation.title or citation.document
    if citation.start_line:
        last = f"-{citation.end_line}" if citation.end_line > citation.start_line else ""
        return f"{where}:{citation.start_line}{last}"
    return f"{where} page {citation.page}" if citation.page else where


def document(task: Task, events: Sequence[TaskEvent], timing: Timing) -> dict[str, Any]:
    """The answer as JSON."""
    done = submitted_to_done_seconds(events)
    used = models(events)
    plain = to_plain(task)
    return {
        "task": plain,
        "answer": task.output.text,
        "citations": [
            {**each, "place": place(citation)}
            for each, citation in zip(plain["citations"], task.citations, strict=True)
        ],
        "events": [to_plain(event) for event in events],
        "usage": plain.get("usage", {}),
        "cost_micros": task.usage.cost_micros,
        "timing": {
            "submitted_to_done_ms": None if done is None else _milliseconds(done),
            "run_ms": _milliseconds(timing.run),
            "documents_ms": _milliseconds(timing.documents),
            "mesh_ready_ms": _milliseconds(timing.mesh_ready),
            "total_ms": _milliseconds(timing.total),
        },
        "model": ", ".join(used),
        "model_is_language_model": bool(used) and OFFLINE not in used,
    }


def show(terminal: Terminal, task: Task, events: Sequence[TaskEvent], timing: Timing) -> None:
    """Prints the answer, its sources, tools and notes, and the line of figures."""
    if good(task):
        terminal.say()
        terminal.markdown(task.output.text or "(The answer is empty.)")
    if task.citations:
        terminal.say()
        terminal.say("Sources", style="bold")
        for number, citation in enumerate(task.citations, start=1):
            terminal.say(f"  [{number}] {place(citation)}")
            if citation.snippet:
                room = terminal.width - len(_INDENT) if terminal.fancy else _SNIPPET
                terminal.say(_INDENT + shorten(citation.snippet, room), style="dim")
    calls = _tool_calls(events)
    if calls:
        terminal.say()
        terminal.say("Tools", style="bold")
        for text, count in calls.items():
            terminal.say(f"  {text}" + (f" ({count} times)" if count > 1 else ""))
    if task.notes:
        terminal.say()
        terminal.say("Notes", style="bold yellow")
        for note in task.notes:
            terminal.say(f"  {note.text}" + (f" ({note.code})" if note.code else ""))
    terminal.say()
    if OFFLINE in models(events):
        terminal.say(OFFLINE_NOTICE, style="dim")
    terminal.say(figures(task, events, timing), style="dim")


def figures(task: Task, events: Sequence[TaskEvent], timing: Timing) -> str:
    """The last line: tokens, cost, time, model."""
    usage = task.usage
    done = submitted_to_done_seconds(events)
    times = f"{seconds(done)} from submitted to done, " if done is not None else ""
    parts = [
        f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out",
        dollars(usage.cost_micros),
        f"{times}{seconds(timing.run)} here, {seconds(timing.total)} in all",
    ]
    return " · ".join([*parts, *models(events)])


def failure(task: Task) -> Report:
    """Why a task ended without a result."""
    from cli.explain import explain
    from meshkit.errors import from_status

    if task.HasField("error"):
        report = explain(from_status(task.error))
        return Report(
            message=f"The task ended in {state_name(task.state)}: {report.message}",
            remedy=f"See `agentmesh task events {task.name}`.",
            code=report.code,
            reason=report.reason,
            violations=report.violations,
            retry_after_seconds=report.retry_after_seconds,
            metadata=report.metadata,
        )
    return Report(
        f"The task ended in {state_name(task.state)}.", f"See `agentmesh task events {task.name}`."
    )


def _tool_calls(events: Sequence[TaskEvent]) -> Counter[str]:
    calls = [call for event in events if (call := _model_call(event)) is not None]
    asked = {each.call_id: each for call in calls for each in call.message.tool_calls}
    counted: Counter[str] = Counter()
    for event in events:
        if event.WhichOneof("kind") != "tool_called":
            continue
        result = event.tool_called.result
        call = asked.get(result.call_id)
        text = call_text(call.tool, call.arguments) if call else result.tool
        counted[text + (" failed" if result.is_error else "")] += 1
    return counted


def _model_call(event: TaskEvent) -> ModelCalled | None:
    match event.WhichOneof("kind"):
        case "model_called":
            return event.model_called
        case "completed" if event.completed.HasField("model_called"):
            return event.completed.model_called
        case _:
            return None


def _milliseconds(value: float) -> float:
    return round(value * 1000, 3)
