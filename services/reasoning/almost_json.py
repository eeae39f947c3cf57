"""Reads what models write for JSON: strict where it can be, forgiving in a few set ways.

Forgiven are code fences, text around one object, commas before a closing bracket, single
quotes, line feeds within texts, and Python's True, False and None. An end that is missing is
never made up: nobody knows what would have stood there.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, cast

from meshkit.json_struct import MOST_DEEP

_MOST_CHARACTERS: Final = 1024 * 1024
_BLANK: Final = re.compile(r"[ \t\r\n]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORD: Final = re.compile(r"[A-Za-z]+")
_WORDS: Final[Mapping[str, bool | None]] = {
    "true": True,
    "false": False,
    "null": None,
    "True": True,
    "False": False,
    "None": None,
}
_PIECES: Final = {
    '"': re.compile(r'[^"\\]+'),
    "'": re.compile(r"[^'\\]+"),
}
_ESCAPES: Final = {
    "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f",
    "/": "/", "\\": "\\", '"': '"', "'": "'",
}  # fmt: skip
_UNICODE: Final = re.compile(r"u([0-9A-Fa-f]{4})")


class NotJson(Exception):
    """The text holds no JSON object that could be read; says why, as the end of a sentence."""


class _Unreadable(Exception):
    """At this place stands no value."""

    def __init__(self, at: int, *, ended: bool) -> None:
        super().__init__()
        self.at: Final = at
        # The text ended within a value.
        self.ended: Final = ended


def read_object(text: str) -> dict[str, Any]:
    """The one JSON object in `text`. Raises NotJson."""
    if len(text) > _MOST_CHARACTERS:
        raise NotJson(f"has more than {_MOST_CHARACTERS} characters")
    try:
        value: Any = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        return _found_in(text)
    if isinstance(value, dict):
        return cast(dict[str, Any], value)
    # In quotes or in brackets it is within a text like any other.
    return _found_in(value if isinstance(value, str) else text)


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(number)
    return value


def _found_in(text: str) -> dict[str, Any]:
    """The object within the text; with two that differ nobody knows which is meant."""
    found: dict[str, Any] | None = None
    at = text.find("{")
    while at >= 0:
        try:
            value, at = _Reader(text).value(at, 0)
        except _Unreadable as error:
            if error.ended:
                raise NotJson("ends before its JSON object does") from None
            at = error.at
        else:
            if found is not None and found != value:
                raise NotJson("holds more than one JSON object")
            found = cast(dict[str, Any], value)
        at = text.find("{", at)
    if found is None:
        raise NotJson("holds no JSON object")
    return found


class _Reader:
    """Reads values from a text, each character once."""

    def __init__(self, text: str) -> None:
        self._text: Final = text

    def value(self, at: int, deep: int) -> tuple[Any, int]:
        """The value that begins at `at`, and the place after it."""
        match self._text[at : at + 1]:
            case "{":
                return self._object(at, deep + 1)
            case "[":
                return self._list(at, deep + 1)
            case '"' | "'":
                return self._string(at)
            case _:
                return self._plain(at)

    def _object(self, at: int, deep: int) -> tuple[dict[str, Any], int]:
        members: dict[str, Any] = {}
        at = self._opened(at, deep)
        while (sign := self._sign(at)) != "}":
            if sign not in ('"', "'"):
                raise _Unreadable(at, ended=False)
            key, at = self._string(at)
            at = self._blank(at)
            if self._sign(at) != ":":
                raise _Unreadable(at, ended=False)
            members[key], at = self.value(self._begun(at + 1), deep)
            at = self._separated(at, "}")
        return members, at + 1

    def _list(self, at: int, deep: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        at = self._opened(at, deep)
        while self._sign(at) != "]":
            item, at = self.value(at, deep)
            items.append(item)
            at = self._separated(at, "]")
        return items, at + 1

    def _opened(self, at: int, deep: int) -> int:
        if deep > MOST_DEEP:
            raise NotJson(f"is nested more than {MOST_DEEP} deep")
        return self._begun(at + 1)

    def _separated(self, at: int, closing: str) -> int:
        """The place of the next item, or of the closing bracket."""
        at = self._blank(at)
        sign = self._sign(at)
        if sign == ",":
            return self._begun(at + 1)
        if sign != closing:
            raise _Unreadable(at, ended=False)
        return at

    def _string(self, at: int) -> tuple[str, int]:
        quote = self._text[at]
        pieces: list[str] = []
        at += 1
        while (sign := self._sign(at)) != quote:
            if sign == "\\":
                piece, at = self._escaped(at + 1)
                pieces.append(piece)
                continue
            plain = _PIECES[quote].match(self._text, at)
            assert plain is not None, "neither a quote nor a backslash"
            pieces.append(plain[0])
            at = plain.end()
        # Halves of a character that were escaped one by one.
        joined = "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return joined, at + 1

    def _escaped(self, at: int) -> tuple[str, int]:
        sign = self._sign(at)
        if sign in _ESCAPES:
            return _ESCAPES[sign], at + 1
        code = _UNICODE.match(self._text, at)
        if code is None:
            raise _Unreadable(at, ended=len(self._text) - at < len("u0000"))
        return chr(int(code[1], 16)), code.end()

    def _plain(self, at: int) -> tuple[Any, int]:
        word = _WORD.match(self._text, at)
        if word is not None and word[0] in _WORDS:
            return _WORDS[word[0]], word.end()
        number = _NUMBER.match(self._text, at)
        if number is None:
            raise _Unreadable(at, ended=False)
        try:
            return json.loads(number[0], parse_float=_finite), number.end()
        except ValueError:
            # Too large, or of more digits than Python reads.
            raise _Unreadable(at, ended=False) from None

    def _begun(self, at: int) -> int:
        """The place after what is blank, where something has to follow."""
        at = self._blank(at)
        self._sign(at)
        return at

    def _blank(self, at: int) -> int:
        blank = _BLANK.match(self._text, at)
        return blank.end() if blank is not None else at

    def _sign(self, at: int) -> str:
        if at >= len(self._text):
            raise _Unreadable(at, ended=True)
        return self._text[at]
