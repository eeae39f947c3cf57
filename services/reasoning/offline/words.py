"""Words as the offline model compares them: lower case, without endings."""

import re
from typing import Final

_WORD: Final = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")

# Words that say how something is asked, not what.
_STOP_WORDS_TEXT: Final = """
    a about above after again all also am an and any are as at be because been before being
    between both but by can could did do does doing done down each either else for from get
    give had has have having he her here him his how i if in into is it its just let like
    may me might mine must my no nor not now of off on once only or other our ours out over
    own per please same shall she should so some such tell than that the their them then
    there these they this those to too under until up us very was we were what what's when
    where which while who whom whose why will with would you your yours
"""
STOP_WORDS: Final = frozenset(_STOP_WORDS_TEXT.split())

_SHORTEST_STEM: Final = 3
_VOWELS: Final = frozenset("aeiouy")


def words(text: str) -> list[str]:
    """The words of `text`, lower case, in order. `rate_limit` and `rate-limit` are two."""
    return [word.removesuffix("'s").removesuffix("’s") for word in _WORD.findall(text.lower())]


def stem(word: str) -> str:
    """`word` without the endings of number and tense: `limits`, `limited`, `limiting` are one."""
    if word.endswith("ies") and len(word) > _SHORTEST_STEM + 2:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "shes", "ches", "xes", "zes")):
        word = word[:-2]
    elif (
        word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > _SHORTEST_STEM
    ):
        word = word[:-1]
    for ending in ("ing", "ed"):
        root = word.removesuffix(ending)
        if root != word and len(root) >= _SHORTEST_STEM and not _VOWELS.isdisjoint(root):
            word = _undoubled(root)
            break
    # "cache", "cached" and "caching" meet where the last vowel is gone from all three.
    return word[:-1] if word.endswith("e") and len(word) > _SHORTEST_STEM else word


def stems(text: str) -> list[str]:
    """The stems of all words of `text`, in order."""
    return [stem(word) for word in words(text)]


def content_words(text: str) -> list[str]:
    """The words of `text` that say what it is about, in order, each once."""
    return list(dict.fromkeys(word for word in words(text) if word not in STOP_WORDS))


def content_stems(text: str) -> list[str]:
    """The stems of `content_words`, in order, each once."""
    return list(dict.fromkeys(map(stem, content_words(text))))


def _undoubled(root: str) -> str:
    if len(root) > _SHORTEST_STEM and root[-1] == root[-2] and root[-1] not in "aeiouls":
        return root[:-1]
    return root
