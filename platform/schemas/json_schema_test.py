"""Schemas of callers: which are taken, and what satisfies them."""

# Tables of cases have one case a line.
# ruff: noqa: E501

import json
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkit.errors import InvalidField, Violation
from schemas.json_schema import Wrong, answer_schema, check_arguments


def _struct(values: dict[str, Any]) -> Struct:
    struct = Struct()
    struct.update(values)
    return struct


def _fanning_out(ways: int) -> dict[str, Any]:
    definitions: dict[str, Any] = {
        f"a{at}": {"allOf": [{"$ref": f"#/$defs/a{at + 1}"}] * 2} for at in range(ways)
    }
    return {"$ref": "#/$defs/a0", "$defs": {**definitions, f"a{ways}": {}}}


def _nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"not": schema}
    return schema


_WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"type": "string"}, ".type", "must be 'object' at the root"),
    ({"type": ["object", "null"]}, ".type", "must be 'object' at the root"),
    ({"properties": []}, ".properties", "is no JSON Schema: [] is not of type 'object'"),
    (
        {"properties": {"a": {"type": "strin"}}},
        ".properties.a.type",
        "is no JSON Schema: 'strin' is not valid under any of the given schemas",
    ),
    (
        {"anyOf": [{}, {"minLength": -1}]},
        ".anyOf[1].minLength",
        "is no JSON Schema: -1 is less than the minimum of 0",
    ),
    (
        {"properties": {"a": {"$ref": "https://example.com/a"}}},
        ".properties.a.$ref",
        "must begin with #: no other document is fetched",
    ),
    (
        {"properties": {"a": {"$ref": "a.json"}}},
        ".properties.a.$ref",
        "must begin with #: no other document is fetched",
    ),
    ({"$ref": "#/$defs/a"}, ".$ref", "refers to #/$defs/a, which is not there"),
    ({"not": {"$id": "urn:a"}}, ".not.$id", "must stand at the root alone"),
    (_nested(24), ".not" * 24, "must be nested at most 24 deep"),
]


@pytest.mark.parametrize(("schema", "path", "description"), _WRONG)
def test_what_is_no_schema_is_refused_by_its_path(
    schema: dict[str, Any], path: str, description: str
) -> None:
    """The same for a tool's arguments and for an answer."""
    with pytest.raises(InvalidField) as caught:
        check_arguments(_struct(schema), field="tools[3].parameters")
    assert caught.value.violations == (Violation(f"tools[3].parameters{path}", description),)
    with pytest.raises(InvalidField) as caught:
        answer_schema(json.dumps(schema))
    assert caught.value.violations == (Violation(f"output_schema{path}", description),)


@pytest.mark.parametrize(
    ("text", "path", "description"),
    [
        (
            "{",
            "",
            "must be JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        ('{"a": NaN}', "", "must be JSON: NaN is not JSON"),
        ("[" * 100_000, "", "must have at most 65536 bytes, not 100000"),
        ("true", "", "must be a JSON object"),
        ('{"$ref": "#"}', "", "must not refer to itself, or fan out, without an end"),
        (json.dumps(_fanning_out(20)), "", "must not refer to itself, or fan out, without an end"),
        (
            '{"unevaluatedProperties": false}',
            ".unevaluatedProperties",
            "is not known here; do without it",
        ),
        (
            json.dumps({"properties": {"a": {"pattern": r"(a)\1"}}}),
            ".properties.a.pattern",
            r"uses \1, which is not known here",
        ),
        (
            json.dumps({"anyOf": [{}] * 2001}),
            ".anyOf[1999]",
            "is one too many: a schema may hold 2000 in all",
        ),
        (
            json.dumps(
                {"properties": {f"p{at}": {"pattern": f"a{{900}}{at}"} for at in range(30)}}
            ),
            ".properties.p11.pattern",
            "is one too many: the patterns together are too large",
        ),
        ('{"patternProperties": {"(": {}}}', ".patternProperties.(", "has a ( that nothing closes"),
    ],
)
def test_what_an_answer_cannot_be_checked_against_is_refused(
    text: str, path: str, description: str
) -> None:
    """Schemas that never come to an end, and patterns that are not matched in linear time."""
    with pytest.raises(InvalidField) as caught:
        answer_schema(text)
    assert caught.value.violations == (Violation(f"output_schema{path}", description),)


def test_deep_nesting_is_refused_and_breaks_nothing() -> None:
    """Within the size that is allowed."""
    with pytest.raises(InvalidField):
        answer_schema("[" * 60_000)
    with pytest.raises(InvalidField):
        answer_schema('{"not":' * 9_000 + "{}" + "}" * 9_000)


def test_a_tool_that_takes_anything_needs_no_schema() -> None:
    """An empty one says nothing."""
    check_arguments(Struct(), field="tools[0].parameters")


def test_schemas_of_older_drafts_are_read_as_the_new_one() -> None:
    """Many tools name draft 7, and have nothing that has changed since."""
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "properties": {"a": {"$ref": "#/definitions/b"}, "$ref": {"type": "string"}},
        "definitions": {"b": {"enum": [{"$ref": "data"}]}},
    }
    check_arguments(_struct(schema), field="parameters")
    assert answer_schema(json.dumps(schema)).wrong({"a": {"$ref": "data"}}) == []


