"""Which records of calls may have no event in the log, and which may not."""

import pytest

from audit import effects
from audit.effects import CallRecord, Unrecorded
from audit.entry import Entry
from audit.finding import Finding, TaskKey
from audit.written_log import written

_RECORD = CallRecord(TaskKey("acme", "t1"), "t1/1/c1", 1, "c1")
_BEGUN = ("submitted", "started", "model_called")


def _called(log: list[Entry], key: str) -> list[Entry]:
    """The log, in which the tool call has this key."""
    for entry in log:
        if entry.kind == "tool_called":
            entry.event.tool_called.idempotency_key = key
    return log


def _asked(log: list[Entry]) -> list[Entry]:
    """The log, in which a person was asked about a call of unknown outcome."""
    for entry in log:
        if entry.kind == "waiting":
            entry.event.waiting.wait.call_id = "c1"
            entry.event.waiting.wait.approval.outcome_unknown = True
    return log


@pytest.mark.parametrize(
    "log",
    [
        _called(written(*_BEGUN, "tool_called", "completed"), "t1/1/c1"),
        _called(written(*_BEGUN, "tool_called", "completed"), "t1/1/c1/6"),
        written(*_BEGUN),
        written(*_BEGUN, "waiting"),
    ],
    ids=["recorded since", "called again after an approval", "under way", "waiting"],
)
def test_what_is_recorded_or_goes_on_is_not_judged(log: list[Entry]) -> None:
    """A task that has not ended may yet record its call."""
    assert list(effects.judge([_RECORD], log)) == []


@pytest.mark.parametrize(
    "log",
    [
        written(*_BEGUN, "cancelled"),
        written(*_BEGUN, "dead_lettered"),
        written(*_BEGUN, "failed"),
        _asked(written(*_BEGUN, "waiting", "resumed", "started", "completed")),
    ],
    ids=["cancelled", "dead", "failed", "left to a person"],
)
def test_a_task_may_end_between_a_call_and_its_record(log: list[Entry]) -> None:
    """That is told, and no finding."""
    assert list(effects.judge([_RECORD], log)) == [Unrecorded(_RECORD)]


@pytest.mark.parametrize(
    "log",
    [
        written(*_BEGUN, "completed"),
        written(*_BEGUN, "model_called", "cancelled"),
    ],
    ids=["it succeeded", "the model was asked again"],
)
def test_a_task_does_not_go_on_without_recording_a_call(log: list[Entry]) -> None:
    """The effect happened, and nobody knows of it."""
    (found,) = effects.judge([_RECORD], log)
    assert isinstance(found, Finding)
    assert found.sentence == (
        "The tool service made the call t1/1/c1, and the task went on without recording it."
    )
    assert found.stream_sequences == (3,)


@pytest.mark.parametrize("key", ["order-17", "t1/1", "t1/x/c1", "T1/1/c1", "/1/c1"])
def test_only_keys_of_tasks_are_looked_at(key: str) -> None:
    """Clients call tools, too, under keys of their own."""
    assert effects.record_of("acme", key) is None
