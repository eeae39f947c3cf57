"""Arguments against schemas."""

# Tables of cases have one case a line.
# ruff: noqa: E501

import math
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshkit.errors import InvalidToolArguments
from meshkit.json_struct import to_mapping
from services.tool.arguments import ArgumentSchema
from services.tool.tool import Effect, Json, ToolSpec

# Busy machines are slow, and that is no fault of what is tested.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
_SPEC = ToolSpec(
    id="ship",
    description="Ships things.",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string", "minLength": 2, "maxLength": 5},
            "count": {"type": "integer", "minimum": 1, "maximum": 20},
            "speed": {"enum": ["slow", "fast"]},
            "weight": {"type": ["number", "null"]},
            "items": {
                "type": "array",
                "maxItems": 2,
                "items": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}},
                    "required": ["name"],
                    "additionalProperties": False,
                },
            },
        },
        "required": ["city", "count"],
        "additionalProperties": False,
    },
    effect=Effect.UNSAFE,
)
_SCHEMA = ArgumentSchema(_SPEC)


def _as_struct(mapping: Mapping[str, Any]) -> Struct:
    """Also where it is deeper than any message."""
    struct = Struct()
    struct.update(mapping)
    return struct


def _struct(**values: Any) -> Struct:
    return _as_struct(values)


def test_whole_doubles_are_read_as_integers() -> None:
    """A Struct carries 5 as 5.0; a schema that wants an integer gets 5, and it is an int."""
    read = _SCHEMA.read(_struct(city="Ulm", count=5.0, weight=1.5, items=[{"name": "a"}]))
    assert read == {"city": "Ulm", "count": 5, "weight": 1.5, "items": [{"name": "a"}]}
    assert type(read["count"]) is int


# What is changed in arguments that fit, and what is told then.
_WRONG: Any = [
    ({"count": "5"}, {"call.arguments.count": "must be a whole number, not the text '5'"}),
    ({"count": 5.5}, {"call.arguments.count": "must be a whole number, not 5.5"}),
    ({"count": True}, {"call.arguments.count": "must be a whole number, not true"}),
    ({"count": None}, {"call.arguments.count": "must be a whole number, not null"}),
    ({"count": [1]}, {"call.arguments.count": "must be a whole number, not a list"}),
    ({"count": 0}, {"call.arguments.count": "must be at least 1, not 0"}),
    ({"count": 21}, {"call.arguments.count": "must be at most 20, not 21"}),
    ({"city": "U"}, {"call.arguments.city": "must have at least 2 characters, not 1"}),
    ({"city": "Berlin"}, {"call.arguments.city": "must have at most 5 characters, not 6"}),
    ({"city": {}}, {"call.arguments.city": "must be text, not an object"}),
    ({"speed": "quick"}, {"call.arguments.speed": "must be one of 'slow', 'fast', not the text 'quick'"}),
    ({"weight": "1"}, {"call.arguments.weight": "must be a number or null, not the text '1'"}),
    ({"weight": math.nan}, {"call.arguments.weight": "must be a finite number"}),
    ({"items": [{"name": -math.inf}]}, {"call.arguments.items[0].name": "must be a finite number"}),
    ({"items": [{"name": "a"}, {}]}, {"call.arguments.items[1].name": "is required"}),
    ({"items": [{}, {}, {}]}, {"call.arguments.items": "[{}, {}, {}] is too long", "call.arguments.items[0].name": "is required", "call.arguments.items[1].name": "is required", "call.arguments.items[2].name": "is required"}),
    ({"town": "Ulm"}, {"call.arguments.town": "is not known; known are city, count, speed, weight, items"}),
    ({"citty": 1, "a b": 2}, {"call.arguments.citty": "is not known; did you mean city?", "call.arguments['a b']": "is not known; known are city, count, speed, weight, items"}),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "violations"), _WRONG)
def test_each_wrong_path_is_named(changed: dict[str, Json], violations: dict[str, str]) -> None:
    """Every path that does not fit is told, with what was expected there."""
    with pytest.raises(InvalidToolArguments) as caught:
        _SCHEMA.read(_struct(**{"city": "Ulm", "count": 5, **changed}))
    assert {each.field: each.description for each in caught.value.violations} == violations
    assert caught.value.metadata == {"tool": "ship"}


def test_missing_arguments_are_all_named() -> None:
    """Both required arguments are told, each once, also in the message."""
    with pytest.raises(InvalidToolArguments) as caught:
        _SCHEMA.read(Struct())
    assert caught.value.message == (
        "The arguments do not fit the tool ship:"
        " call.arguments.city: is required; call.arguments.count: is required"
    )


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@_PATIENT
@given(st.dictionaries(st.text(), _json, max_size=4))
def test_any_arguments_fit_or_are_refused_by_type(arguments: dict[str, Any]) -> None:
    """Whatever a model sends, it is read or refused with paths, never another error."""
    try:
        struct = _as_struct(arguments)
    except UnicodeEncodeError:
        return
    violations = 1
    try:
        _SCHEMA.read(struct)
    except InvalidToolArguments as error:
        violations = len(error.violations)
    assert 1 <= violations <= 20


@_PATIENT
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8")),
        st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")) | st.booleans(),
    )
)
def test_struct_gives_back_what_it_was_given(mapping: dict[str, Json]) -> None:
    """Values survive the way into a Struct and back, integers as integers."""
    back = to_mapping(_as_struct(mapping))
    assert back == mapping
    assert [type(each) for each in back.values()] == [type(mapping[key]) for key in back]
