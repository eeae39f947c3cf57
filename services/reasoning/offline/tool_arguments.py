"""Reads the arguments of a tool out of a sentence, by their names, descriptions and types."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from google.protobuf.struct_pb2 import Struct

from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from services.reasoning.offline.argument_labels import labels, nearness, telling
from services.reasoning.offline.dates import DATE, read_date
from services.reasoning.offline.mentions import Number, lists, name_lists, names, numbers, quotes
from services.reasoning.offline.words import STOP_WORDS, stem, stems, words

Scalar = str | int | float | bool
Argument = Scalar | Sequence[Scalar]

_JSON: Final = re.compile(r"\{[^{}]{0,8000}\}")
_DATE: Final = re.compile(DATE, re.IGNORECASE)
_EMAIL: Final = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}\b")
_IDENTIFIER: Final = re.compile(
    r"(?<![\w-])(?=[\w-]{0,40}\d)(?=[\w-]{0,40}[A-Za-z])[\w-]{2,80}(?![\w-])|#\d+"
)
# "5000m", "3rd", "2nd": no identifier.
_MEASURE: Final = re.compile(r"\d+[a-zA-Z]{1,3}$|\d+-[a-z]+$")
_AFTER_PREPOSITION: Final = re.compile(
    r"\b(?:in|for|of|at|to|from|about|with|named|called)\s+(?:the\s+)?(?P<rest>[^?.!,;]{1,200})",
    re.IGNORECASE,
)
_TRUE: Final = frozenset(["yes", "true", "on"])
_FALSE: Final = frozenset(["no", "not", "without", "false", "off"])
# Where an argument's value stands, by what the argument is called.
_PREPOSITIONS: Final[Mapping[str, Sequence[str]]] = {
    **dict.fromkeys(
        ["location", "city", "place", "country", "state", "region", "area", "town", "venue"],
        ("in", "at", "near", "around", "for", "of", "to"),
    ),
    **dict.fromkeys(["from", "origin", "start", "departure", "source"], ("from", "between")),
    **dict.fromkeys(["destination", "arrival", "end", "target"], ("to", "and")),
    **dict.fromkeys(["name", "person", "artist", "player", "author", "team", "company", "title"],
                    ("of", "by", "for", "named", "called", "about", "player", "company", "artist")),
}  # fmt: skip
# A value without quotes or capitals has at most so many words.
_MOST_WORDS: Final = 3


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A tool that a sentence asks for."""

    tool: str
    arguments: Mapping[str, Argument]
    # Required arguments that the sentence does not give.
    missing: tuple[str, ...]


def fill(tool: pb.ToolSpec, text: str) -> ToolRequest:
    """A call of `tool` with what `text` says of its arguments."""
    return _request(tool, _Arguments(tool, text).found())


def fill_each(tool: pb.ToolSpec, text: str) -> list[ToolRequest]:
    """A call of `tool` for each of the values that `text` lists for one argument.

    Empty where it names numbers, names or quotes that no argument takes: then
    more is meant than was understood.
    """
    arguments = _Arguments(tool, text)
    found = arguments.found()
    left = arguments.left()
    if not left:
        return [_request(tool, found)]
    for group in arguments.groups():
        if set(left) <= set(group):
            inside = [name for name, value in found.items() if value in group]
            if len(inside) == 1:
                return [_request(tool, {**found, inside[0]: value}) for value in group]
    return []


def _request(tool: pb.ToolSpec, found: Mapping[str, Argument]) -> ToolRequest:
    missing = tuple(name for name in _strings(tool.parameters, "required") if name not in found)
    return ToolRequest(tool.name, found, missing)


