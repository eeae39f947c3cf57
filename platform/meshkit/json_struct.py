"""google.protobuf.Struct to plain JSON values and back."""

import math
from collections.abc import Mapping
from typing import Any, Final, cast

from google.protobuf import struct_pb2

Json = str | int | float | bool | None | list[Any] | dict[str, Any]

# Protobuf reads no message that is nested deeper than 100: three levels for an object's
# member, and what stands around it on its way through the mesh.
MOST_DEEP: Final = 24
# Whole numbers up to here have a double of their own.
_LARGEST_EXACT: Final = 2.0**53


def to_struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    """The values as a Struct. Raises ValueError for what it cannot hold, with why."""
    _check(values, MOST_DEEP)
    struct = struct_pb2.Struct()
    struct.update(values)
    return struct


def to_mapping(struct: struct_pb2.Struct) -> dict[str, Any]:
    """The Struct's values. It knows doubles only: what is whole becomes an integer."""
    return {key: _to_json(value) for key, value in struct.fields.items()}


def _to_json(value: struct_pb2.Value) -> Json:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            whole = number.is_integer() and abs(number) <= _LARGEST_EXACT
            return int(number) if whole else number
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return to_mapping(value.struct_value)
        case "list_value":
            return [_to_json(each) for each in value.list_value.values]
        case _:
            return None


def _check(value: Any, deep: int) -> None:
    match value:
        case str():
            if not _is_unicode(value):
                raise ValueError("holds half of a surrogate pair, which is no text")
        case int() | float():
            if not _is_double(value):
                raise ValueError("holds a number that is too large")
        case dict() | list():
            if not deep:
                raise ValueError(f"is nested more than {MOST_DEEP} deep")
            values = cast(dict[str, Any] | list[Any], value)
            if isinstance(values, dict):
                for key in values:
                    _check(key, deep)
            for each in values.values() if isinstance(values, dict) else values:
                _check(each, deep - 1)
        case _:
            pass


def _is_double(number: float) -> bool:
    try:
        return math.isfinite(float(number))
    except OverflowError:
        return False


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
