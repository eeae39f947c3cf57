"""Finds the value of one field of a schema in texts: by its label, its type and its format."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final, cast

from services.reasoning.offline.answer import Answer
from services.reasoning.offline.dates import DATE, read_date
from services.reasoning.offline.words import STOP_WORDS, stem, words

_Json = Any

# Of all texts together so many characters are read.
_MOST_CHARACTERS: Final = 64_000
_LONGEST_LABEL: Final = 60
_LONGEST_VALUE: Final = 500
_MOST_ITEMS: Final = 100
# Names of fields that the answer in words belongs into, and those for its sources.
_ANSWER_NAMES_TEXT: Final = """
    answer summary text response result reply message explanation conclusion content output
"""
_ANSWER_NAMES: Final = frozenset(map(stem, _ANSWER_NAMES_TEXT.split()))
_SOURCE_NAMES: Final = frozenset(map(stem, ["citation", "source", "reference", "document"]))
_TRUE: Final = frozenset(["yes", "true", "y", "on"])
_FALSE: Final = frozenset(["no", "false", "n", "off"])

# "Invoice number: 42", "- **Due date**: 3 May", "| Total | 12.50 |".
_LABELLED: Final = re.compile(
    r"^[\s>*•|#-]{0,12}(?P<label>[^\W\d_][^\n:=|]{0,59}?)[*\s]{0,4}(?::(?!//)|=|\|)[*\s]{0,4}(?P<value>[^\n|]{1,500})",
    re.MULTILINE,
)
_NUMBER: Final = re.compile(
    r"(?<![\w.,/-])(?P<sign>[-−]?)[$€£¥]?\s?(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,18}(?:\.\d{1,18})?)"
    r"(?![\d/]|[.,]\d|-\d)"
)
_DATE: Final = re.compile(DATE, re.IGNORECASE)
_DATE_TIME: Final = re.compile(
    r"\b\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d)?"
)
_TIME: Final = re.compile(r"\b(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?\b")
_EMAIL: Final = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}\b")
_URI: Final = re.compile(r"\bhttps?://[^\s<>\"'）)]{1,2000}")
_UUID: Final = re.compile(
    r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE
)
_IPV4: Final = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])")
_PHONE: Final = re.compile(r"(?<![\w.])\+?\d[\d ()/-]{6,18}\d(?![\w])")
_FORMATS: Final = {
    "date": _DATE,
    "date-time": _DATE_TIME,
    "time": _TIME,
    "email": _EMAIL,
    "uri": _URI,
    "url": _URI,
    "uuid": _UUID,
    "ipv4": _IPV4,
    "phone": _PHONE,
}
# Words of a name or a description that tell the format of a text.
_FORMAT_WORDS: Final = {
    "email": "email", "mail": "email", "url": "uri", "uri": "uri", "link": "uri",
    "website": "uri", "uuid": "uuid", "phone": "phone", "telephone": "phone", "date": "date",
    "birthday": "date",
}  # fmt: skip
# What there is one of in a text may be taken without a label.
_TELLING: Final = frozenset(["email", "uri", "url", "uuid", "ipv4", "date-time"])
_LIST: Final = re.compile(r"\s*(?:[;,]|\band\b)\s*")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Field:
    """A place in a schema."""

    # From the root, with dots; empty for the root.
    path: str
    schema: Mapping[str, _Json]
    nullable: bool = False
    name: str = ""

    def with_schema(self, schema: Mapping[str, _Json]) -> "Field":
        """This field with another schema, of which a null beside another type is taken apart."""
        nullable = self.nullable
        kinds: _Json = schema.get("type")
        if isinstance(kinds, list):
            listed = cast(list[_Json], kinds)
            nullable = nullable or "null" in listed
            others = [each for each in listed if each != "null"]
            schema = {**schema, "type": others[0] if others else "null"}
        for word in ("anyOf", "oneOf"):
            choices: _Json = schema.get(word)
            if isinstance(choices, list):
                given = [
                    cast(dict[str, _Json], each)
                    for each in cast(list[_Json], choices)
                    if isinstance(each, dict)
                ]
                others = [each for each in given if each.get("type") != "null"]
                nullable = nullable or len(others) < len(given)
                if others:
                    schema = {**{k: v for k, v in schema.items() if k != word}, **others[0]}
        nullable = nullable or schema.get("type") == "null" or None in _list(schema.get("enum"))
        return replace(self, schema=schema, nullable=nullable)

    def inner(self, name: str, schema: _Json) -> "Field":
        """A property of this object."""
        path = f"{self.path}.{name}" if self.path else name
        given = as_object(schema)
        return Field(path, given, name=name).with_schema(given)

    @property
    def kind(self) -> str:
        """The schema's type; as what it has tells, where it has none."""
        kind: _Json = self.schema.get("type")
        if isinstance(kind, str):
            return kind
        if "properties" in self.schema:
            return "object"
        return "array" if "items" in self.schema else "string"

    @property
    def properties(self) -> Mapping[str, _Json]:
        """The properties of an object."""
        properties: _Json = self.schema.get("properties")
        return as_object(properties)

    @property
    def required(self) -> Sequence[_Json]:
        """The names of the properties that must be there."""
        return _list(self.schema.get("required"))

    @property
    def choices(self) -> Sequence[_Json]:
        """The only values that there may be; empty for any."""
        if "const" in self.schema:
            return [self.schema["const"]]
        return _list(self.schema.get("enum"))

    @property
    def format(self) -> str:
        """The format of a text, as the schema or the field's words tell it; empty for none."""
        given: _Json = self.schema.get("format")
        if isinstance(given, str) and given in _FORMATS:
            return given
        named = words(_spaced(self.name))
        return next((_FORMAT_WORDS[each] for each in named if each in _FORMAT_WORDS), "")

    @property
    def labels(self) -> list[list[str]]:
        """What texts may call it, as stems: the name, the title, the description's first words."""
        spoken = [_spaced(self.name), str(self.schema.get("title", ""))]
        described = str(self.schema.get("description", ""))[:200].split(".")[0]
        found = [[stem(word) for word in words(each)] for each in spoken]
        found.append([stem(word) for word in words(described) if word not in STOP_WORDS][:4])
        return [each for each in found if each]


