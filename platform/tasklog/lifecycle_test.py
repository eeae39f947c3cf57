"""What a task's log may say, and what it may not."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.common.v1 import tier_pb2, usage_pb2
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskStatus
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit.errors import CorruptData, TaskStateError
from tasklog import fold, lifecycle

_NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_NAME = "tenants/acme/tasks/t1"
# Kinds that may lead to more than one state are given one.
_STATES = {"completed": task_pb2.TASK_STATE_SUCCEEDED}


def _event(kind: str) -> TaskEvent:
    event = lifecycle.new_event(_NAME, "executor/e1")
    getattr(event, kind).SetInParent()
    if kind == "submitted":
        event.submitted.task.CopyFrom(Task(name=_NAME, tenant="acme"))
    return event


def _log(kinds: list[str]) -> list[TaskEvent]:
    events: list[TaskEvent] = []
    status = TaskStatus(lane=tier_pb2.LANE_STANDARD)
    for index, kind in enumerate(kinds):
        event = lifecycle.advance(
            status,
            _event(kind),
            sequence=index + 1,
            time=_NOW + timedelta(seconds=index),
            state=_STATES.get(kind),
        )
        events.append(event)
        status = event.status
    return events


def test_every_kind_of_event_has_its_place_in_the_table() -> None:
    """The table names exactly the kinds that the contract has."""
    kinds = {field.name for field in TaskEvent.DESCRIPTOR.oneofs_by_name["kind"].fields}
    assert set(lifecycle.TRANSITIONS) == kinds


@given(st.lists(st.sampled_from(sorted(lifecycle.TRANSITIONS)), max_size=40))
def test_any_order_of_events_is_either_refused_or_leaves_a_sound_log(kinds: list[str]) -> None:
    """Refused events change nothing; the rest replays to the same state, with one end."""
    events: list[TaskEvent] = []
    status = TaskStatus(lane=tier_pb2.LANE_STANDARD)
    for kind in kinds:
        before = status.SerializeToString(deterministic=True)
        try:
            event = lifecycle.advance(
                status,
                _event(kind),
                sequence=len(events) + 1,
                time=_NOW,
                state=_STATES.get(kind),
                usage=usage_pb2.Usage(cost_micros=3),
            )
        except TaskStateError:
            assert status.SerializeToString(deterministic=True) == before
            continue
        events.append(event)
        status = event.status
    if not events:
        return
    assert events[0].WhichOneof("kind") == "submitted"
    assert fold.replay(events).status == status
    assert status.usage.cost_micros == 3 * len(events)
    assert status.HasField("end_time") == (status.state in lifecycle.TERMINAL)
    if status.state in lifecycle.TERMINAL - {task_pb2.TASK_STATE_DEAD_LETTERED}:
        # Retention may remove what has ended, and says so; it stays ended.
        for kind in lifecycle.TRANSITIONS.keys() - {"expired"}:
            with pytest.raises(TaskStateError):
                lifecycle.advance(
                    status,
                    _event(kind),
                    sequence=len(events) + 1,
                    time=_NOW,
                    state=_STATES.get(kind),
                )


def test_a_refusal_names_the_state_and_the_event() -> None:
    """The error says what the task is and what was tried."""
    ended = _log(["submitted", "started", "completed"])[-1].status
    with pytest.raises(TaskStateError) as caught:
        lifecycle.advance(ended, _event("started"), sequence=4, time=_NOW)
    assert str(caught.value) == (
        "A task that is SUCCEEDED cannot become RUNNING by the event 'started'."
    )
    assert caught.value.metadata == {"state": "SUCCEEDED"}


def test_start_and_end_times_are_those_of_the_first_start_and_the_end() -> None:
    """A second attempt does not move the start."""
    last = _log(["submitted", "started", "retried", "started", "completed"])[-1]
    task = fold.task_of(_log(["submitted"])[0], last)
    assert task.start_time.ToDatetime(tzinfo=UTC) == _NOW + timedelta(seconds=1)
    assert task.end_time.ToDatetime(tzinfo=UTC) == _NOW + timedelta(seconds=4)
    assert task.attempt == 2


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(9000, 1, 1)),
    st.sampled_from([None, UTC, timezone(timedelta(hours=-9, minutes=30))]),
)
def test_an_event_has_the_time_that_it_is_given(local: datetime, zone: timezone | None) -> None:
    """To the microsecond, in any zone; without one it is UTC."""
    event = lifecycle.advance(
        TaskStatus(), _event("submitted"), sequence=1, time=local.replace(tzinfo=zone)
    )
    assert event.time.ToDatetime(tzinfo=UTC) == local.replace(tzinfo=zone or UTC)


def test_steps_count_models_and_tools_alone() -> None:
    """Two model calls and a tool call are three steps; the last one ends the task too."""
    events = _log(["submitted", "started", "model_called", "tool_called"])
    event = _event("completed")
    event.completed.model_called.step = 3
    last = lifecycle.advance(
        events[-1].status, event, sequence=5, time=_NOW, state=task_pb2.TASK_STATE_PARTIAL
    )
    assert last.status.steps == 3
    assert last.status.state == task_pb2.TASK_STATE_PARTIAL


def test_a_redriven_task_begins_its_attempts_again() -> None:
    """A dead letter that is put back has no end any more and all its attempts."""
    events = _log(["submitted", "started", "dead_lettered", "redriven"])
    assert events[-1].status.attempt == 0
    assert not events[-1].status.HasField("end_time")
    assert events[-1].status.state == task_pb2.TASK_STATE_QUEUED


def test_time_spent_waiting_does_not_count_against_the_limit() -> None:
    """A task that waited a second has its deadline moved by a second."""
    events = _log(["submitted", "started", "waiting"])
    status = events[-1].status
    status.deadline.FromDatetime(_NOW + timedelta(seconds=30))
    resumed = lifecycle.advance(
        status, _event("resumed"), sequence=4, time=_NOW + timedelta(hours=2, seconds=2)
    ).status
    assert resumed.deadline.ToDatetime(tzinfo=UTC) == _NOW + timedelta(hours=2, seconds=30)
    assert not resumed.HasField("wait_start_time")


def test_a_redriven_task_has_its_whole_time_again() -> None:
    """The deadline of a redriven task counts from the redrive."""
    status = _log(["submitted", "started", "dead_lettered"])[-1].status
    status.time_limit.FromTimedelta(timedelta(seconds=120))
    at = _NOW + timedelta(days=3)
    redriven = lifecycle.advance(status, _event("redriven"), sequence=4, time=at).status
    assert redriven.deadline.ToDatetime(tzinfo=UTC) == at + timedelta(seconds=120)


@pytest.mark.parametrize("kind", ["redriven", "discarded"])
def test_a_discarded_dead_letter_is_done_with(kind: str) -> None:
    """Nobody redrives it, and nobody discards it again."""
    status = _log(["submitted", "started", "dead_lettered", "discarded"])[-1].status
    with pytest.raises(TaskStateError) as caught:
        lifecycle.advance(status, _event(kind), sequence=5, time=_NOW)
    assert str(caught.value) == f"A dead letter that was discarded cannot be {kind}."


def test_what_retention_leaves_is_a_log_of_its_own() -> None:
    """The one event that remains says how the task ended, and replays."""
    expired = _log(["submitted", "started", "completed", "expired"])[-1]
    assert fold.replay([expired]) == expired
    task = fold.task_of(expired, expired)
    assert (task.name, task.tenant) == (_NAME, "acme")
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (0, "The log of tenants/acme/tasks/t1 has event 2 where 1 belongs."),
        (1, "The log of tenants/acme/tasks/t1 has event 3 where 2 belongs."),
    ],
)
def test_a_log_with_a_gap_is_not_replayed(missing: int, message: str) -> None:
    """An event that is missing is found, and named."""
    events = _log(["submitted", "started", "model_called", "completed"])
    del events[missing]
    with pytest.raises(CorruptData) as caught:
        fold.replay(events)
    assert str(caught.value) == message
