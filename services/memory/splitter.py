"""Splitting documents into passages: at headings, paragraphs, sentences, lines, or words."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from services.memory.document import Passage
from services.memory.parsed_document import ParsedDocument, Section

# As everywhere in the contract. By bytes, since a sign of a script without
# blanks is a token by itself, and three bytes long.
BYTES_PER_TOKEN: Final = 4
_VISIBLE: Final = re.compile(r"\S")
# Each matches up to a place where a passage may end and the next begin.
_SENTENCE: Final = re.compile(r"[.!?][\"')\]*_]*\s+(?=\S)|[。！？]\s*")
_WORD: Final = re.compile(r"\s(?=\S)")


class Splitter:
    """Makes passages of about `target_tokens`, each of which repeats the end of the one before."""

    def __init__(self, *, target_tokens: int, overlap_tokens: int) -> None:
        """`overlap_tokens`: how much is repeated within a section."""
        self._target_bytes: Final = target_tokens * BYTES_PER_TOKEN
        self._overlap_bytes: Final = overlap_tokens * BYTES_PER_TOKEN

    def split(self, document: ParsedDocument) -> Iterator[Passage]:
        """The passages in order, none blank. Only a word longer than a passage is ever cut."""
        for each in document.sections:
            yield from self._split_section(each)

    def _split_section(self, section: Section) -> Iterator[Passage]:
        text = "\n".join(line.text for line in section.lines)
        starts = list(accumulate((len(each.text) + 1 for each in section.lines), initial=0))[:-1]
        blocks = [at for at, each in zip(starts, section.lines, strict=True) if each.begins_block]
        for start, end in self._spans(text, starts, blocks):
            first = section.lines[bisect_right(starts, start) - 1]
            last = section.lines[bisect_right(starts, end - 1) - 1]
            yield Passage(
                text[start:end], section.headings, first.number, last.number, section.page
            )

    def _spans(
        self, text: str, lines: Sequence[int], blocks: Sequence[int]
    ) -> Iterator[tuple[int, int]]:
        """From where to where each passage goes."""
        start = _next_visible(text, 0)
        while start < len(text):
            limit = self._limit(text, start)
            half = (start + limit) // 2
            cut = limit if limit == len(text) else _cut(text, start, half, limit, lines, blocks)
            yield start, start + len(text[start:cut].rstrip())
            rest = _next_visible(text, cut)
            if rest == len(text):
                return
            # Before a word that is longer than a passage there may be little to repeat.
            again = self._repeat_from(text, (start + cut + 1) // 2, cut) if cut > half else rest
            start = _next_visible(text, again)

    def _limit(self, text: str, start: int) -> int:
        """The furthest end of a passage from `start`."""
        window = text[start : start + self._target_bytes].encode()[: self._target_bytes]
        return start + len(window.decode(errors="ignore"))

    def _repeat_from(self, text: str, earliest: int, cut: int) -> int:
        """Where the passage behind `cut` begins: at a sentence or word that fits the overlap."""
        if not self._overlap_bytes:
            return cut
        window = text[earliest:cut].encode()[-self._overlap_bytes :]
        earliest = cut - len(window.decode(errors="ignore"))
        for pattern in (_SENTENCE, _WORD):
            # From one sign before, which may be the blank before a word.
            match = pattern.search(text, max(earliest - 1, 0), cut)
            if match and match.end() < cut:
                return match.end()
        return _next_visible(text, cut)


def _cut(
    text: str, start: int, half: int, limit: int, lines: Sequence[int], blocks: Sequence[int]
) -> int:
    """Where a passage that must end by `limit` ends best: late, and where a thought does."""
    for place in (
        _last_place(blocks, half, limit),
        _last_match(_SENTENCE, text, half, limit),
        _last_place(lines, half, limit),
        _last_match(_WORD, text, start, limit),
    ):
        if place is not None:
            return place
    return limit


def _last_place(places: Sequence[int], after: int, limit: int) -> int | None:
    index = bisect_right(places, limit) - 1
    return places[index] if index >= 0 and places[index] > after else None


def _last_match(pattern: re.Pattern[str], text: str, after: int, limit: int) -> int | None:
    place = None
    # One sign further, for the patterns look at what follows.
    for match in pattern.finditer(text, after, limit + 1):
        if after < match.end() <= limit:
            place = match.end()
    return place


def _next_visible(text: str, start: int) -> int:
    match = _VISIBLE.search(text, start)
    return match.start() if match else len(text)
