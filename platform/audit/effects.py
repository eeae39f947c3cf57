"""Every tool call is recorded once: in the log, and by the tool service if it changes something.

The tool service keeps a record of a call under the idempotency key that the log
names. One without an event may still be right: the task ended between the
effect and its record.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from agentmesh.coordinator.v1 import task_pb2
from audit.entry import Entry, is_whole
from audit.finding import Finding, Invariant, TaskKey, finding
from tasklog import lifecycle

_KEY: Final = re.compile(r"([a-z0-9][a-z0-9-]{0,62})/([1-9]\d{0,8})/(.+)")


class CallRecord(NamedTuple):
    """A call that the tool service executed for a task."""

    task: TaskKey
    key: str
    # The step at which the model asked for it.
    model_step: int
    # The model's id of the call; after an approval with more behind it.
    call: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call that the log says was made, and that had no error."""

    task: TaskKey
    key: str
    stream_sequence: int
    # Empty where the result stands outside the log.
    tool: str
    # It was announced: its tool must not be called twice.
    intended: bool


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """A call whose task ended before it was recorded."""

    record: CallRecord


def record_of(tenant: str, key: str) -> CallRecord | None:
    """The record under `key`; None where no task calls under it."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    task_id, model_step, call = match.groups()
    return CallRecord(TaskKey(tenant, task_id), key, int(model_step), call)


def missing(call: Call) -> Finding:
    """The log says that it was made, and the tool service has no record of it."""
    return finding(
        Invariant.EFFECT,
        call.task,
        f"The tool service has no record of the call {call.key} of {call.tool or 'a tool'}.",
        call.stream_sequence,
        remedy="A repeat of this call would not be recognised: see whether Redis lost data.",
    )


def judge(records: Iterable[CallRecord], log: Sequence[Entry]) -> Iterator[Finding | Unrecorded]:
    """What is to be said of records of one task that were not found in its log at first.

    Args:
        records: Different finished calls of the task.
        log: Everything that its log holds by now.
    """
    last = log[-1]
    state = last.event.status.state
    if not is_whole(log) or state not in lifecycle.TERMINAL:
        return  # there is no telling; or it goes on, and may yet record them
    keys = {entry.event.tool_called.idempotency_key for entry in log if entry.kind == "tool_called"}
    last_model_step = max(
        (entry.event.model_called.step for entry in log if entry.kind == "model_called"), default=0
    )
    for record in records:
        again = f"{record.key}/"
        if record.key in keys or any(key.startswith(again) for key in keys):
            continue
        if _was_left_to_a_person(record, log) or (
            state != task_pb2.TASK_STATE_SUCCEEDED and record.model_step >= last_model_step
        ):
            yield Unrecorded(record)
            continue
        asked = [
            entry.stream_sequence
            for entry in log
            if entry.kind == "model_called" and entry.event.model_called.step == record.model_step
        ]
        yield finding(
            Invariant.EFFECT,
            record.task,
            f"The tool service made the call {record.key}, and the task went on without"
            " recording it.",
            *(asked or [last.stream_sequence]),
        )


def _was_left_to_a_person(record: CallRecord, log: Sequence[Entry]) -> bool:
    """Whether the executor did not know what became of the call, and asked."""
    return any(
        entry.kind == "waiting"
        and entry.event.waiting.wait.approval.outcome_unknown
        and entry.event.waiting.wait.call_id == record.call
        for entry in log
    )
