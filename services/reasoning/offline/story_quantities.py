"""Reads the numbers of a small story: how many of what, and what happens to them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from typing import Final

from services.reasoning.offline.words import stem

_TOKEN: Final = re.compile(
    r"[$€£]|\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|[^\W\d_]+(?:['’-][^\W\d_]+)*|[^\w\s]"
)
_MOST_TOKENS: Final = 250
_MOST_QUANTITIES: Final = 6

_NUMBERS_TEXT: Final = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen twenty
"""
_NUMBERS: Final = {word: value for value, word in enumerate(_NUMBERS_TEXT.split()) if value > 1}

# Verbs by what they do to what somebody has, as their stems and irregular forms.
_GAINS_TEXT: Final = """
    buy bought buys get got gets gotten find found finds pick picked picks receive received
    receives win won wins earn earned earns collect collected collects gather gathered catch
    caught add added adds join joined joins make made makes bake baked bakes grow grew grown
    plant planted plants order ordered bring brought borrow borrowed download downloaded
    upload uploaded take-in hatch hatched adopt save saved saves purchase purchased raise raised
    score scored scores
    build built arrive arrived came come write wrote draw drew invite invited rent rented
    put puts place placed pack packed harvest harvested
"""
_LOSSES_TEXT: Final = """
    give gave given gives lose lost loses eat ate eaten eats sell sold sells spend spent spends
    use used uses delete deleted remove removed removes donate donated drink drank drunk die died
    dies break broke broken destroy destroyed throw threw thrown leave left leaves popped
    melt melted finish finished complete completed discard discarded share shared burn burned
    pay paid mail mailed fly flew return returned trade traded quit send sent
    rot rotted spoil spoiled steal stole stolen miss missed crack cracked wilt wilted
"""
_STATES_TEXT: Final = """
    have has had is are was were there own owns owned contain contains contained hold holds held
    start started starts begin began weigh weighs weighed need needs needed see saw seen
    cost costs read reads wash washed do did does play played plays store stored count counted
    live lives include includes keep keeps kept
    """
_GAINS: Final = frozenset(_GAINS_TEXT.split())
_LOSSES: Final = frozenset(_LOSSES_TEXT.split())
_STATES: Final = frozenset(_STATES_TEXT.split())
VERBS: Final = _GAINS | _LOSSES | _STATES
_NEGATIONS: Final = frozenset(
    ["didn't", "didn’t", "couldn't", "couldn’t", "wouldn't", "doesn't", "don't", "not", "without",
     "weren't", "wasn't", "aren't", "isn't", "can't", "never"]
)  # fmt: skip
_BREAKS: Final = frozenset(".?!;:")
_AFTER_NOUN_TEXT: Final = """
    of in on at to for from with by and or but if then than that which who when while where how
    into onto over under after before during each every per a an the his her their its my our
    your she he they it i we you this these those so because as total altogether later already
    only also now today yesterday still about apiece more less fewer could would will can should
    to-day among between inside, inside
"""
_AFTER_NOUN: Final = frozenset(_AFTER_NOUN_TEXT.split()) | VERBS | _NEGATIONS
_BEFORE_NOUN: Final = frozenset(
    [
        "more",
        "additional",
        "other",
        "different",
        "extra",
        "new",
        "total",
        "another",
        "fewer",
        "less",
    ]
)
_PARTITIVE: Final = frozenset(["them", "the", "these", "those", "his", "her", "their", "its", "my"])
_OBJECTS: Final = frozenset(["him", "her", "them", "me", "us"])
_PEOPLE: Final = frozenset(
    ["friend", "mom", "mother", "dad", "father", "brother", "sister", "uncle", "aunt", "cousin",
     "neighbor", "neighbour", "teacher", "grandmother", "grandfather", "classmate"]
)  # fmt: skip
_PER: Final = frozenset(["each", "every", "per", "apiece"])
_PERIODS: Final = frozenset(
    ["day", "hour", "week", "month", "year", "minute", "night", "time", "piece"]
)
_CURRENCY: Final = frozenset(["$", "€", "£"])
_MONEY: Final = frozenset(["dollar", "dollars", "cents", "cent", "euros", "euro", "pounds"])