class _Arguments:
    """Fills in the arguments of one call."""

    def __init__(self, tool: pb.ToolSpec, text: str) -> None:
        self._text = text
        self._required = _strings(tool.parameters, "required")
        # A map of the contract has no order, and answers must not depend on chance.
        given = _struct(tool.parameters, "properties")
        first = [name for name in dict.fromkeys(self._required) if name in given]
        order = [*first, *sorted(set(given) - set(first))]
        self._properties = {name: given[name] for name in order}
        # Numbers and months of a date are no arguments of their own.
        dated = any("date" in words(_spaced(name)) for name in self._properties)
        plain = _DATE.sub(lambda match: "." * len(match[0]), text) if dated else text
        self._numbers = numbers(plain)
        self._all_names = names(plain)
        self._names = list(self._all_names)
        self._quotes = quotes(text)
        self._taken: set[int] = set()
        self._found: dict[str, Argument] = {}
        self._own = set(stems(f"{_spaced(tool.name)} {tool.description[:1000]}"))

    def found(self) -> Mapping[str, Argument]:
        """What was found, in the schema's order."""
        self._found.update(_from_json(self._text, self._properties))
        schemas = {
            name: each.struct_value
            for name, each in self._properties.items()
            if name not in self._found
        }
        for name, schema in schemas.items():
            self._keep(name, _explicit(name, schema, self._text))
        self._fill_lists(schemas)
        self._fill_numbers(schemas)
        for name, schema in schemas.items():
            if name not in self._found:
                self._keep(name, self._said(name, schema))
        return {name: self._found[name] for name in self._properties if name in self._found}

    def left(self) -> list[Scalar]:
        """What the text mentions and no argument took."""
        taken = [
            each
            for value in self._found.values()
            for each in (value if isinstance(value, list) else [value])
        ]
        texts = " ".join(str(each) for each in taken if isinstance(each, str))
        plain = re.sub(r"\W+", " ", texts).lower()
        return [
            *(
                each.value
                for index, each in enumerate(self._numbers)
                if index not in self._taken and str(int(each.value)) not in texts
            ),
            *(
                each.text
                for each in self._all_names
                if re.sub(r"\W+", " ", each.text).lower().strip() not in plain
                and not self._is_label(each.text)
            ),
            *self._quotes,
        ]

    def groups(self) -> list[Sequence[Scalar]]:
        """The lists of numbers, and of names, that the text has."""
        return [
            *([each.value for each in group] for group in lists(self._text, self._numbers)),
            *([each.text for each in group] for group in name_lists(self._text, self._all_names)),
        ]

    def _is_label(self, text: str) -> bool:
        """Whether a name is one of the tool's own words: "BMI", "GCD"."""
        return set(map(stem, words(text))) <= self._own

    def _keep(self, name: str, value: Argument | None) -> None:
        if value is None:
            return
        self._found[name] = value
        for index, number in enumerate(self._numbers):
            if (
                isinstance(value, int | float)
                and number.value == value
                and index not in self._taken
            ):
                self._taken.add(index)
                break

    def _fill_lists(self, schemas: Mapping[str, Struct]) -> None:
        wanted = [
            name
            for name, schema in schemas.items()
            if name not in self._found and _type(schema) == "array" and name in self._required
        ]
        groups = lists(self._text, self._numbers)
        of_numbers = [name for name in wanted if _item_type(schemas[name]) in ("number", "integer")]
        if len(groups) == len(of_numbers):
            for name, group in zip(of_numbers, groups, strict=True):
                kind = _item_type(schemas[name])
                read = [int(each.value) if kind == "integer" else each.value for each in group]
                self._found[name] = read
                self._taken.update(self._numbers.index(each) for each in group)
        of_texts = [name for name in wanted if _item_type(schemas[name]) == "string"]
        if len(of_texts) == 1 and self._quotes:
            self._found[of_texts[0]] = self._quotes
            self._quotes = []

    def _fill_numbers(self, schemas: Mapping[str, Struct]) -> None:
        """Numbers go to the names that stand beside them; what is left, in order."""
        wanted = [
            name
            for name, schema in schemas.items()
            if name not in self._found and _type(schema) in ("number", "integer")
        ]
        named = telling(
            {name: labels(_spaced(name), _text(schemas[name], "description")) for name in wanted}
        )
        likely = [
            (nearness(*named[name], number), index, name)
            for name in wanted
            for index, number in enumerate(self._numbers)
            if index not in self._taken
        ]
        for score, index, name in sorted(likely, key=lambda each: (-each[0], each[1])):
            if score and index not in self._taken and name not in self._found:
                value = _scaled(self._numbers[index], schemas[name])
                if value is not None:
                    self._found[name] = value
                    self._taken.add(index)
        left = [each for index, each in enumerate(self._numbers) if index not in self._taken]
        missing = [name for name in wanted if name in self._required and name not in self._found]
        if len(missing) == 1 and any(list(group) == left for group in lists(self._text, left)):
            # Each of them makes a call of its own.
            left = left[:1]
        if missing and len(left) == len(missing):
            for name, number in zip(missing, left, strict=True):
                value = _scaled(number, schemas[name])
                if value is not None:
                    self._keep(name, value)

    def _said(self, name: str, schema: Struct) -> Argument | None:
        choices = _strings(schema, "enum")
        if choices:
            return _choice(choices, self._text)
        kind = _type(schema)
        if kind == "boolean":
            return self._said_so(name)
        if kind != "string":
            return None
        spoken = words(_spaced(name))
        if "date" in spoken or "dates" in spoken:
            return self._date()
        if "email" in spoken and (match := _EMAIL.search(self._text)) is not None:
            return match[0]
        for word in spoken:
            for preposition in _PREPOSITIONS.get(word, ()):
                for each in self._names:
                    if each.preposition == preposition:
                        self._names.remove(each)
                        return each.text
        return self._remaining() if self._only_text(name) else None

    def _only_text(self, name: str) -> bool:
        """Whether all required texts but this one are known: then what is left is this one's."""
        texts = [
            each
            for each in self._required
            if each in self._properties
            and each not in self._found
            and _type(self._properties[each].struct_value) == "string"
            and not _strings(self._properties[each].struct_value, "enum")
        ]
        return texts == [name] or (name in texts and len(texts) == len(self._quotes or self._names))

    def _said_so(self, name: str) -> bool | None:
        """Whether what a switch is called is said: True; with a "no" before it, False."""
        label = [stem(word) for word in words(_spaced(name)) if word not in STOP_WORDS]
        said = stems(self._text)
        if not label or not set(label) <= set(said):
            return None
        place = said.index(label[0])
        return _FALSE.isdisjoint(said[max(0, place - 2) : place])

    def _date(self) -> str | None:
        match = _DATE.search(self._text)
        if match is None:
            return None
        named = read_date(match[0])
        day = named.within(named.year) if named is not None and named.year else None
        return day.isoformat() if day is not None else match[0]

    def _remaining(self) -> str | None:
        """A text that nothing else took: in quotes, with digits, a name, what follows an "of"."""
        if self._quotes:
            return self._quotes.pop(0)
        for identifier in _IDENTIFIER.finditer(self._text):
            if identifier[0] not in self._found.values() and not _MEASURE.match(identifier[0]):
                return identifier[0]
        if self._names:
            return self._names.pop(0).text
        match = _AFTER_PREPOSITION.search(self._text)
        if match is None or match["rest"].strip() in self._found.values():
            return None
        rest = match["rest"].strip()
        return rest if len(rest.split()) <= _MOST_WORDS else None


