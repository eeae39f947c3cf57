"""Answers in the shape of a JSON Schema, with what the texts say and nothing else."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.reasoning.offline.answer import Answer
from services.reasoning.offline.fields import Field, Texts, as_object
from services.reasoning.offline.turn import Turn

_DEEPEST: Final = 16
_MOST_FIELDS: Final = 200

_Json = Any


@dataclass(frozen=True, slots=True)
class Filled:
    """JSON of the wanted shape, or why there is none."""

    text: str
    refused: bool


def fill(output_schema: str, turn: Turn, answered: Answer) -> Filled:
    """An answer of the shape that `output_schema` wants.

    Fields are found by their names, descriptions, types and formats. What no
    text says is null or left out where the schema lets it; where it does not,
    the answer is refused and names the fields. Fields such as `answer` and
    `summary` take the answer in words, `citations` and `sources` its sources.
    """
    try:
        schema: _Json = json.loads(output_schema)
    except (ValueError, RecursionError):
        return Filled("I cannot read the schema that the answer should have.", refused=True)
    if not isinstance(schema, dict):
        return Filled("I cannot read the schema that the answer should have.", refused=True)
    root = as_object(schema)
    filler = _Filler(root, Texts(list(_texts(turn)), answered))
    value = filler.value(Field("", root), 0)
    if filler.unknown:
        missing = ", ".join(filler.unknown)
        return Filled(f"Nothing that I was given says: {missing}.", refused=True)
    return Filled(json.dumps(value, ensure_ascii=False), refused=False)


def _texts(turn: Turn) -> Iterator[str]:
    """All that a field may be found in, nearest first."""
    yield turn.request.request
    for work in (turn.request, *turn.done):
        for result in work.results:
            if not result.is_error:
                yield result.text
    yield from turn.reviews
    yield from reversed(turn.request.said)


class _Filler:
    """Fills in one schema."""

    def __init__(self, root: Mapping[str, _Json], texts: Texts) -> None:
        self._root = root
        self._texts = texts
        self._seen = 0
        # Paths of what must be there and is not known.
        self.unknown: list[str] = []

    def value(self, field: Field, depth: int) -> _Json:
        """The value of `field`; None where it is not known."""
        self._seen += 1
        if depth > _DEEPEST or self._seen > _MOST_FIELDS:
            self.unknown.append(f"{field.path} (nested too deeply)")
            return None
        field = self._resolved(field)
        found: _Json = None
        if field.kind == "object":
            found = self._object(field, depth)
        elif field.kind == "array":
            found = self._texts.several(field)
        else:
            found = self._texts.one(field)
        if found is None and not field.nullable and field.path not in self.unknown:
            self.unknown.append(field.path or "the answer")
        return found

    def _object(self, field: Field, depth: int) -> _Json:
        properties = field.properties
        required = field.required
        filled: dict[str, _Json] = {}
        for name, schema in properties.items():
            inner = self._resolved(field.inner(name, schema))
            before = len(self.unknown)
            value = self.value(inner, depth + 1)
            if len(self.unknown) > before and name not in required:
                # What need not be there is left out.
                del self.unknown[before:]
            elif value is not None or inner.nullable:
                filled[name] = value
        return filled

    def _resolved(self, field: Field) -> Field:
        """`field` with what its schema refers to, and without a null beside one other type."""
        schema = field.schema
        for _ in range(_DEEPEST):
            reference: _Json = schema.get("$ref")
            if not isinstance(reference, str) or not reference.startswith("#"):
                break
            target: _Json = self._root
            for part in [each for each in reference[1:].split("/") if each]:
                target = as_object(target).get(part)
            schema = as_object(target)
        return field.with_schema(schema)
