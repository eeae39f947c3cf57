"""Messages as a later version may send and store them: with what this one does not know."""

from collections.abc import Iterator
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

T = TypeVar("T", bound=Message)

# A field that no message has: number 1,000, a text.
UNKNOWN: Final = b"\xc2\x3e\x05later"
# A value that no enum has.
_VALUE: Final = 77
_OWN: Final = "agentmesh."
# Messages may hold others of their own type.
_DEPTH: Final = 6


def grown(message: T) -> T:
    """A copy with a field more, in it and in every message in it."""
    copy = type(message)()
    copy.CopyFrom(message)
    for each in _inside(copy):
        each.MergeFromString(UNKNOWN)
    return copy


def count(message: Message) -> int:
    """How many of those fields are there."""
    return message.SerializeToString().count(UNKNOWN)


def fill(message: Message, depth: int = _DEPTH) -> None:
    """Gives each enum in it a value that is not known, and each list a member."""
    fields: Any = message.DESCRIPTOR.fields
    for field in fields:
        oneof = field.containing_oneof
        if oneof is not None and message.WhichOneof(oneof.name) is not None:
            continue
        _fill(message, field, depth)


def _fill(message: Message, field: FieldDescriptor, depth: int) -> None:
    value: Any = getattr(message, field.name)
    if field.enum_type is not None:
        if field.is_repeated:
            value.append(_VALUE)
        else:
            setattr(message, field.name, _VALUE)
    elif _is_own(field) and depth:
        inside = value.add() if field.is_repeated else value
        inside.SetInParent()
        fill(inside, depth - 1)


def _inside(message: Message) -> Iterator[Message]:
    """The message, and all of the mesh's own that it holds."""
    for field, value in message.ListFields():
        if _is_own(field):
            held: Any = value
            for each in tuple(held) if field.is_repeated else (held,):
                yield from _inside(each)
    yield message


def _is_own(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return kind is not None and kind.full_name.startswith(_OWN) and not kind.GetOptions().map_entry
