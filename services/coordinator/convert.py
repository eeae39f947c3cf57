"""Requests, checked: every field that is wrong is named."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from google.protobuf.message import Message as Proto

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit import identity, names
from meshkit.errors import InvalidField, MeshError, TooLarge, Violation, to_status

_ALL_TENANTS: Final = "tenants/-"
_MAX_LABELS: Final = 64
_MAX_STATES: Final = 16
_LABEL_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}")
_MAX_LABEL_VALUE: Final = 255
_MAX_REQUEST_ID: Final = 128
_TASK_TYPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_MAX_TIME_LIMIT_SECONDS: Final = 86_400
_LANES: Final = frozenset(tier_pb2.Lane.values())


def tenant(parent: str, *, field: str = "parent") -> str:
    """The tenant of `tenants/{tenant}`, which must be the caller's own."""
    (name,) = names.TENANT.parse(parent, field=field)
    identity.require_tenant(parent)
    return name


def tenant_or_all(parent: str) -> str | None:
    """The tenant of `parent`: the caller's own where it is empty, None for `tenants/-`."""
    if not parent:
        return identity.current().tenant
    return None if parent == _ALL_TENANTS else tenant(parent)


def task_name(name: str) -> tuple[str, str]:
    """Tenant and task id of a task's name, which must be of the caller's own tenant."""
    owner, task_id = names.TASK.parse(name, field="name")
    identity.require_tenant(name)
    return owner, task_id


def request_id(value: str) -> str:
    """A request id of acceptable length; may be empty."""
    if len(value) > _MAX_REQUEST_ID:
        raise InvalidField("request_id", f"must be at most {_MAX_REQUEST_ID} characters")
    return value


def header_request_id(value: str) -> str:
    """A request id that is kept in a header, which is one line without blanks at its ends."""
    request_id(value)
    if value != value.strip() or not value.isprintable():
        raise InvalidField("request_id", "must be one line of text, without blanks at its ends")
    return value


def task(requested: Task, *, max_input_bytes: int) -> Task:
    """What the caller asked for, with output-only fields dropped.

    Raises:
        InvalidField: With every violation found.
        TooLarge: The input is beyond `max_input_bytes`.
    """
    if requested.input.ByteSize() > max_input_bytes:
        raise TooLarge(
            f"task.input is {requested.input.ByteSize():,} bytes; the limit is"
            f" {max_input_bytes:,}. Put large texts into documents instead.",
            metadata={
                "limit_bytes": str(max_input_bytes),
                "size_bytes": str(requested.input.ByteSize()),
            },
            violations=[Violation("task.input", f"must be at most {max_input_bytes} bytes")],
        )
    violations = [*_task_violations(requested)]
    if violations:
        raise InvalidField.many(violations)
    accepted = Task(
        agent=requested.agent,
        lane=requested.lane,
        priority=requested.priority,
        session=requested.session,
        parent_task=requested.parent_task,
        budget_micros=requested.budget_micros,
        task_type=requested.task_type,
    )
    accepted.labels.MergeFrom(requested.labels)
    accepted.input.CopyFrom(requested.input)
    if requested.HasField("time_limit"):
        accepted.time_limit.CopyFrom(requested.time_limit)
    return accepted


def batch_answers(
    answers: Sequence[tuple[int, Task | MeshError]],
) -> pb.BatchSubmitTasksResponse:
    """Some answers of a batch: the tasks as accepted, or why they were not."""
    response = pb.BatchSubmitTasksResponse()
    for index, answer in answers:
        result = response.results.add(index=index)
        if isinstance(answer, MeshError):
            result.error.CopyFrom(to_status(answer))
        else:
            result.response.task.CopyFrom(answer)
    return response


def _task_violations(requested: Task) -> list[Violation]:
    found: list[Violation] = []

    def wrong(field: str, description: str) -> None:
        found.append(Violation(f"task.{field}", description))

    if not requested.input.text.strip() and not requested.input.HasField("data"):
        wrong("input", "must have text or data: say what the agent should do")
    if "\x00" in requested.input.text:
        wrong("input.text", "must not contain NUL characters")
    if requested.lane not in _LANES:
        wrong("lane", "must be LANE_INTERACTIVE, LANE_STANDARD or LANE_BATCH")
    if not 0 <= requested.priority <= 9:
        wrong("priority", "must be from 0 to 9")
    if requested.session and not names.SESSION.matches(f"tenants/t/sessions/{requested.session}"):
        wrong("session", "must be 1 to 128 letters, digits or any of _ ~ : -, no sign first")
    if requested.task_type and not _TASK_TYPE.fullmatch(requested.task_type):
        wrong("task_type", "must be 1 to 63 letters, digits or any of - _ .")
    if len(requested.labels) > _MAX_LABELS:
        wrong("labels", f"must be at most {_MAX_LABELS}, not {len(requested.labels)}")
    else:
        for key, value in requested.labels.items():
            if not _LABEL_KEY.fullmatch(key):
                wrong(f"labels[{key[:80]!r}]", "must be 1 to 63 letters, digits or any of . _ / -")
            if len(value) > _MAX_LABEL_VALUE:
                wrong(f"labels[{key[:80]!r}]", f"must be at most {_MAX_LABEL_VALUE} characters")
    if requested.parent_task and not names.TASK.matches(requested.parent_task):
        wrong("parent_task", f"must look like {names.TASK.template!r}")
    if requested.budget_micros < 0:
        wrong("budget_micros", "must not be negative")
    if requested.HasField("time_limit"):
        # Times are kept in microseconds: what is shorter would be no time at all.
        limit = requested.time_limit.ToNanoseconds()
        if not 1_000 <= limit <= _MAX_TIME_LIMIT_SECONDS * 1_000_000_000:
            wrong("time_limit", f"must be over 0 s and at most {_MAX_TIME_LIMIT_SECONDS} s")
    return found


def sequence(value: int, *, field: str) -> int:
    """A sequence number; InvalidField below 0."""
    if value < 0:
        raise InvalidField(field, "must not be negative")
    return value


def sequence_seen(value: int, request_id: str) -> int:
    """The last event that an earlier call with `request_id` saw; 0 for none."""
    seen = sequence(value, field="after_sequence")
    if seen and not request_id:
        raise InvalidField("after_sequence", "must be 0 without the request_id of an earlier call")
    return seen


def time(message: Proto, field: str) -> datetime | None:
    """A Timestamp field of `message`, where it is set."""
    if not message.HasField(field):
        return None
    try:
        return getattr(message, field).ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidField(field, "must be a time between the years 1 and 9999") from error


def agent_filter(parent: str, wanted: str) -> str:
    """The full name of an agent to filter by; may be empty."""
    if not wanted or "/" in wanted:
        return wanted
    return f"{parent}/agents/{wanted}"


def state_filter(states: Sequence[task_pb2.TaskState]) -> Sequence[task_pb2.TaskState]:
    """The states to filter by; InvalidField for more than there can be."""
    if len(states) > _MAX_STATES:
        raise InvalidField("states", f"must be at most {_MAX_STATES}, not {len(states)}")
    return tuple(states)


def label_filter(labels: Mapping[str, str]) -> Mapping[str, str]:
    """The labels to filter by; InvalidField for more than a task can have."""
    if len(labels) > _MAX_LABELS:
        raise InvalidField("labels", f"must be at most {_MAX_LABELS}, not {len(labels)}")
    return dict(labels)
