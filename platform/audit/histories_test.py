"""Logs as writers write them hold; a log in which one thing was changed does not."""

from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from audit.entry import Entry
from audit.finding import Finding
from audit.histories import Histories
from audit.random_log import logs, stored, token_of
from tasklog import lifecycle

# The machine may be busy with other things: no example has a time limit.
_EXAMPLES = settings(max_examples=50, deadline=None)


def _findings(entries: list[Entry]) -> list[Finding]:
    histories = Histories()
    return [found for entry in entries for found in histories.see(entry)]


@_EXAMPLES
@given(logs())
def test_a_log_as_its_writers_write_it_holds(events: list[TaskEvent]) -> None:
    """Whatever may follow each other by the table of states, nothing is found."""
    assert _findings(stored(events)) == []


@_EXAMPLES
@given(logs())
def test_what_retention_left_of_a_task_holds(events: list[TaskEvent]) -> None:
    """The one event that remains has the task's last number, and nothing stands before it."""
    assume(events[-1].HasField("expired"))
    assert _findings(stored(events)[-1:]) == []


# One change to one event. Each makes it say something else than its writer said.
def _bump_sequence(event: TaskEvent) -> None:
    event.sequence += 1


def _bump_attempt(event: TaskEvent) -> None:
    event.status.attempt += 1


def _bump_steps(event: TaskEvent) -> None:
    event.status.steps += 1


def _spend(event: TaskEvent) -> None:
    event.usage.cost_micros += 1


def _sum(event: TaskEvent) -> None:
    event.status.usage.input_tokens += 1


def _state(event: TaskEvent) -> None:
    waits = event.status.state == task_pb2.TASK_STATE_WAITING
    event.status.state = task_pb2.TASK_STATE_QUEUED if waits else task_pb2.TASK_STATE_WAITING


def _cancelled(event: TaskEvent) -> None:
    event.status.cancel_requested = not event.status.cancel_requested


def _priority(event: TaskEvent) -> None:
    event.status.priority = (event.status.priority + 1) % 10


def _task(event: TaskEvent) -> None:
    event.task = event.task.replace("t1", "t2")


def _tenant(event: TaskEvent) -> None:
    event.task = event.task.replace("acme", "other")


def _parent(event: TaskEvent) -> None:
    event.status.parent_task = "tenants/acme/tasks/p1"


_CHANGES: list[Callable[[TaskEvent], None]] = [
    _bump_sequence,
    _bump_attempt,
    _bump_steps,
    _spend,
    _sum,
    _state,
    _cancelled,
    _priority,
    _task,
    _tenant,
    _parent,
]


@pytest.mark.parametrize("change", _CHANGES)
@_EXAMPLES
@given(log=logs(), data=st.data())
def test_a_change_to_any_event_is_found(
    change: Callable[[TaskEvent], None], log: list[TaskEvent], data: st.DataObject
) -> None:
    """Each event follows from the one before it in every part."""
    # What retention leaves may have any number: the events before it are being removed.
    changeable = [event for event in log if not event.HasField("expired")]
    tokens = [token_of(event) for event in log]
    change(data.draw(st.sampled_from(changeable)))
    assert _findings(stored(log, tokens)) != []


@_EXAMPLES
@given(log=logs(least=2), data=st.data())
def test_an_event_that_is_missing_is_found(log: list[TaskEvent], data: st.DataObject) -> None:
    """Unless it is the last one: then the log is that of a task that has not come so far."""
    if log[-1].HasField("expired"):
        # It stands alone, whatever went before it.
        log.pop()
    del log[data.draw(st.integers(0, len(log) - 2))]
    assert [found.invariant for found in _findings(stored(log))][:1] == ["replay"]


@_EXAMPLES
@given(log=logs(), data=st.data())
def test_an_event_that_stands_twice_is_a_fork(log: list[TaskEvent], data: st.DataObject) -> None:
    """Wherever the second one stands."""
    again = data.draw(st.integers(0, len(log) - 1))
    log.insert(data.draw(st.integers(again + 1, len(log))), log[again])
    assert [found.invariant for found in _findings(stored(log))] == ["fork"]


@_EXAMPLES
@given(log=logs(least=2), data=st.data())
def test_two_events_that_changed_places_are_found(
    log: list[TaskEvent], data: st.DataObject
) -> None:
    """The numbers no longer count."""
    first = data.draw(st.integers(0, len(log) - 2))
    log[first], log[first + 1] = log[first + 1], log[first]
    assert _findings(stored(log)) != []


@_EXAMPLES
@given(log=logs(least=12), data=st.data())
def test_a_step_by_another_executor_is_found(log: list[TaskEvent], data: st.DataObject) -> None:
    """As when one that lost its task still writes."""
    steps = [event for event in log if event.WhichOneof("kind") in lifecycle.STEP_KINDS]
    assume(steps)
    data.draw(st.sampled_from(steps)).writer = "executor/stale"
    assert [found.invariant for found in _findings(stored(log))] == ["fencing"]


@_EXAMPLES
@given(log=logs(least=2), data=st.data())
def test_an_event_after_the_end_is_found(log: list[TaskEvent], data: st.DataObject) -> None:
    """However the task ended, and whatever follows but what is done with ended tasks."""
    last = log[-1]
    assume(last.status.state in lifecycle.TERMINAL)
    after = TaskEvent()
    after.CopyFrom(last)
    after.ClearField(last.WhichOneof("kind") or "")
    getattr(after, data.draw(st.sampled_from(["completed", "failed", "cancelled"]))).SetInParent()
    after.sequence += 1
    assert [found.invariant for found in _findings(stored([*log, after]))] == ["end"]
