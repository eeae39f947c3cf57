"""What the read model keeps of a task is what its log says, in whatever order events come."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from google.protobuf import any_pb2
from google.rpc import error_details_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskStatus
from services.coordinator import task_terms
from services.coordinator.task_row import Recorded, TaskRow, take
from tasklog import fold, lifecycle

_NOW = datetime(2026, 1, 2, tzinfo=UTC)
_TASK = "tenants/acme/tasks/t1"
_AGENT = "tenants/acme/agents/a@1"


def _next(status: TaskStatus, kind: str, sequence: int, reason: str) -> TaskEvent:
    event = lifecycle.new_event(_TASK, "test")
    getattr(event, kind).SetInParent()
    match kind:
        case "submitted":
            task = event.submitted.task
            task.name, task.session, task.agent = _TASK, "s1", _AGENT
            task.lane = status.lane
            task.create_time.CopyFrom(status.create_time)
            task.input.text = "x" * 500
        case "dead_lettered":
            if reason:
                detail = any_pb2.Any()
                detail.Pack(error_details_pb2.ErrorInfo(reason=reason))
                event.dead_lettered.error.details.append(detail)
        case "expired":
            event.expired.agent = _AGENT
        case _:
            pass
    state = task_pb2.TASK_STATE_PARTIAL if kind == "completed" else None
    return lifecycle.advance(
        status, event, sequence=sequence, time=_NOW + timedelta(seconds=sequence), state=state
    )


@st.composite
def _logs(draw: st.DrawFn) -> list[Recorded]:
    """A log that the state machine allows."""
    status = TaskStatus(lane=tier_pb2.LANE_BATCH, parent_task=draw(st.sampled_from(_PARENTS)))
    status.create_time.FromDatetime(_NOW)
    log: list[Recorded] = []
    stream_sequence = 0
    for sequence in range(1, draw(st.integers(1, 14)) + 1):
        kinds = [
            kind
            for kind, transition in lifecycle.TRANSITIONS.items()
            if status.state in transition.before
            and not (status.discarded and kind in ("redriven", "discarded"))
        ]
        kind = draw(st.sampled_from(kinds))
        reason = draw(st.sampled_from(["", "STEP_TIMEOUT", "CORRUPT_DATA"]))
        event = _next(status, kind, sequence, reason)
        status = event.status
        stream_sequence += draw(st.integers(1, 9))
        log.append(Recorded(event, stream_sequence, draw(st.integers(1, 10_000))))
        if kind == "expired":
            break
    return log


_PARENTS = ["", "tenants/acme/tasks/p1"]


def _row(entries: Sequence[Recorded]) -> TaskRow:
    row: TaskRow | None = None
    for entry in entries:
        row = take(row, [entry])
    assert row is not None
    return row


@given(log=_logs(), data=st.data())
@settings(max_examples=50)
def test_order_and_repeats_change_nothing(log: list[Recorded], data: st.DataObject) -> None:
    """Every event at least once, in any order, some again: the row is that of the log."""
    repeats = data.draw(st.lists(st.sampled_from(log), max_size=10))
    shuffled = data.draw(st.permutations([*log, *repeats]))
    assert _row(shuffled) == _row(log)
    cut = data.draw(st.integers(1, len(shuffled)))
    some = take(None, shuffled[:cut])
    assert (take(some, shuffled[cut:]) if cut < len(shuffled) else some) == _row(log)


@given(log=_logs())
@settings(max_examples=50)
def test_a_row_says_what_the_log_says(log: list[Recorded]) -> None:
    """State, end, reason and size are those of the folded log."""
    row = _row(log)
    first, last = log[0].event, log[-1].event
    expired = last.HasField("expired")
    task = fold.task_of(last if expired else first, last)
    assert (row.state, row.lane) == (task.state, task.lane)
    terms = {"", f"l{task.lane}", "aa", "aa@1", f"t{task.state}"}
    assert task_terms.of_row(row) == (terms if expired else terms | {"ss1"})
    assert row.parent_id == last.status.parent_task.rpartition("/")[2]
    assert row.created_micros == task.create_time.ToMicroseconds()
    assert row.ended_micros == task.end_time.ToMicroseconds()
    assert (row.ended_micros > 0) == (task.state in lifecycle.TERMINAL)
    assert row.discarded == last.status.discarded
    assert (row.reason != "") == last.HasField("dead_lettered")
    assert row.expired == expired
    assert row.size_bytes == (
        log[-1].size_bytes if expired else sum(entry.size_bytes for entry in log)
    )
    assert (row.sequence, row.stream_sequence) == (len(log), log[-1].stream_sequence)
    listed = fold.task_of(
        TaskEvent.FromString(row.first_event), TaskEvent.FromString(row.last_event)
    )
    assert listed.state == task.state
    assert len(listed.input.text) == (0 if expired else 200)


@given(log=_logs())
@settings(max_examples=50)
def test_what_retention_leaves_gives_the_same_row(log: list[Recorded]) -> None:
    """A copy that is built after the content is gone differs only in that it never saw any."""
    if not log[-1].event.HasField("expired"):
        event = lifecycle.new_event(_TASK, "test")
        event.expired.agent = _AGENT
        status = log[-1].event.status
        if status.state not in lifecycle.TERMINAL:
            return
        lifecycle.advance(status, event, sequence=len(log) + 1, time=_NOW)
        log = [*log, Recorded(event, log[-1].stream_sequence + 1, 100)]
    assert _row(log[-1:]) == replace(_row(log), content=len(log) == 1)