_TREE = answer_schema(
    json.dumps(
        {
            "type": "object",
            "properties": {
                "name": {"type": "string", "pattern": "^[a-z]+$"},
                "children": {"type": "array", "items": {"$ref": "#"}, "uniqueItems": True},
            },
            "patternProperties": {"^x-": {"type": "integer"}},
            "required": ["name"],
            "additionalProperties": False,
        }
    )
)


_VALUES: list[tuple[Any, list[str]]] = [
    ({"name": "a", "children": [{"name": "b"}, {"name": "c"}], "x-1": 2}, []),
    ({"children": []}, ["$: 'name' is a required property"]),
    ({"name": "A"}, ["$.name: 'A' does not match '^[a-z]+$'"]),
    ({"name": "a", "x-1": "2"}, ["$.x-1: '2' is not of type 'integer'"]),
    ({"name": "a", "y": 1}, ["$: 'y' is not among the properties"]),
    (
        {"name": "a", "children": [{"name": "b"}, {"name": "b"}]},
        ["$.children: has an item twice"],
    ),
    (
        {"name": "a", "children": [{"name": "b", "children": [{}]}]},
        ["$.children[0].children[0]: 'name' is a required property"],
    ),
]


@pytest.mark.parametrize(("value", "wrong"), _VALUES)
def test_what_is_wrong_with_a_value_is_said_by_path(value: Any, wrong: list[str]) -> None:
    """In words that the model is told, too."""
    assert [str(each).replace("['x-1']", ".x-1") for each in _TREE.wrong(value)] == wrong


def test_a_value_that_takes_too_long_is_given_up() -> None:
    """Twice the work a level: no error that it might have is worth that."""
    twice = {"properties": {"a": {"$ref": "#"}}}
    schema = answer_schema(json.dumps({"allOf": [twice, twice]}))
    value: dict[str, Any] = {}
    for _ in range(24):
        value = {"a": value}
    assert schema.wrong(value) == [Wrong("$", "takes too long to check against the schema")]
    assert schema.wrong({"a": {}}) == []


@settings(deadline=None)
@given(st.lists(st.integers(0, 3) | st.sampled_from([1.0, True, "1"]), max_size=4))
def test_items_are_equal_as_in_json(items: list[Any]) -> None:
    """1 and 1.0 are the same, 1 and true are not."""
    schema = answer_schema('{"properties": {"a": {"uniqueItems": true}}}')
    kinds = [(isinstance(each, bool), isinstance(each, str), each) for each in items]
    assert (schema.wrong({"a": items}) == []) == (len(set(kinds)) == len(kinds))


def test_a_compiled_schema_is_kept() -> None:
    """The next call with it finds it."""
    assert answer_schema('{"title": "kept"}') is answer_schema('{"title": "kept"}')
