"""Arguments of tool calls: read as JSON, checked against the tool's JSON Schema."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, cast

from google.protobuf import struct_pb2
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from meshkit.errors import InvalidToolArguments, Violation
from meshkit.json_struct import to_mapping
from services.tool.tool import Json, ToolSpec

_ROOT: Final = "call.arguments"
_MAX_VIOLATIONS: Final = 20
_KINDS: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ArgumentSchema:
    """The schema of one tool's arguments, compiled once."""

    def __init__(self, spec: ToolSpec) -> None:
        """jsonschema's SchemaError where the tool's schema is none."""
        schema = dict(spec.parameters)
        Draft202012Validator.check_schema(schema)
        self._tool: Final = spec.id
        self._validator: Final[Any] = Draft202012Validator(schema)

    def read(self, arguments: struct_pb2.Struct) -> Mapping[str, Json]:
        """The arguments, if they fit.

        Raises InvalidToolArguments with a violation for each path that does not.
        """
        read = to_mapping(arguments)
        violations = list(_not_finite(read, _ROOT))
        if not violations:
            errors: Iterable[ValidationError] = self._validator.iter_errors(read)
            for error in errors:
                violations += _violations_of(error)
        if violations:
            # Sorted, and each once.
            ordered = sorted({(each.field, each.description): each for each in violations}.items())
            violations = [each for _, each in ordered[:_MAX_VIOLATIONS]]
            told = "; ".join(f"{each.field}: {each.description}" for each in violations)
            raise InvalidToolArguments(
                f"The arguments do not fit the tool {self._tool}: {told}",
                metadata={"tool": self._tool},
                violations=violations,
            )
        return read


def _not_finite(value: Json, path: str) -> Iterator[Violation]:
    """NaN and infinity, which a Struct can hold and JSON cannot say."""
    if isinstance(value, float) and not math.isfinite(value):
        yield Violation(path, "must be a finite number")
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _not_finite(each, _member(path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _not_finite(each, f"{path}[{index}]")


def _violations_of(error: ValidationError) -> list[Violation]:
    path = _path(error.absolute_path)
    expected: Any = error.validator_value
    given: Any = error.instance
    match error.validator:
        case "type":
            kinds = [expected] if isinstance(expected, str) else cast(list[str], expected)
            wanted = " or ".join(_KINDS.get(kind, kind) for kind in kinds)
            return [Violation(path, f"must be {wanted}, not {_shown(given)}")]
        case "required":
            # One error for each that is missing, without its name: all are told each time.
            missing = [key for key in expected if key not in given]
            return [Violation(_member(path, key), "is required") for key in missing]
        case "additionalProperties":
            known = list(cast(Any, error.schema).get("properties", {}))
            return [
                Violation(_member(path, key), f"is not known{_nearest(key, known)}")
                for key in sorted(given)
                if key not in known
            ]
        case "enum":
            allowed = ", ".join(map(repr, expected))
            return [Violation(path, f"must be one of {allowed}, not {_shown(given)}")]
        case "minimum":
            return [Violation(path, f"must be at least {expected}, not {_shown(given)}")]
        case "maximum":
            return [Violation(path, f"must be at most {expected}, not {_shown(given)}")]
        case "minLength":
            return [Violation(path, f"must have at least {expected} characters, not {len(given)}")]
        case "maxLength":
            return [Violation(path, f"must have at most {expected} characters, not {len(given)}")]
        case _:
            return [Violation(path, _cut(error.message))]


def _path(steps: Iterable[str | int]) -> str:
    path = _ROOT
    for step in steps:
        path = f"{path}[{step}]" if isinstance(step, int) else _member(path, step)
    return path


def _member(path: str, key: str) -> str:
    return f"{path}.{key}" if _PLAIN_KEY.fullmatch(key) else f"{path}[{_cut(repr(key))}]"


def _shown(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return f"the text {_cut(repr(value))}"
        case int() | float():
            return str(value)
        case dict():
            return "an object"
        case _:
            return "a list"


def _nearest(key: str, known: Sequence[str]) -> str:
    close = get_close_matches(key[:80], known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known are {', '.join(known)}" if known else "; there are no arguments"


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
