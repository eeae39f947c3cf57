"""google.protobuf.Struct to plain values and back."""

from collections.abc import Mapping
from typing import Final

from google.protobuf import struct_pb2

from services.tool.tool import Json

# Whole numbers up to here have a double of their own.
_LARGEST_EXACT: Final = 2.0**53


def to_struct(mapping: Mapping[str, Json]) -> struct_pb2.Struct:
    """The mapping as a Struct."""
    struct = struct_pb2.Struct()
    struct.update(mapping)
    return struct


def to_mapping(struct: struct_pb2.Struct) -> dict[str, Json]:
    """The Struct as a mapping. It knows doubles only: what is whole is read as an integer."""
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
