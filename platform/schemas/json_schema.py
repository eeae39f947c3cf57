"""JSON Schema 2020-12: which schemas are taken, and whether a value satisfies one.

Schemas come from callers. Nothing here goes to the network for them, and a schema that
would take long to check against is given up after a number of steps.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

from google.protobuf import struct_pb2
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend as _extend  # pyright: ignore[reportUnknownVariableType]
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from meshkit.errors import InvalidField
from meshkit.json_struct import MOST_DEEP, to_mapping
from schemas.linear_pattern import LinearPattern, PatternError
from schemas.meta_schema import within, wrong_with

_MOST_BYTES: Final = 64 * 1024
# As many keywords and steps of patterns in one check: about a third of a second.
_MOST_STEPS: Final = 100_000
_MOST_PROBING_STEPS: Final = 10_000
# Following a reference takes longer than another keyword.
_REFERENCE_STEPS: Final = 10
_MOST_WRONG: Final = 5
_MOST_SCHEMAS: Final = 2_000
_MOST_SHOWN: Final = 120
# Of all patterns of a schema.
_MOST_PATTERN_STATES: Final = 20_000
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
        self._pattern_states = 0
        for path, node in _nodes(schema, field):
            for keyword in _UNKNOWN:
                if keyword in node:
                    raise InvalidField(f"{path}.{keyword}", "is not known here; do without it")
            if "pattern" in node:
                self._add_pattern(node["pattern"], f"{path}.pattern")
            for name in node.get("patternProperties", ()):
                self._add_pattern(name, f"{path}.patternProperties.{name}")
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
            found = self._patterns.setdefault(pattern, LinearPattern(pattern))
        except PatternError as error:
            raise InvalidField(path, str(error)) from None
        self._pattern_states += found.states
        if self._pattern_states > _MOST_PATTERN_STATES:
            raise InvalidField(path, "is one too many: the patterns together are too large")

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
    resolver: Any = None
    for path, node in _nodes(schema, field):
        if "$id" in node and path != field:
            raise InvalidField(f"{path}.$id", "must stand at the root alone")
        if "$ref" in node:
            resolver = resolver or _resolver(schema)
            _check_reference(node["$ref"], f"{path}.$ref", resolver)


def _resolver(schema: Mapping[str, Any]) -> Any:
    uri = str(schema.get("$id", ""))
    registry: Registry[Any] = Registry()
    return registry.with_resource(uri, DRAFT202012.create_resource(schema)).resolver(uri)


def _check_reference(reference: str, path: str, resolver: Any) -> None:
    if not reference.startswith("#"):
        raise InvalidField(path, "must begin with #: no other document is fetched")
    try:
        resolver.lookup(reference)
    except (Unresolvable, ValueError, TypeError, AttributeError):
        # It also fails in ways of its own, where the path leads through what is no schema.
        raise InvalidField(path, f"refers to {_cut(reference)}, which is not there") from None


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


def _nodes(schema: Mapping[str, Any], field: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The schema and those within it, from the outside in, each with its path.

    Raises InvalidField where one is none, or nested too deep.
    """
    waiting: deque[tuple[str, Any, int]] = deque([(field, schema, 1)])
    count = 0
    while waiting:
        path, node, deep = waiting.popleft()
        count += 1
        if count > _MOST_SCHEMAS:
            raise InvalidField(path, f"is one too many: a schema may hold {_MOST_SCHEMAS} in all")
        wrong = wrong_with(node)
        if wrong is not None:
            beneath, why = wrong
            raise InvalidField(f"{path}{beneath}", f"is no JSON Schema: {_cut(why)}")
        if not isinstance(node, dict):
            continue
        if deep > MOST_DEEP:
            raise InvalidField(path, f"must be nested at most {MOST_DEEP} deep")
        node = cast(dict[str, Any], node)
        yield path, node
        waiting.extend((f"{path}{under}", each, deep + 1) for under, each in within(node))


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
