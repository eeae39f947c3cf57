"""What JSON Schema 2020-12 says of one schema, without those within it.

The published meta-schema refers to itself in a way that takes a millisecond to follow for
each schema within a schema. Here is what it says, flat; whoever checks goes down by himself.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

_SCHEMA: Final[Mapping[str, Any]] = {"type": ["object", "boolean"]}
_SCHEMAS: Final[Mapping[str, Any]] = {"type": "array", "minItems": 1}
_NAMED: Final[Mapping[str, Any]] = {"type": "object"}
_COUNT: Final[Mapping[str, Any]] = {"type": "integer", "minimum": 0}
_NUMBER: Final[Mapping[str, Any]] = {"type": "number"}
_TEXT: Final[Mapping[str, Any]] = {"type": "string"}
_YES_OR_NO: Final[Mapping[str, Any]] = {"type": "boolean"}
_NAMES: Final[Mapping[str, Any]] = {
    "type": "array",
    "items": {"type": "string"},
    "uniqueItems": True,
}
_KINDS: Final = ("array", "boolean", "integer", "null", "number", "object", "string")
_KIND: Final[Mapping[str, Any]] = {
    "anyOf": [
        {"enum": list(_KINDS)},
        {
            "type": "array",
            "items": {"enum": list(_KINDS)},
            "minItems": 1,
            "uniqueItems": True,
        },
    ]
}
_REFERENCE: Final[Mapping[str, Any]] = {"type": "string"}
_ANCHOR: Final[Mapping[str, Any]] = {"type": "string", "pattern": "^[A-Za-z_][-A-Za-z0-9._]*$"}
# Keywords whose value is a schema, a list of schemas, or schemas by name.
ONE: Final = (
    "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not",
    "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
SEVERAL: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
BY_NAME: Final = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
_META: Final[Mapping[str, Any]] = {
    "type": ["object", "boolean"],
    "properties": {
        **dict.fromkeys(ONE, _SCHEMA),
        **dict.fromkeys(SEVERAL, _SCHEMAS),
        **dict.fromkeys(BY_NAME, _NAMED),
        **dict.fromkeys(
            (
                "maxContains", "maxItems", "maxLength", "maxProperties",
                "minContains", "minItems", "minLength", "minProperties",
            ),
            _COUNT,
        ),
        **dict.fromkeys(
            ("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum"), _NUMBER
        ),
        **dict.fromkeys(
            (
                "$comment", "contentEncoding", "contentMediaType", "description", "format",
                "pattern", "title",
            ),
            _TEXT,
        ),
        **dict.fromkeys(("deprecated", "readOnly", "uniqueItems", "writeOnly"), _YES_OR_NO),
        **dict.fromkeys(("$dynamicRef", "$ref", "$schema"), _REFERENCE),
        **dict.fromkeys(("$anchor", "$dynamicAnchor"), _ANCHOR),
        "$id": {"type": "string", "pattern": "^[^#]*#?$"},
        "$vocabulary": {"type": "object", "additionalProperties": {"type": "boolean"}},
        "dependentRequired": {"type": "object", "additionalProperties": _NAMES},
        "enum": {"type": "array"},
        "examples": {"type": "array"},
        "multipleOf": {"type": "number", "exclusiveMinimum": 0},
        "required": _NAMES,
        "type": _KIND,
    },
}  # fmt: skip
_VALIDATOR: Final = Draft202012Validator(_META)


def wrong_with(schema: object) -> tuple[str, str] | None:
    """What is wrong with a schema's own keywords: the path within it, and why; None if nothing."""
    errors: Iterator[ValidationError] = cast(Any, _VALIDATOR).iter_errors(schema)
    error = next(errors, None)
    if error is None:
        return None
    path = "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path
    )
    return path, error.message


def within(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas within one whose own keywords are right, each with its path."""
    for keyword, value in schema.items():
        if keyword in ONE:
            yield f".{keyword}", value
        elif keyword in SEVERAL:
            for index, each in enumerate(value):
                yield f".{keyword}[{index}]", each
        elif keyword in BY_NAME:
            for name, each in value.items():
                yield f".{keyword}.{name}", each
