"""The part of a passage that a reader should see first."""

import re
from typing import Final

MAX_CHARACTERS: Final = 300

_SENTENCE: Final = re.compile(r"\S.*?(?:[.!?](?=\s)|[。！？]|(?=\n)|\Z)", re.DOTALL)
_WORD: Final = re.compile(r"\w+")
# Shorter words are mostly grammar.
_SHORTEST_WORD: Final = 3


def snippet(text: str, query: str) -> str:
    """At most 300 characters of `text`, from the sentence with the most words of `query`.

    It is a part of `text` as it is. Where no word occurs, it is the beginning.
    """
    if len(text) <= MAX_CHARACTERS:
        return text
    wanted = _words(query)
    best, best_count = 0, 0
    for match in _SENTENCE.finditer(text):
        count = len(wanted & _words(match.group()))
        if count > best_count:
            best, best_count = match.start(), count
    # A sentence near the end leaves room for what stands before it.
    start = min(best, len(text) - MAX_CHARACTERS)
    if start < best:
        start = _word_start(text, start, best)
    end = start + MAX_CHARACTERS
    if end < len(text):
        blank = max(text.rfind(" ", start + 1, end), text.rfind("\n", start + 1, end))
        end = blank if blank > 0 else end
    return text[start:end].strip()


def _words(text: str) -> set[str]:
    return {word for word in _WORD.findall(text.lower()) if len(word) >= _SHORTEST_WORD}


def _word_start(text: str, start: int, stop: int) -> int:
    if start == 0 or text[start - 1].isspace():
        return start
    match = re.compile(r"\s(?=\S)").search(text, start, stop)
    return match.end() if match else stop