class Texts:
    """All that fields are found in."""

    def __init__(self, texts: Sequence[str], answered: Answer) -> None:
        self._answered = answered
        self._whole = "\n".join(texts)[:_MOST_CHARACTERS]

    def one(self, field: Field) -> _Json:
        """The value of a field that is no list and no object; None where no text says it."""
        stems = {stem(word) for word in words(_spaced(field.name))}
        if field.kind == "string" and not field.choices and stems and stems <= _ANSWER_NAMES:
            return self._answered.text
        labelled = self._labelled(field)
        for value in labelled:
            read = _read(field, value)
            if read is not None:
                return read
        if field.choices:
            return self._choice(field)
        if field.kind == "boolean" or labelled:
            return None
        return self._near_label(field)

    def several(self, field: Field) -> list[_Json] | None:
        """The items of a list; None where no text says them."""
        item = Field(field.path, as_object(field.schema.get("items")))
        item = replace(item.with_schema(item.schema), name=field.name)
        stems = {stem(word) for word in words(_spaced(field.name))}
        if stems and stems <= _SOURCE_NAMES and item.kind == "string":
            return [_source(each) for each in self._answered.citations]
        if item.kind in ("object", "array"):
            return None
        for value in self._labelled(field):
            parts = [each.strip() for each in _LIST.split(value) if each.strip()]
            read = [_read(item, part) for part in parts[:_MOST_ITEMS]]
            if read and all(each is not None for each in read):
                return read
        if item.choices:
            spoken = self._whole.lower()
            found = [each for each in item.choices if isinstance(each, str) and _says(spoken, each)]
            return found or None
        pattern = _FORMATS.get(item.format)
        if pattern is None:
            return None
        found = [_read(item, match[0]) for match in pattern.finditer(self._whole)][:_MOST_ITEMS]
        return list(dict.fromkeys(each for each in found if each is not None)) or None

    def _labelled(self, field: Field) -> list[str]:
        """The values that stand beside a label of `field`, the nearest label's first."""
        scored: list[tuple[int, str]] = []
        labels = field.labels
        for label, value in self._pairs:
            score = max(
                (_likeness(each, label, named=not index) for index, each in enumerate(labels)),
                default=0,
            )
            if score:
                scored.append((score, value))
        scored.sort(key=lambda each: -each[0])
        return [value for score, value in scored if score == scored[0][0]]

    @property
    def _pairs(self) -> Iterator[tuple[list[str], str]]:
        for match in _LABELLED.finditer(self._whole):
            label = [stem(word) for word in words(match["label"])]
            if label and len(label) <= 6:
                yield label, match["value"].strip(" *_\t\r")

    def _choice(self, field: Field) -> _Json:
        """The one choice that is said; None where none or several are."""
        spoken = self._whole.lower()
        said = [each for each in field.choices if isinstance(each, str) and _says(spoken, each)]
        return said[0] if len(said) == 1 else None

    def _near_label(self, field: Field) -> _Json:
        """The value that follows the field's name in a sentence; a telling one without it."""
        pattern = _NUMBER if field.kind in ("number", "integer") else _FORMATS.get(field.format)
        if pattern is None:
            return self._said_to_be(field)
        if pattern is _NUMBER and (result := self._worked_out(field)) is not None:
            return result
        for label in field.labels[:1]:
            mention = re.compile(
                r"\b" + r"[\W_]{1,3}".join(re.escape(each) + r"\w{0,4}" for each in label)
                + r"\b(?P<after>[^.\n?!;]{0,80}(?:\.\d[^.\n?!;]{0,40})?)",
                re.IGNORECASE,
            )  # fmt: skip
            for match in mention.finditer(self._whole):
                for value in pattern.finditer(match["after"]):
                    read = _read(field, value[0])
                    if read is not None:
                        return read
        if field.format in _TELLING:
            values = list(dict.fromkeys(match[0] for match in pattern.finditer(self._whole)))
            return _read(field, values[0]) if len(values) == 1 else None
        return None

    def _worked_out(self, field: Field) -> _Json:
        """The number that the answer ends with: "The sum of 3 and 4 is 7" says neither 3 nor 4."""
        for label in field.labels[:1]:
            mention = re.compile(
                r"\b" + r"[\W_]{1,3}".join(re.escape(each) + r"\w{0,4}" for each in label)
                + r"\b(?:[^.\n?!;]|\.\d){0,80}?\sis\s(?:about\s)?(?=[-\d$])",
                re.IGNORECASE,
            )  # fmt: skip
            for match in mention.finditer(self._answered.text[:_MOST_CHARACTERS]):
                value = _NUMBER.match(self._answered.text, match.end())
                read = _read(field, value[0]) if value is not None else None
                if read is not None:
                    return read
        return None

    def _said_to_be(self, field: Field) -> _Json:
        """The words after "the name is", or "its name:"."""
        if field.kind != "string" or not field.labels or not field.name:
            return None
        label = r"\s+".join(re.escape(each) for each in words(_spaced(field.name)))
        match = re.search(
            rf"\b{label}\s+(?:is|was|are)\s+(?P<value>[^.,;\n?!]{{1,120}})",
            self._whole,
            re.IGNORECASE,
        )
        return match["value"].strip(" “”\"'") or None if match is not None else None


