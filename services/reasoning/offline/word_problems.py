"""Reads small stories with numbers as one calculation, where only one reading is likely.

It understands gains and losses of one thing, sums of things of a kind, prices
and contents ("6 in each box"), equal parts, and comparisons of two. A story in
which a number is left over, or a word that it does not know weighs in, is not
read at all: no answer is better than a wrong one.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from services.reasoning.offline.story_quantities import (
    VERBS,
    Effect,
    Quantity,
    is_person,
    is_too_long,
    noun_phrase,
    quantities,
    tokens_of,
)
from services.reasoning.offline.words import content_stems, stem

_LONGEST: Final = 1200
_QUESTION: Final = re.compile(r"\bhow\s+(?P<what>many|much|long)\b[^?]{0,300}\?\s*$", re.IGNORECASE)
# Words that change what numbers mean, and are not understood here.
_WEIGHTY: Final = re.compile(
    r"%|\b(?:half|halfway|halves|twice|thrice|double|triple|times|percent|per\s+cent|third|thirds"
    r"|quarters?|fourths?|fifths?|tenths?|dozens?|pairs?|average|ratio|some|several|few|rest"
    r"|remaining|remainder|unknown|initially|originally|at\s+first|to\s+begin\s+with"
    r"|start\s+with|as\s+many|as\s+much|ago|years?\s+old|age|older|younger|discount|tax|tip"
    r"|profit|interest|except|instead|otherwise|either|twins?|couple|hundreds|thousands"
    r"|same\s+price|wants?|fewer)\b|\d\s*/\s*\d",
    re.IGNORECASE,
)
# Those that do so in a story, but not in its question.
_WEIGHTY_IN_STORY: Final = re.compile(
    r"\b(?:(?<!from\s)(?<!on\s)(?<!in\s)one|than|now|less|from\s+(?:him|her\s*[.,]|them)"
    r"|(?:had|has|have|is|are|was|were)\s+(?:only\s+)?\S{1,30}\s+(?:\S{1,30}\s+){0,2}left)(?!\w)",
    re.IGNORECASE,
)
_TOGETHER: Final = re.compile(
    r"\b(?:total|altogether|in\s+all|all\s+together|combined|in\s+sum)\b", re.IGNORECASE
)
_LEFT: Final = re.compile(
    r"\b(?:left|remain|remains|still|now|end\s+up\s+with|would\s+\w+\s+have|would\s+be|extra|bad|not"
    r"|didn't)\b",
    re.IGNORECASE,
)
_EACH: Final = re.compile(r"\b(?:each|every|per)\b", re.IGNORECASE)
_MORE_THAN: Final = re.compile(
    r"\bhow\s+many\s+(?:more|fewer|less)\s+(?P<first>[^?]{1,80}?)\s+than\s+(?P<second>[^?]{1,80})\?",
    re.IGNORECASE,
)
_COST: Final = re.compile(
    r"\b(?:spend|spent|cost|pay|paid|earn|earned|make|made|owe)\b", re.IGNORECASE
)
_SAID_ANYWAY: Final = frozenset(map(stem, [*VERBS, "total", "altogether", "many", "much"]))
_PERIODS: Final = ("day", "hour", "week", "month", "minut", "year", "night")
# "7 trays at a time": how many trips, loads, rounds.
_TRIPS: Final = ("tim",)
_SUBJECT: Final = frozenset([Effect.STATE, Effect.GAIN])


@dataclass(frozen=True, slots=True)
class WordProblem:
    """A story that ends in a question for a number."""

    # For a calculator.
    expression: str
    # What is counted: `apples`, or `$` for money; empty where it is not told.
    unit: str = ""


@dataclass(frozen=True, slots=True)
class _Question:
    text: str
    # What is asked for, as stems, `$` for money; empty where it is not said.
    noun: tuple[str, ...]
    unit: str
    # "How long …"
    long: bool


def find_word_problem(text: str) -> WordProblem | None:
    """The calculation that `text` tells; None where that is not beyond doubt."""
    if len(text) > _LONGEST or "?" not in text:
        return None
    match = _QUESTION.search(text)
    if match is None or text.count("?") > 1:
        return None
    story = text[: match.start()].rstrip(" ,")
    compared = _MORE_THAN.search(match[0]) is not None
    if _WEIGHTY.search(story if compared else text) or _WEIGHTY_IN_STORY.search(story):
        return None
    tokens = tokens_of(story)
    if is_too_long(tokens):
        return None
    asked = tokens_of(match[0])
    found = quantities(tokens)
    if not found or len(found) < 2 or quantities(asked):
        return None
    question = _question(match, asked)
    if not _of_the_same(found, asked) or _tells_apart(found, question):
        return None
    expression = _expression(found, question)
    return WordProblem(expression, question.unit) if expression else None


def _of_the_same(found: Sequence[Quantity], asked: Sequence[str]) -> bool:
    """Whether the numbers belong to those that the question is about."""
    people = {each.who for each in found if each.who and not each.partial}
    if len(people) < 2:
        return True
    named = {
        word.lower().removesuffix("'s")
        for index, word in enumerate(asked)
        if index and is_person(asked, index, 0)
    }
    return _TOGETHER.search(" ".join(asked)) is not None and (not named or people <= named)


def _tells_apart(found: Sequence[Quantity], question: _Question) -> bool:
    """Whether a word of the question is said of some of the numbers only.

    "How many kids did she play tag with?" is not about those she played cards with.
    """
    known = {*question.noun, *(word for each in found for word in each.noun), *_SAID_ANYWAY}
    apart = [each for each in found if not _is_loss(each)]
    for word in set(content_stems(question.text)) - known:
        said = [word in each.around for each in apart]
        if any(said) and not all(said):
            return True
    nouns = [each.around.union(each.noun) for each in apart if each.noun]
    # "Saltwater animals", where some are of salt water and some are not.
    return any(
        any(word in noun for noun in nouns) and not all(word in noun for noun in nouns)
        for word in question.noun[:-1]
    )


def _question(match: re.Match[str], asked: Sequence[str]) -> _Question:
    what = match["what"].lower()
    noun, end = noun_phrase(asked, 2)
    unit = " ".join(asked[2:end])
    if what == "much" and (not noun or noun[0] in ("money", "dollar")):
        noun, unit = ("$",), "$"
    if what == "long":
        noun, unit = (), ""
    return _Question(match[0], noun, unit, what == "long")


def _expression(found: Sequence[Quantity], question: _Question) -> str:
    """The calculation for a calculator; empty where none is likely enough."""
    rates = [each for each in found if each.effect is Effect.RATE]
    parts = [each for each in found if each.effect is Effect.PARTS]
    counts = [each for each in found if each.effect not in (Effect.RATE, Effect.PARTS)]
    if any(each.effect is Effect.UNKNOWN for each in counts) or not counts:
        return ""
    if _MORE_THAN.search(question.text) is not None:
        return "" if rates or parts else _difference(counts, question)
    if rates or parts:
        if len(rates) == 2 and not parts and len(counts) == 1:
            return _of_all_rates(counts[0], rates, question)
        if len(rates) + len(parts) != 1:
            return ""
        return _shared(counts, (rates or parts)[0], question)
    return _balance(counts, question)


def _balance(counts: Sequence[Quantity], question: _Question) -> str:
    """Gains less losses of one thing, or a sum of things of a kind."""
    wanted = _of_the_wanted(counts, question)
    if wanted is None or len(wanted) < 2:
        return ""
    if any(
        each.effect is Effect.STATE and each.sentence != wanted[0].sentence for each in wanted[1:]
    ) and not all(each.effect is Effect.STATE for each in wanted):
        return ""
    losses = [each for each in wanted if _is_loss(each)]
    if losses and len(losses) < len(wanted):
        if not _LEFT.search(question.text) or wanted[0].effect not in _SUBJECT:
            return ""
        return _signed(wanted)
    grown = wanted[0].effect is Effect.STATE and any(
        each.effect is Effect.GAIN for each in wanted[1:]
    )
    if _TOGETHER.search(question.text) is None and not (
        grown and _LEFT.search(question.text) is not None
    ):
        return ""
    return _signed(wanted, all_gains=True)


def _is_loss(quantity: Quantity) -> bool:
    return quantity.effect is Effect.LOSS or quantity.partial


def _of_the_wanted(counts: Sequence[Quantity], question: _Question) -> Sequence[Quantity] | None:
    """The quantities of what is asked for; None where one may or may not be."""
    noun = question.noun
    if not noun:
        return counts if _one_kind(counts) else None
    named = [each for each in counts if set(noun) <= set(each.noun)]
    unnamed = [each for each in counts if not each.noun]
    others = [each for each in counts if each.noun and not set(noun) <= set(each.noun)]
    if named and not others:
        return counts
    if named and not unnamed:
        # "Girls" of girls and boys, where each number of boys stands beside one of girls.
        beside = {(each.sentence, each.verb) for each in named}
        apart = all(
            set(noun).isdisjoint(each.noun) and (each.sentence, each.verb) in beside
            for each in others
        )
        return named if apart and len(named) >= 2 else None
    if not named and not any(each.effect is Effect.LOSS for each in counts):
        # "Flowers" of roses and tulips, in one breath.
        same = len({(each.sentence, each.verb) for each in counts}) == 1
        return counts if same and _TOGETHER.search(question.text) else None
    if not named and _one_kind(counts):
        return None
    return None


def _one_kind(counts: Sequence[Quantity]) -> bool:
    return len({each.noun[-1] for each in counts if each.noun}) <= 1


def _difference(counts: Sequence[Quantity], question: _Question) -> str:
    """How many more of one thing there are than of another, where there are only these."""
    match = _MORE_THAN.search(question.text)
    if match is None or len(counts) != 2:
        return ""
    first, second = counts
    if any(_is_loss(each) for each in counts) and first.verb != second.verb:
        return ""
    high, low = max(first.value, second.value), min(first.value, second.value)
    return f"{high:f} - {low:f}" if high != low else ""


def _shared(counts: Sequence[Quantity], other: Quantity, question: _Question) -> str:
    """So many times a rate, or divided by it or into parts."""
    amount = _signed(counts)
    if not amount:
        return ""
    bracketed = f"({amount})" if len(counts) > 1 else amount
    total = _total(counts)
    divides = other.value != 0 and total % other.value == 0
    if other.effect is Effect.PARTS:
        each = _EACH.search(question.text) is not None
        return f"{bracketed} / {other.value:f}" if each and divides else ""
    periods = _PERIODS if question.long else _TRIPS if not _known(question, counts) else ()
    if other.container and other.container[-1] in periods:
        return f"{bracketed} / {other.value:f}" if divides and _may_be(counts, other.noun) else ""
    if _asks_for(question, other.container) and not _asks_for(question, other.noun):
        return f"{bracketed} / {other.value:f}" if divides and _may_be(counts, other.noun) else ""
    for_money = other.noun == ("$",) and (
        question.noun == ("$",) or _COST.search(question.text) is not None
    )
    if (for_money or _asks_for(question, other.noun)) and not _EACH.search(question.text):
        return f"{bracketed} * {other.value:f}" if _may_be(counts, other.container) else ""
    return ""


def _of_all_rates(count: Quantity, rates: Sequence[Quantity], question: _Question) -> str:
    """ "3 pens and 4 books in each of 5 bags", where all of them are asked for."""
    first, second = rates
    if first.sentence != second.sentence or first.container != second.container:
        return ""
    if _TOGETHER.search(question.text) is None or _EACH.search(question.text) is not None:
        return ""
    if set(question.noun) & set(first.noun) != set(question.noun) & set(second.noun):
        return ""
    if not set(count.noun) & set(first.container):
        return ""
    return f"{count.value:f} * ({first.value:f} + {second.value:f})"


def _known(question: _Question, counts: Sequence[Quantity]) -> bool:
    """Whether the story counts what is asked for."""
    return any(_asks_for(question, each.noun) for each in counts)


def _asks_for(question: _Question, noun: tuple[str, ...]) -> bool:
    return bool(noun) and bool(question.noun) and question.noun[-1] in noun


def _may_be(counts: Sequence[Quantity], noun: tuple[str, ...]) -> bool:
    """Whether all of `counts` are of `noun`, as far as is said."""
    return noun == ("peopl",) or all(
        not each.noun or not noun or not set(each.noun).isdisjoint(noun) for each in counts
    )


def _total(counts: Sequence[Quantity]) -> Decimal:
    return sum((-each.value if _is_loss(each) else each.value for each in counts), Decimal(0))


def _signed(counts: Sequence[Quantity], *, all_gains: bool = False) -> str:
    """Gains less losses, in their order; empty where that is less than nothing."""
    if not all_gains and (_is_loss(counts[0]) or _total(counts) < 0):
        return ""
    terms = [f"{counts[0].value:f}"]
    for each in counts[1:]:
        sign = "-" if _is_loss(each) and not all_gains else "+"
        terms.append(f"{sign} {each.value:f}")
    return " ".join(terms)
