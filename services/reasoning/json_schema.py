"""JSON Schema 2020-12: which schemas are taken, and whether a value satisfies one.

Schemas come from callers. Nothing here goes to the network for them, and a schema that
would take long to check against is given up after a number of steps.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

from google.protobuf import struct_pb2
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.exceptions import (
    best_match as _best_match,  # pyright: ignore[reportUnknownVariableType]
)
from jsonschema.validators import extend as _extend  # pyright: ignore[reportUnknownVariableType]
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from meshkit.errors import InvalidField
from services.reasoning.json_struct import MOST_DEEP, to_mapping
from services.reasoning.linear_pattern import LinearPattern, PatternError

_MOST_BYTES: Final = 64 * 1024
# As many keywords and steps of patterns in one check: about a third of a second.
_MOST_STEPS: Final = 100_000
_MOST_PROBING_STEPS: Final = 10_000
# Following a reference takes longer than another keyword.
_REFERENCE_STEPS: Final = 10
_MOST_WRONG: Final = 5
_MOST_SHOWN: Final = 120
# What stands under these is data, not schemas.
_DATA: Final = ("const", "default", "enum", "examples")
# Their values are schemas by names of the caller's.
_NAMED: Final = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
_UNKNOWN: Final = ("$dynamicRef", "$recursiveRef", "unevaluatedItems", "unevaluatedProperties")
# Each begins another way through a schema that refers to itself without an end.
_PROBES: Final[Sequence[Any]] = ({}, [], "", 0, None)

_Rule = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


class TooMuchWork(Exception):
    """A value takes more steps to check than may be made."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong with a value, and where, as in `$.a`."""

    path: str
    description: str

    def __str__(self) -> str:
        return f"{self.path}: {self.description}"


class Schema:
    """A schema, compiled, which values are checked against."""

    def __init__(self, schema: Mapping[str, Any], *, field: str) -> None:
        """Raises InvalidField with the path, from `field` on, of what is wrong with it."""
        check_schema(schema, field=field)
        self.schema: Final = schema
        self._left = 0
        self._patterns: Final[dict[str, LinearPattern]] = {}
        for path, keyword, value in _keywords(schema, field, MOST_DEEP):
            if keyword in _UNKNOWN:
                raise InvalidField(path, "is not known here; do without it")
            if keyword == "pattern":
                self._add_pattern(value, path)
            elif keyword == "patternProperties":
                for name in value:
                    self._add_pattern(name, f"{path}.{name}")
        # Without a registry of ours, addresses in `$ref` would be fetched.
        self._validator: Final[Any] = _validator_class(self._spend, self._is_in)(
            schema, registry=Registry[Any]()
        )
        self._check_that_it_ends(field)

    def wrong(self, value: Any) -> Sequence[Wrong]:
        """What about `value` is wrong, the first few of it."""
        self._left = _MOST_STEPS
        found: list[Wrong] = []
        try:
            errors: Iterable[ValidationError] = self._validator.iter_errors(value)
            for error in errors:
                found.append(Wrong(_cut(error.json_path), _cut(error.message)))
                if len(found) == _MOST_WRONG:
                    break
        except (TooMuchWork, RecursionError):
            found.append(Wrong("$", "takes too long to check against the schema"))
        return found

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise TooMuchWork

    def _is_in(self, pattern: str, text: str) -> bool:
        return self._patterns[pattern].is_in(text, self._spend)

    def _add_pattern(self, pattern: str, path: str) -> None:
        try:
            self._patterns[pattern] = LinearPattern(pattern)
        except PatternError as error:
            raise InvalidField(path, str(error)) from None

    def _check_that_it_ends(self, field: str) -> None:
        self._left = _MOST_PROBING_STEPS
        try:
            for probe in _PROBES:
                for _ in self._validator.iter_errors(probe):
                    pass
        except (TooMuchWork, RecursionError):
            raise InvalidField(
                field, "must not refer to itself, or fan out, without an end"
            ) from None


def check_schema(schema: Mapping[str, Any], *, field: str) -> None:
    """Checks that a schema is one, for objects, and refers to itself alone.

    Raises InvalidField with the path, from `field` on, of what is wrong.
    """
    if schema.get("type", "object") != "object":
        raise InvalidField(f"{field}.type", "must be 'object' at the root")
    _check_meta(schema, field)
    uri = str(schema.get("$id", ""))
    registry: Registry[Any] = Registry()
    resolver = registry.with_resource(uri, DRAFT202012.create_resource(schema)).resolver(uri)
    for path, keyword, value in _keywords(schema, field, MOST_DEEP):
        if keyword == "$id" and path != f"{field}.$id":
            raise InvalidField(path, "must stand at the root alone")
        if keyword == "$ref":
            if not value.startswith("#"):
                raise InvalidField(path, "must begin with #: no other document is fetched")
            try:
                resolver.lookup(value)
            except Unresolvable:
                raise InvalidField(path, f"refers to {_cut(value)}, which is not there") from None


def check_arguments(parameters: struct_pb2.Struct, *, field: str) -> None:
    """Checks the JSON Schema of a tool's arguments; no fields mean any arguments.

    Raises InvalidField with the exact path.
    """
    if not parameters.fields:
        return
    try:
        _arguments(parameters.SerializeToString(deterministic=True))
    except InvalidField as error:
        raise _beneath(field, error) from None


