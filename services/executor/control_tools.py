"""Tools that the executor handles itself: each makes the task wait, and gives its executor back.

They are offered to a model only if its agent names them.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf import json_format, struct_pb2, timestamp_pb2

from agentmesh.common.v1 import tier_pb2
from agentmesh.common.v1.conversation_pb2 import ToolCall
from agentmesh.coordinator.v1.task_event_pb2 import TaskStatus, TaskWaiting
from agentmesh.coordinator.v1.task_pb2 import Task
from agentmesh.tool.v1 import tool_pb2
from meshkit.constants import CLAIM_CHECK_BYTES
from meshkit.errors import InvalidToolArguments, Violation
from services.executor import children
from services.executor.children import Part
from tasklog import subjects

ASK_PERSON: Final = "ask_person"
WAIT: Final = "wait"
DELEGATE: Final = "delegate"

_MAX_QUESTION: Final = 10_000
_MAX_AGENT: Final = 200
_LANES: Final = {name: lane for lane, name in subjects.LANES.items()}
_ROOT: Final = "call.arguments"
_Json = Any


def _tool(name: str, description: str, parameters: Mapping[str, _Json]) -> tool_pb2.Tool:
    tool = tool_pb2.Tool(
        tool_id=name,
        description=description,
        effect=tool_pb2.EFFECT_IDEMPOTENT,
        built_in=True,
    )
    json_format.ParseDict({"type": "object", **parameters}, tool.parameters)
    return tool


TOOLS: Final[Mapping[str, tool_pb2.Tool]] = {
    ASK_PERSON: _tool(
        ASK_PERSON,
        "Asks a person a question and waits for the answer, which may take days."
        " Use it only for what nobody else can decide or know.",
        {
            "properties": {
                "question": {
                    "type": "string",
                    "description": "The question, with all that is needed to answer it.",
                    "minLength": 1,
                    "maxLength": _MAX_QUESTION,
                }
            },
            "required": ["question"],
            "additionalProperties": False,
        },
    ),
    WAIT: _tool(
        WAIT,
        "Waits for some time, or until a point in time. Give one of the two.",
        {
            "properties": {
                "seconds": {
                    "type": "number",
                    "description": "How long to wait.",
                    "exclusiveMinimum": 0,
                },
                "until": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When to go on, such as 2026-01-31T12:00:00Z.",
                },
            },
            "additionalProperties": False,
        },
    ),
    DELEGATE: _tool(
        DELEGATE,
        "Hands parts of the work to other agents, which do them side by side, and waits for"
        " all of their results. Each sees its own text and nothing of this conversation.",
        {
            "properties": {
                "tasks": {
                    "type": "array",
                    "description": "The parts.",
                    "minItems": 1,
                    "maxItems": children.MAX_CHILDREN,
                    "items": {
                        "type": "object",
                        "properties": {
                            "text": {
                                "type": "string",
                                "description": "What is to be done, with all that it takes.",
                                "minLength": 1,
                            },
                            "agent": {
                                "type": "string",
                                "description": "The agent's id; a general assistant if left out.",
                            },
                            "lane": {
                                "type": "string",
                                "description": "How urgent it is; as this task if left out.",
                                "enum": sorted(_LANES),
                            },
                        },
                        "required": ["text"],
                        "additionalProperties": False,
                    },
                }
            },
            "required": ["tasks"],
            "additionalProperties": False,
        },
    ),
}


def waiting(
    call: ToolCall,
    task: Task,
    status: TaskStatus,
    *,
    sequence: int,
    now: datetime,
    wait_limit: timedelta,
) -> TaskWaiting:
    """What the task waits for once the model has made `call`.

    Args:
        call: A call of one of TOOLS.
        task: The task as it was submitted.
        status: Its status now.
        sequence: Of the event that says so.
        now: The time.
        wait_limit: The longest that a task may wait.

    Raises:
        InvalidToolArguments: With every violation found; the model reads them.
    """
    violations: list[Violation] = []
    asked = TaskWaiting()
    asked.wait.call_id = call.call_id
    asked.wait.expire_time.FromDatetime(now + wait_limit)
    match call.tool:
        case "ask_person":
            violations += _unknown(call.arguments, ("question",), _ROOT)
            violations += _wrong_text(
                call.arguments, "question", _ROOT, most=_MAX_QUESTION, required=True
            )
            if not violations:
                asked.wait.input.question = _string(call.arguments, "question")
        case "wait":
            violations += _until(call.arguments, asked.wait.until, now, wait_limit)
        case _:
            violations += _delegate(call.arguments, asked, task, status, sequence, now)
    if violations:
        told = "; ".join(f"{each.field}: {each.description}" for each in violations)
        raise InvalidToolArguments(
            f"The arguments do not fit the tool {call.tool}: {told}",
            metadata={"tool": call.tool},
            violations=violations,
        )
    return asked


def _until(
    arguments: struct_pb2.Struct,
    until: timestamp_pb2.Timestamp,
    now: datetime,
    wait_limit: timedelta,
) -> Iterator[Violation]:
    """Fills in `until`, or says what is wrong."""
    given = [name for name in ("seconds", "until") if name in arguments.fields]
    yield from _unknown(arguments, ("seconds", "until"), _ROOT)
    most = f"at most {wait_limit.total_seconds():.0f} s from now"
    if len(given) != 1:
        yield Violation(_ROOT, "must have exactly one of seconds and until")
    elif given == ["seconds"]:
        seconds = arguments.fields["seconds"].number_value
        # Written so that text (0 here) and not-a-number are refused.
        if 0 < seconds <= wait_limit.total_seconds():
            until.FromDatetime(now + timedelta(seconds=seconds))
        else:
            yield Violation(f"{_ROOT}.seconds", f"must be a number over 0, {most}")
    else:
        try:
            until.FromJsonString(_string(arguments, "until"))
            moment = until.ToDatetime(tzinfo=UTC)
        except ValueError:
            moment = None
        if moment is None:
            yield Violation(f"{_ROOT}.until", "must be a time such as 2026-01-31T12:00:00Z")
        elif not now < moment <= now + wait_limit:
            yield Violation(
                f"{_ROOT}.until", f"must be after now ({now:%Y-%m-%dT%H:%M:%SZ}), {most}"
            )


def _delegate(
    arguments: struct_pb2.Struct,
    asked: TaskWaiting,
    task: Task,
    status: TaskStatus,
    sequence: int,
    now: datetime,
) -> Iterator[Violation]:
    """Fills in the children, or says what is wrong."""
    path = f"{_ROOT}.tasks"
    yield from _unknown(arguments, ("tasks",), _ROOT)
    items = arguments.fields["tasks"].list_value.values if "tasks" in arguments.fields else ()
    if not 1 <= len(items) <= children.MAX_CHILDREN:
        yield Violation(path, f"must be a list of 1 to {children.MAX_CHILDREN} tasks")
        return
    wrong = [
        violation
        for index, item in enumerate(items)
        for violation in _wrong_part(item, f"{path}[{index}]")
    ]
    if wrong:
        yield from wrong
        return
    if task.depth >= children.MAX_DEPTH:
        yield Violation(
            path,
            f"must not be handed on: {children.MAX_DEPTH} tasks stand above this one already."
            " Do the work here",
        )
        return
    if children.is_spent(task, status, len(items)):
        yield Violation(path, "must not be handed on: the task's budget is spent")
        return
    for child in children.children_of(
        task, status, [_part(item.struct_value) for item in items], sequence=sequence, now=now
    ):
        asked.children.append(child)
        asked.wait.children.tasks.append(child.name)
    if asked.ByteSize() > CLAIM_CHECK_BYTES:
        yield Violation(
            path,
            f"must not exceed {CLAIM_CHECK_BYTES:,} bytes together, labels included, and have"
            f" {asked.ByteSize():,}. Delegate fewer at a time, or in fewer words",
        )


def _wrong_part(item: struct_pb2.Value, path: str) -> Iterator[Violation]:
    if item.WhichOneof("kind") != "struct_value":
        yield Violation(path, "must be an object")
        return
    part = item.struct_value
    yield from _unknown(part, ("text", "agent", "lane"), path)
    yield from _wrong_text(part, "text", path, most=CLAIM_CHECK_BYTES, required=True)
    yield from _wrong_text(part, "agent", path, most=_MAX_AGENT, required=False)
    if "lane" in part.fields and _string(part, "lane") not in _LANES:
        yield Violation(f"{path}.lane", f"must be one of {', '.join(sorted(_LANES))}")


def _part(part: struct_pb2.Struct) -> Part:
    lane = _LANES.get(_string(part, "lane"), tier_pb2.LANE_UNSPECIFIED)
    return Part(_string(part, "text"), _string(part, "agent"), lane)


def _unknown(struct: struct_pb2.Struct, known: Sequence[str], path: str) -> Iterator[Violation]:
    for name in sorted(set(struct.fields) - set(known)):
        yield Violation(f"{path}.{name[:64]}", f"is not known; known are {', '.join(known)}")


def _wrong_text(
    struct: struct_pb2.Struct, name: str, path: str, *, most: int, required: bool
) -> Iterator[Violation]:
    if name not in struct.fields:
        if required:
            yield Violation(f"{path}.{name}", "is required")
    elif not len(_string(struct, name).strip()) >= 1 or len(_string(struct, name)) > most:
        yield Violation(f"{path}.{name}", f"must be text of 1 to {most:,} characters")


def _string(struct: struct_pb2.Struct, name: str) -> str:
    """The text of a field; empty where it is missing or no text."""
    return struct.fields[name].string_value if name in struct.fields else ""