def _scaled(number: Number, schema: Struct) -> int | float | None:
    kind = _type(schema)
    value = number.value
    if number.percent and kind == "number" and "percent" not in _text(schema, "description"):
        value = float(f"{value / 100:.12g}")
    if kind == "integer":
        return int(value) if value == int(value) else None
    return value


def _choice(choices: Sequence[str], text: str) -> str | None:
    """The choice that is said; the longest of several."""
    spoken = text.lower()
    said = [each for each in choices if each and _says(spoken, each.lower())]
    return max(said, key=len, default=None)


def _says(spoken: str, choice: str) -> bool:
    if choice.partition("_")[0] not in spoken:
        return False
    named = re.escape(choice).replace("_", "[_ -]")
    return re.search(rf"(?<!\w){named}s?(?!\w)", spoken) is not None


def _from_json(clause: str, properties: Mapping[str, Any]) -> Mapping[str, Argument]:
    match = _JSON.search(clause)
    if match is None:
        return {}
    try:
        value: Any = json.loads(match[0])
    except ValueError:
        return {}
    if not isinstance(value, dict):
        return {}
    given = cast(dict[str, Any], value)
    return {
        name: each
        for name, each in given.items()
        if name in properties and isinstance(each, str | int | float | bool)
    }


def _explicit(name: str, schema: Struct, clause: str) -> Argument | None:
    """The value in `name=value`, `name: value`, "the name is 'value'"."""
    if name.lower().replace("_", " ") not in clause.lower().replace("_", " "):
        # Most names are not said, and a pattern for each would cost more than this look.
        return None
    spoken = re.escape(name).replace("_", "[_ ]")
    match = re.search(
        rf"\b{spoken}\s*[=:]\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s,;]+))", clause, re.IGNORECASE
    ) or re.search(
        rf"\b{spoken}\s+(?:(?:name|is|should\s+be|must\s+be|named|called|to|as|with|of|value)\s+)"
        r"{0,3}(?:\"([^\"]+)\"|'([^']+)'(?!\w))",
        clause,
        re.IGNORECASE,
    )
    if match is None:
        return None
    text = next(group for group in match.groups() if group is not None)
    return _converted(_type(schema), text)


def _converted(kind: str, text: str) -> Argument | None:
    if kind == "boolean":
        return text.lower() in _TRUE
    if kind not in ("number", "integer"):
        return text
    try:
        return int(text.rstrip(".")) if kind == "integer" else float(text.rstrip("."))
    except ValueError:
        return None


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ")


def _text(schema: Struct, key: str) -> str:
    return schema.fields[key].string_value if key in schema.fields else ""


def _type(schema: Struct) -> str:
    return _text(schema, "type") or "string"


def _item_type(schema: Struct) -> str:
    return _type(schema.fields["items"].struct_value) if "items" in schema.fields else "string"


def _struct(schema: Struct, key: str) -> Mapping[str, Any]:
    return schema.fields[key].struct_value.fields if key in schema.fields else {}


def _strings(schema: Struct, key: str) -> list[str]:
    if key not in schema.fields:
        return []
    return [each.string_value for each in schema.fields[key].list_value.values]
