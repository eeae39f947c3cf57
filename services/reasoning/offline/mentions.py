"""What a sentence mentions that may be a tool's argument: numbers, lists, dates, names, quotes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.reasoning.offline.words import stem, words

_NUMBER: Final = re.compile(
    r"(?<![\w.,-])(?P<sign>-?)[$€£]?(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,18}(?:\.\d{1,18})?)"
    r"(?P<percent>\s?%|\s+percent\b)?(?![\w^/]*[\d/]|[.,]\d|-\d|:\d|[eExX^]|\s?[ap]m\b)"
)
_WORDS_TEXT: Final = "zero one two three four five six seven eight nine ten eleven twelve"
_NUMBER_WORDS: Final = {word: value for value, word in enumerate(_WORDS_TEXT.split()) if value > 1}
_NUMBER_WORD: Final = re.compile(rf"\b(?:{'|'.join(_NUMBER_WORDS)})\b", re.IGNORECASE)
_BETWEEN_ITEMS: Final = re.compile(r"\s*(?:,\s*(?:and\s+|or\s+)?|\s+and\s+|\s+or\s+)\s*")
_DIVIDES: Final = re.compile(r"[,;:.?!](?=\s|$)|\band\b", re.IGNORECASE)
_QUOTED: Final = re.compile(r"“([^”]{1,2000})”|\"([^\"]{1,2000})\"|(?<!\w)'([^']{1,2000})'(?!\w)")
# "New York City", "Lebron James", "Washington D.C.", "San Francisco, CA".
_CAPITAL: Final = r"[A-Z](?:[\w'’&-]*[\w]|(?:\.[A-Z])*\.?(?![\w]))"
_NAME: Final = re.compile(
    rf"(?<![\w'’-]){_CAPITAL}(?:\s(?:(?:of|de|la|van|von)\s)?(?:{_CAPITAL}|\d{{1,4}}\b)){{0,6}}"
    rf"(?:,\s{_CAPITAL}(?:\s{_CAPITAL})?(?=[.?!,;]|\s|$))?"
)
_NO_NAMES: Final = frozenset(["I", "I'm", "I've", "I'd", "I’m", "I’d", "I’ve", "I'll"])
_MOST: Final = 60


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a sentence."""

    value: float
    percent: bool
    start: int
    end: int
    # Stems before it, the nearest first, and after it.
    before: Sequence[str]
    after: Sequence[str]


@dataclass(frozen=True, slots=True)
class Name:
    """Words with capitals."""

    text: str
    start: int
    end: int
    # The word before it, lower case.
    preposition: str


def numbers(text: str) -> list[Number]:
    """The numbers of `text` in order, whole ones and decimals."""
    found: list[Number] = []
    for match in _NUMBER.finditer(text):
        value = float(match["digits"].replace(",", "")) * (-1 if match["sign"] else 1)
        found.append(_number(text, value, match.start(), match.end(), bool(match["percent"])))
    for match in _NUMBER_WORD.finditer(text):
        value = float(_NUMBER_WORDS[match[0].lower()])
        found.append(_number(text, value, match.start(), match.end(), False))
    return sorted(found, key=lambda each: each.start)[:_MOST]


def _number(text: str, value: float, start: int, end: int, percent: bool) -> Number:
    left = _DIVIDES.split(text[max(0, start - 60) : start])[-1]
    before = [stem(word) for word in words(left)][::-1]
    right = _DIVIDES.split(text[end : end + 40])[0]
    after = [stem(word) for word in words(right)]
    return Number(value, percent, start, end, before[:6], after[:4])


def lists(text: str, found: Sequence[Number]) -> list[Sequence[Number]]:
    """Numbers that stand side by side, divided by commas or an "and"."""
    groups: list[list[Number]] = []
    for number in found:
        if groups and _BETWEEN_ITEMS.fullmatch(text[groups[-1][-1].end : number.start]):
            groups[-1].append(number)
        else:
            groups.append([number])
    return [group for group in groups if len(group) > 1]


def quotes(text: str) -> list[str]:
    """What stands in quotes."""
    return [
        next(group for group in match.groups() if group is not None)
        for match in _QUOTED.finditer(text)
    ][:_MOST]


def names(text: str) -> list[Name]:
    """Words with capitals, but for those that only begin a sentence."""
    found: list[Name] = []
    for match in _NAME.finditer(text):
        start, name = match.start(), match[0]
        before = text[max(0, start - 30) : start].rstrip(" \"“'(")
        if not before or before.endswith((".", "?", "!", ":", "\n")):
            # "Find Ada Lovelace" begins with a verb.
            first, _, name = name.partition(" ")
            start += len(first) + 1
        if not name or not name[0].isupper() or name in _NO_NAMES:
            continue
        last = words(before[-20:])
        found.append(Name(name, start, start + len(name), last[-1] if last else ""))
    return found[:_MOST]


def name_lists(text: str, found: Sequence[Name]) -> list[Sequence[Name]]:
    """Names that stand side by side, divided by commas or an "and"."""
    groups: list[list[Name]] = []
    for name in found:
        if groups and _BETWEEN_ITEMS.fullmatch(text[groups[-1][-1].end : name.start]):
            groups[-1].append(name)
        else:
            groups.append([name])
    return [group for group in groups if len(group) > 1]


def mentions_anything(text: str) -> bool:
    """Whether `text` has a number, a name or a quote."""
    return bool(numbers(text) or names(text) or quotes(text))
