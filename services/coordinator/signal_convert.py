"""Signals at the wire: checked, and signed with who sent them."""

from collections.abc import Iterator
from typing import Final

from agentmesh.coordinator.v1.task_event_pb2 import TaskSignal
from agentmesh.coordinator.v1.task_pb2 import TaskInput
from meshkit import identity
from meshkit.constants import CLAIM_CHECK_BYTES
from meshkit.errors import InvalidField, TooLarge, Violation

# A signal stands in the log itself, never in the object store.
MAX_INPUT_BYTES: Final = CLAIM_CHECK_BYTES
_MAX_REMARK: Final = 4096


def signal(requested: TaskSignal) -> TaskSignal:
    """The signal as the log keeps it: its sender is the caller.

    Raises:
        InvalidField: With every violation found.
        TooLarge: The input is beyond MAX_INPUT_BYTES.
    """
    size = requested.input.ByteSize()
    if size > MAX_INPUT_BYTES:
        raise TooLarge(
            f"signal.input is {size:,} bytes; the limit is {MAX_INPUT_BYTES:,}."
            " Put large texts into documents instead.",
            metadata={"limit_bytes": str(MAX_INPUT_BYTES), "size_bytes": str(size)},
            violations=[Violation("signal.input", f"must be at most {MAX_INPUT_BYTES} bytes")],
        )
    violations = [*_wrong(requested)]
    if violations:
        raise InvalidField.many(violations)
    accepted = TaskSignal()
    accepted.CopyFrom(requested)
    accepted.sender = identity.current().caller
    return accepted


def _wrong(requested: TaskSignal) -> Iterator[Violation]:
    match requested.WhichOneof("kind"):
        case "approval":
            yield from _wrong_remark("signal.approval.comment", requested.approval.comment)
        case "rejection":
            yield from _wrong_remark("signal.rejection.reason", requested.rejection.reason)
        case "input":
            yield from _wrong_input(requested.input)
        case _:
            yield Violation("signal", "must have one of approval, rejection and input")


def _wrong_remark(field: str, text: str) -> Iterator[Violation]:
    if len(text) > _MAX_REMARK:
        yield Violation(field, f"must be at most {_MAX_REMARK:,} characters, not {len(text):,}")
    if "\x00" in text:
        yield Violation(field, "must not contain NUL characters")


def _wrong_input(given: TaskInput) -> Iterator[Violation]:
    if not given.text.strip() and not given.HasField("data"):
        yield Violation("signal.input", "must have text or data: it is the answer to the agent")
    if "\x00" in given.text:
        yield Violation("signal.input.text", "must not contain NUL characters")
