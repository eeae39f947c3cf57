"""Which number of a sentence is which argument's: by the words beside it."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from services.reasoning.offline.mentions import Number
from services.reasoning.offline.words import STOP_WORDS, stem, words

_GENERIC_LABELS: Final = frozenset(
    map(stem, ["value", "number", "name", "the", "of", "in", "integer", "float", "string",
               "default", "optional", "example", "list", "array", "given"])
)  # fmt: skip
_FROM: Final = frozenset(["from", "between"])
# Small words that stand for what an argument is called: "from 2 to 5".
_STANDS_FOR: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(["initial", "start", "lower", "min", "minimum", "begin", "low"], _FROM),
    **dict.fromkeys(["final", "end", "upper", "max", "maximum", "high"], frozenset(["to"])),
}


def labels(name: str, description: str) -> tuple[set[str], set[str]]:
    """The stems of an argument's name, with what stands for them, and of its description."""
    spoken = [stem(word) for word in words(name)]
    label = {each for each in spoken if each not in _GENERIC_LABELS}
    for each in spoken:
        label |= _STANDS_FOR.get(each, frozenset())
    described = {stem(word) for word in words(description[:200]) if word not in STOP_WORDS}
    return label, described - _GENERIC_LABELS - label


def telling(
    named: Mapping[str, tuple[set[str], set[str]]],
) -> Mapping[str, tuple[set[str], set[str]]]:
    """The labels without words that several arguments have: they tell nothing."""
    counts = Counter(word for label, described in named.values() for word in label | described)
    shared = {word for word, count in counts.items() if count > 1}
    return {
        name: (label - shared, described - shared) for name, (label, described) in named.items()
    }


def nearness(label: set[str], described: set[str], number: Number) -> int:
    """How near what a number's argument is called stands to the number; 0 for not near."""
    best = 0
    for place, word in enumerate(number.before[:5]):
        if word in label:
            best = max(best, 20 - 2 * place)
        elif word in described:
            best = max(best, 8 - place)
    for place, word in enumerate(number.after[:2]):
        if word in label:
            best = max(best, 19 - 2 * place)
        elif word in described:
            best = max(best, 7 - place)
    return best
