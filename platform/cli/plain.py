"""Protocol messages as plain values for `--json`."""

from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

# Details of errors are packed messages: their types must be known to be written out.
from google.rpc import error_details_pb2 as error_details_pb2

_INTEGERS: Final = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT64,
    }
)


def to_plain(message: Message) -> dict[str, Any]:
    """`message` with the field names of the contract, every plain field present.

    It is the JSON form of protobuf but for 64-bit numbers, which stay numbers:
    protobuf writes them as strings for the sake of JavaScript.
    """
    value = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    _numbers(value, cast(Descriptor, message.DESCRIPTOR))
    return value


def _numbers(value: dict[str, Any], descriptor: Descriptor) -> None:
    for field in descriptor.fields:
        content = value.get(field.name)
        if content is None:
            continue
        if field.cpp_type in _INTEGERS:
            value[field.name] = (
                [int(each) for each in cast(list[str], content)]
                if isinstance(content, list)
                else int(content)
            )
        elif field.message_type is not None:
            _inside(content, field.message_type)


def _inside(content: Any, descriptor: Descriptor) -> None:
    if descriptor.full_name.startswith("google.protobuf."):
        return  # times, durations and free data have JSON forms of their own
    if descriptor.GetOptions().map_entry:
        return  # no contract maps to a message or a 64-bit number
    for each in cast(list[Any], content) if isinstance(content, list) else [content]:
        _numbers(each, descriptor)