def answer_schema(text: str, *, field: str = "output_schema") -> Schema:
    """The schema of an answer, from its text. Raises InvalidField with the exact path."""
    try:
        return _answer(text)
    except InvalidField as error:
        raise _beneath(field, error) from None


# The same tools and schemas come with call after call.
@lru_cache(maxsize=512)
def _arguments(encoded: bytes) -> None:
    if len(encoded) > _MOST_BYTES:
        raise InvalidField("", f"must have at most {_MOST_BYTES} bytes, not {len(encoded)}")
    check_schema(to_mapping(struct_pb2.Struct.FromString(encoded)), field="")


@lru_cache(maxsize=128)
def _answer(text: str) -> Schema:
    size = len(text.encode())
    if size > _MOST_BYTES:
        raise InvalidField("", f"must have at most {_MOST_BYTES} bytes, not {size}")
    try:
        schema: Any = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidField("", f"must be JSON: {_cut(str(error))}") from None
    if not isinstance(schema, dict):
        raise InvalidField("", "must be a JSON object")
    return Schema(cast(dict[str, Any], schema), field="")


def _beneath(field: str, error: InvalidField) -> InvalidField:
    (violation,) = error.violations
    return InvalidField(f"{field}{violation.field}", violation.description)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _keywords(schema: Any, path: str, deep: int) -> Iterator[tuple[str, str, Any]]:
    """Each keyword of a schema and of those within it: path, keyword, value."""
    if isinstance(schema, list):
        for index, each in enumerate(cast(list[Any], schema)):
            yield from _keywords(each, f"{path}[{index}]", deep - 1)
    if not isinstance(schema, dict):
        return
    if deep <= 0:
        raise InvalidField(path, f"must be nested at most {MOST_DEEP} deep")
    for keyword, value in cast(dict[str, Any], schema).items():
        within = f"{path}.{keyword}"
        yield within, keyword, value
        if keyword in _NAMED:
            for name, each in value.items():
                yield from _keywords(each, f"{within}.{name}", deep - 1)
        elif keyword not in _DATA:
            yield from _keywords(value, within, deep - 1)


def _check_meta(schema: Mapping[str, Any], field: str) -> None:
    meta: Any = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    try:
        error: ValidationError | None = cast(Any, _best_match)(meta.iter_errors(schema))
    except RecursionError:
        raise InvalidField(field, f"must be nested at most {MOST_DEEP} deep") from None
    if error is not None:
        path = field
        for step in error.absolute_path:
            path = f"{path}[{step}]" if isinstance(step, int) else f"{path}.{step}"
        raise InvalidField(path, f"is no JSON Schema: {_cut(error.message)}")


def _validator_class(spend: Callable[[int], None], is_in: Callable[[str, str], bool]) -> Any:
    """2020-12 with every keyword counted, and patterns matched in linear time."""

    def counted(rule: _Rule, steps: int) -> _Rule:
        def rule_that_counts(
            validator: Any, value: Any, instance: Any, schema: Any
        ) -> Iterator[ValidationError] | None:
            spend(steps)
            return rule(validator, value, instance, schema)

        return rule_that_counts

    def pattern(_: Any, value: Any, instance: Any, __: Any) -> Iterator[ValidationError]:
        if isinstance(instance, str) and not is_in(value, instance):
            yield ValidationError(f"{instance!r} does not match {value!r}")

    def pattern_properties(
        validator: Any, value: Any, instance: Any, _: Any
    ) -> Iterator[ValidationError]:
        if isinstance(instance, dict):
            for name, subschema in value.items():
                for key, each in cast(dict[str, Any], instance).items():
                    if is_in(name, key):
                        yield from validator.descend(each, subschema, path=key, schema_path=name)

    def additional_properties(
        validator: Any, value: Any, instance: Any, schema: Any
    ) -> Iterator[ValidationError]:
        if not isinstance(instance, dict):
            return
        names, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        for key, each in cast(dict[str, Any], instance).items():
            if key in names or any(is_in(name, key) for name in patterns):
                continue
            if value is False:
                yield ValidationError(f"{key!r} is not among the properties")
            else:
                yield from validator.descend(each, value, path=key)

    def unique_items(_: Any, value: Any, instance: Any, __: Any) -> Iterator[ValidationError]:
        if value and isinstance(instance, list):
            items = cast(list[Any], instance)
            spend(len(items))
            if len({json.dumps(_plain(each), sort_keys=True) for each in items}) < len(items):
                yield ValidationError("has an item twice")

    own: dict[str, _Rule] = {
        "additionalProperties": additional_properties,
        "pattern": pattern,
        "patternProperties": pattern_properties,
        "uniqueItems": unique_items,
    }
    rules: Mapping[str, _Rule] = {**cast(Any, Draft202012Validator).VALIDATORS, **own}
    return cast(Any, _extend)(
        Draft202012Validator,
        {
            keyword: counted(rule, _REFERENCE_STEPS if keyword == "$ref" else 1)
            for keyword, rule in rules.items()
        },
    )


def _plain(value: Any) -> Any:
    """With equal numbers written in the same way."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(each) for each in cast(list[Any], value)]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in cast(dict[str, Any], value).items()}
    return value


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."