class Effect(Enum):
    """What happens to what is counted."""

    # It is there, or is had.
    STATE = "state"
    GAIN = "gain"
    LOSS = "loss"
    # So many for each of something else.
    RATE = "rate"
    # Into so many equal parts.
    PARTS = "parts"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of a story."""

    value: Decimal
    effect: Effect
    # What is counted, as stems: `red appl`; empty where it is not said, `$` for money.
    noun: tuple[str, ...]
    # For a rate: what it is for each of; empty where that is not said.
    container: tuple[str, ...]
    # The verb, as it is written; empty for none.
    verb: str
    # Whether it is some of what was named before: "5 of them".
    partial: bool
    # In which sentence it stands, and who is spoken of there; empty for nobody by name.
    sentence: int
    who: str
    # The stems around it, from its verb on: `played tag with`, `for salt water`.
    around: frozenset[str]


def tokens_of(text: str) -> list[str]:
    """Words, numbers and marks, in order; too many are cut off."""
    return [match[0] for match in _TOKEN.finditer(text)][: _MOST_TOKENS + 1]


def is_too_long(tokens: Sequence[str]) -> bool:
    """Whether a story has more words than are read."""
    return len(tokens) > _MOST_TOKENS


def noun_phrase(tokens: Sequence[str], position: int) -> tuple[tuple[str, ...], int]:
    """The stems of the noun that begins at `position`, and where it ends.

    "red apples", "cups of sugar" (cup, sugar); nothing before "of them".
    """
    noun: list[str] = []
    index = position
    while index < len(tokens) and tokens[index].lower() in _BEFORE_NOUN:
        index += 1
    while index < len(tokens) and len(noun) < 4:
        word = tokens[index].lower()
        if word == "of" and noun and index + 1 < len(tokens):
            if tokens[index + 1].lower() in _PARTITIVE:
                break
            index += 1
            continue
        if word in _AFTER_NOUN or not word[0].isalpha() or word in _NUMBERS:
            break
        if word != "ones":
            noun.append(singular(word))
        index += 1
    return tuple(noun), index


def singular(word: str) -> str:
    """The stem of a noun: `shelf` of "shelves"."""
    word = word.removesuffix("'s").removesuffix("’s")
    return f"{word[:-3]}f" if word.endswith("ves") else stem(word)


def quantities(tokens: Sequence[str]) -> list[Quantity] | None:
    """The numbers among `tokens`, in order; None where there are too many."""
    found: list[Quantity] = []
    sentence = 0
    who = ""
    begin = 0
    for index, token in enumerate(tokens):
        if token in _BREAKS:
            sentence, begin = sentence + 1, index + 1
        elif is_person(tokens, index, begin):
            who = token.removesuffix("'s").removesuffix("’s").lower()
        value = _value(tokens, index)
        if value is None:
            continue
        if len(found) == _MOST_QUANTITIES:
            return None
        read = _quantity(tokens, index, value, begin, sentence, who)
        if found and tokens[index - 1].lower() == "and" and found[-1].sentence == sentence:
            read, found[-1] = _joined(read, found[-1])
        found.append(read)
    return found


def _value(tokens: Sequence[str], index: int) -> Decimal | None:
    token = tokens[index].lower()
    if token[0].isdecimal():
        return Decimal(token.replace(",", ""))
    return Decimal(_NUMBERS[token]) if token in _NUMBERS else None


def _joined(read: Quantity, before: Quantity) -> tuple[Quantity, Quantity]:
    """Both as they are with an "and" between them: "each has 3 pens and 4 books"."""
    if before.effect is Effect.RATE and read.effect is not Effect.RATE:
        return replace(read, effect=Effect.RATE, container=before.container), before
    if read.effect is Effect.RATE and read.verb == before.verb:
        return read, replace(before, effect=Effect.RATE, container=read.container)
    return read, before


def is_person(tokens: Sequence[str], index: int, begin: int) -> bool:
    """Whether a word names somebody: "Ada" within a sentence, or before a verb; "friend"."""
    if tokens[index].lower().removesuffix("s") in _PEOPLE:
        return True
    if not tokens[index][0].isupper():
        return False
    if index > begin:
        return tokens[index] != "I"
    following = tokens[index + 1].lower() if index + 1 < len(tokens) else ""
    return following in VERBS and tokens[index].lower() not in _AFTER_NOUN


def _quantity(
    tokens: Sequence[str], index: int, value: Decimal, begin: int, sentence: int, who: str
) -> Quantity:
    end = index + 1
    while end < len(tokens) and tokens[end] not in _BREAKS:
        end += 1
    start = _clause_start(tokens, index, begin)
    stop = _clause_stop(tokens, index, end)
    money = tokens[index - 1] in _CURRENCY if index else False
    noun, after = noun_phrase(tokens, index + 1)
    if money or (noun and noun[0] in ("dollar", "cent")):
        noun = ("$",)
    partial = (
        after + 1 < len(tokens)
        and tokens[after].lower() == "of"
        and tokens[after + 1].lower() in _PARTITIVE
    )
    verb, place = _verb(tokens, start, index, stop)
    clause = [each.lower() for each in tokens[start:stop]]
    container = _container(tokens, start, stop)
    if container is not None:
        effect = Effect.RATE
    elif index and tokens[index - 1].lower() in ("into", "among", "between"):
        effect, container = Effect.PARTS, ()
    else:
        effect, container = _effect(tokens, verb, place, index, clause), ()
    begins = place if start <= place < index else index
    stops = after + 4 if after < stop and tokens[after].lower() in ("for", "of") else after
    around = frozenset(singular(each.lower()) for each in tokens[begins : min(stops, stop)])
    return Quantity(value, effect, noun, container, verb, partial, sentence, who, around)


def _clause_start(tokens: Sequence[str], index: int, begin: int) -> int:
    for each in range(index - 1, begin - 1, -1):
        if tokens[each].lower() in (",", "but", "if", "when", "while", "then", "and"):
            return each + 1
    return begin


def _clause_stop(tokens: Sequence[str], index: int, end: int) -> int:
    for each in range(index + 1, end):
        if tokens[each].lower() in (",", "but", "if", "when", "while", "then", "and"):
            return each
    return end


def _verb(tokens: Sequence[str], start: int, index: int, stop: int) -> tuple[str, int]:
    """The verb that a number depends on, and where: before it, after it, or in what goes before."""
    for each in range(index - 1, start - 1, -1):
        if _is_verb(tokens, each):
            return tokens[each].lower(), each
    following = [each for each in range(index + 1, stop) if _is_verb(tokens, each)]
    # "If 10 seats are broken": the second verb tells more.
    for each in following:
        if tokens[each].lower() in _LOSSES:
            return tokens[each].lower(), each
    if following:
        return tokens[following[0]].lower(), following[0]
    # "Bought 3 pens and 4 books", "picked 5 from one and 6 from another".
    for each in range(start - 1, max(-1, start - 25), -1):
        if tokens[each] in _BREAKS:
            break
        if _is_verb(tokens, each):
            return tokens[each].lower(), each
    return "", -1


def _is_verb(tokens: Sequence[str], index: int) -> bool:
    """Whether a word is a known verb; "to build a tower" only says what for."""
    return tokens[index].lower() in VERBS and (not index or tokens[index - 1].lower() != "to")


def _effect(
    tokens: Sequence[str], verb: str, place: int, index: int, clause: Sequence[str]
) -> Effect:
    if not verb:
        return Effect.UNKNOWN
    if not _NEGATIONS.isdisjoint(clause):
        return Effect.LOSS
    more = index + 1 < len(tokens) and tokens[index + 1].lower() == "more"
    another = index > 0 and tokens[index - 1].lower() == "another"
    if verb in ("give", "gave", "gives", "given", "sent", "send", "mailed", "paid"):
        to_them = any(each.lower() in _OBJECTS for each in tokens[place + 1 : index])
        return Effect.GAIN if to_them else Effect.LOSS
    if verb in _LOSSES:
        return Effect.LOSS
    if verb in _GAINS or ((more or another) and verb in _STATES):
        return Effect.GAIN
    return Effect.STATE


def _container(tokens: Sequence[str], start: int, stop: int) -> tuple[str, ...] | None:
    """What a clause's number is for each of; None where it is for all together."""
    for each in range(start, stop):
        word = tokens[each].lower()
        if word in _PER:
            noun, _ = noun_phrase(tokens, each + 1)
            return noun or _subject(tokens, start)
        following = tokens[each + 1].lower() if each + 1 < stop else ""
        if word in ("a", "an", "one") and following in _PERIODS:
            return (stem(following),)
    return None


def _subject(tokens: Sequence[str], start: int) -> tuple[str, ...]:
    """What a clause begins with: "the tables they had held 5 people each"."""
    while tokens[start].lower() in ("the", "a", "an", "if", "his", "her", "their"):
        start += 1
    return noun_phrase(tokens, start)[0] if tokens[start][0].islower() else ()
