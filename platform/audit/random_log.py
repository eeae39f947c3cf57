"""Logs of one task as its writers could have written them; only for tests."""

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from agentmesh.common.v1 import tier_pb2, usage_pb2
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec, TaskEvent, TaskStatus
from agentmesh.coordinator.v1.task_pb2 import Task, TaskNote
from audit.entry import Entry
from audit.finding import TaskKey
from tasklog import lifecycle, subjects

TASK = TaskKey("acme", "t1")
_NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_USAGES = st.builds(
    usage_pb2.Usage,
    input_tokens=st.integers(1, 1000),
    output_tokens=st.integers(1, 1000),
    cost_micros=st.integers(1, 1000),
    model_calls=st.just(1),
)
_COORDINATOR = "coordinator/c1"
_BY_COORDINATOR = frozenset({"submitted", "cancel_requested", "resumed", "redriven"})
_MOST_EVENTS = 25


def _fill(event: TaskEvent, status: TaskStatus, sequence: int, draw: st.DrawFn) -> None:
    """Says in `event` what its writer would."""
    match event.WhichOneof("kind"):
        case "submitted":
            name = subjects.task_name(*TASK)
            event.submitted.task.CopyFrom(
                Task(name=name, tenant=TASK.tenant, lane=status.lane, priority=status.priority)
            )
            event.submitted.agent.CopyFrom(AgentSpec(name="tenants/acme/agents/a@1"))
        case "started":
            event.started.attempt = status.attempt + 1
            event.started.resumed_after = sequence - 1
        case "model_called":
            event.model_called.step = status.steps + 1
        case "tool_intended":
            event.tool_intended.step = status.steps + 1
        case "tool_called":
            event.tool_called.step = status.steps + 1
            event.tool_called.idempotency_key = f"{TASK.task_id}/{status.steps}/c1"
        case "completed" if draw(st.booleans()):
            event.completed.model_called.step = status.steps + 1
        case "waiting":
            event.waiting.wait.input.question = "Which one?"
        case _:
            pass


@st.composite
def logs(draw: st.DrawFn, *, least: int = 1) -> list[TaskEvent]:
    """Any log that begins with a submission and goes on as the table of states allows.

    It has `least` events or more, of which only the last ones may be about an end.
    """
    status = TaskStatus(lane=tier_pb2.LANE_STANDARD, priority=draw(st.integers(0, 9)))
    status.create_time.FromDatetime(_NOW)
    status.deadline.FromDatetime(_NOW + timedelta(seconds=120))
    status.time_limit.FromSeconds(120)
    events: list[TaskEvent] = []
    starter, time = "", _NOW
    for sequence in range(1, draw(st.integers(least, _MOST_EVENTS)) + 1):
        kinds = [
            kind
            for kind, transition in lifecycle.TRANSITIONS.items()
            if status.state in transition.before
            and not (status.discarded and kind in ("redriven", "discarded"))
            and not (sequence < least and transition.after & lifecycle.TERMINAL)
        ]
        if not kinds or (events and events[-1].HasField("expired")):
            break
        kind = draw(st.sampled_from(kinds))
        if kind == "started":
            starter = f"executor/{draw(st.integers(1, 3))}"
        event = lifecycle.new_event(
            subjects.task_name(*TASK), _COORDINATOR if kind in _BY_COORDINATOR else starter
        )
        getattr(event, kind).SetInParent()
        _fill(event, status, sequence, draw)
        time += timedelta(milliseconds=draw(st.integers(0, 5000)))
        ends = [task_pb2.TASK_STATE_SUCCEEDED, task_pb2.TASK_STATE_PARTIAL]
        lifecycle.advance(
            status,
            event,
            sequence=sequence,
            time=_NOW if sequence == 1 else time,
            state=draw(st.sampled_from(ends)) if kind == "completed" else None,
            usage=draw(_USAGES) if kind in ("model_called", "tool_called") else None,
            notes=[TaskNote(code="DEGRADED", text="Slower.")] if kind == "degraded" else (),
        )
        events.append(event)
        status = TaskStatus()
        status.CopyFrom(event.status)
        # The first event does not know where it will be stored.
        status.submitted_stream_sequence = 1
    return events


def stored(events: list[TaskEvent], tokens: list[str] | None = None) -> list[Entry]:
    """The events, as they stand in a stream that holds nothing else.

    `tokens`: the last tokens of their subjects, where these are not what the events demand.
    """
    return [
        Entry(
            stream_sequence=index,
            task=TASK,
            token=tokens[index - 1] if tokens else token_of(event),
            kind=event.WhichOneof("kind") or "",
            size_bytes=event.ByteSize(),
            event=event,
        )
        for index, event in enumerate(events, start=1)
    ]


def token_of(event: TaskEvent) -> str:
    """Where the event stands: the last token of its subject."""
    return subjects.token_of(event)
