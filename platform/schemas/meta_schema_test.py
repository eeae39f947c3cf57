"""The flat meta-schema says what the published one says."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from schemas.meta_schema import within, wrong_with

_PUBLISHED: Any = Draft202012Validator(Draft202012Validator.META_SCHEMA)
_KEYWORDS = st.sampled_from(
    [
        "$anchor", "$comment", "$defs", "$dynamicAnchor", "$dynamicRef", "$id", "$ref",
        "$vocabulary", "additionalProperties", "allOf", "anyOf", "const", "contains",
        "contentEncoding", "contentSchema", "default", "definitions", "dependentRequired",
        "dependentSchemas", "deprecated", "description", "else", "enum", "examples",
        "exclusiveMaximum", "format", "if", "items", "maxContains", "maxLength", "maximum",
        "minItems", "minProperties", "minimum", "multipleOf", "not", "oneOf", "pattern",
        "patternProperties", "prefixItems", "properties", "propertyNames", "readOnly",
        "required", "then", "title", "type", "unevaluatedItems", "uniqueItems", "unknown",
    ]
)  # fmt: skip
_LEAVES: st.SearchStrategy[Any] = st.sampled_from(
    [
        True, False, None, 0, 1, -1, 1.0, 1.5, "", "string", "#a", "9", "a#b", "object", [], {},
        ["a", "a"], ["string", "null"], ["a"], [1], [{}], [True], {"a": True}, {"a": ["b"]},
    ]
)  # fmt: skip
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(_KEYWORDS, inner, max_size=2)
        | st.dictionaries(st.sampled_from(["a", "type"]), inner, max_size=2)
    ),
    max_leaves=6,
)


def _is_right(schema: Any) -> bool:
    if wrong_with(schema) is not None:
        return False
    if not isinstance(schema, dict):
        return True
    return all(_is_right(each) for _, each in within(schema))  # pyright: ignore[reportUnknownArgumentType]


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(_KEYWORDS, _VALUES, min_size=1, max_size=3))
def test_it_agrees_with_the_published_one(schema: dict[str, Any]) -> None:
    """About any schema, with those within it."""
    assert _is_right(schema) == _PUBLISHED.is_valid(schema)