def _read(field: Field, text: str) -> _Json:
    """`text` as a value of `field`'s type; None where it is none."""
    if field.choices:
        spoken = text.lower()
        said = [each for each in field.choices if isinstance(each, str) and _says(spoken, each)]
        return said[0] if len(said) == 1 else None
    if field.kind == "boolean":
        first = next(iter(words(text[:20])), "")
        return True if first in _TRUE else False if first in _FALSE else None
    if field.kind in ("number", "integer"):
        match = _NUMBER.search(text)
        if match is None:
            return None
        value = float(match["digits"].replace(",", "")) * (-1 if match["sign"] else 1)
        if value == int(value):
            return int(value)
        return value if field.kind == "number" else None
    if field.kind != "string":
        return None
    pattern = _FORMATS.get(field.format)
    if pattern is None:
        return text[:_LONGEST_VALUE].strip(" “”\"'").rstrip(",;") or None
    match = pattern.search(text)
    if match is None:
        return None
    value = match[0].rstrip(".,;") if pattern is _URI else match[0]
    if pattern is not _DATE or field.schema.get("format") != "date":
        return value
    named = read_date(value)
    day: date | None = named.within(named.year) if named and named.year else None
    return day.isoformat() if day is not None else None


def _likeness(wanted: Sequence[str], label: Sequence[str], *, named: bool) -> int:
    """How well a label in a text is one of the field's; 0 for not at all."""
    if list(wanted) == list(label):
        return 4
    if not named:
        return 0
    if set(wanted) == set(label):
        return 3
    # "Invoice number" of "number", and the other way round.
    return 2 if set(wanted) < set(label) or set(label) < set(wanted) else 0


def _says(spoken: str, choice: str) -> bool:
    """Whether `choice` stands in `spoken` as words of their own."""
    named = choice.lower()
    spaced = re.escape(named).replace("_", "[_ -]").replace(r"\ ", "[_ -]").replace(r"\-", "[_ -]")
    return bool(named) and re.search(rf"(?<!\w){spaced}(?!\w)", spoken) is not None


def _source(citation: Any) -> str:
    return str(citation.uri or citation.title or citation.document)


def _spaced(name: str) -> str:
    return _CAMEL.sub(" ", name).replace("_", " ").replace("-", " ")


def as_object(value: _Json) -> Mapping[str, _Json]:
    """`value` if it is an object of JSON; an empty one otherwise."""
    return cast(Mapping[str, _Json], value) if isinstance(value, dict) else {}


def _list(value: _Json) -> Sequence[_Json]:
    return cast(list[_Json], value) if isinstance(value, list) else ()
