"""Splits text, plain or Markdown, into sentences that remember where they stood."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# An end mark, closing quotes or brackets, then a gap: "17.5", "app.py" and
# "e.g." inside a sentence have no gap, or are looked at again below.
_END: Final = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|[。！？]")
_ABBREVIATION: Final = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|approx|fig|no|nos|dr|mr|mrs|ms|prof|st|inc|ltd|jr|sr)|\b[A-Z])\.$",
    re.IGNORECASE,
)
# A line that begins one of these does not continue the line before it.
_BLOCK_START: Final = re.compile(r"\s*(?:#{1,6}\s|[-*+•]\s|\d{1,3}[.)]\s|>|\||```|~~~)")
_FENCE: Final = re.compile(r"\s*(?:```|~~~)")
# What Markdown puts around the words of a line.
_MARKER: Final = re.compile(r"^\s*(?:#{1,6}\s+|(?:[-*+•]|\d{1,3}[.)])\s+(?:\[[ xX]\]\s+)?|>\s?)+")
_HEADING: Final = re.compile(r"\s*#{1,6}\s")
_RULE: Final = re.compile(r"[\s|:=*_-]*$")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, a heading, a list item or a table row."""

    # As a reader sees it: without list marks, on one line.
    text: str
    # Lines of the text on which it begins and ends, from 0.
    first_line: int
    last_line: int
    heading: bool


def split_sentences(text: str) -> list[Sentence]:
    """The sentences of `text` in order."""
    return [sentence for block in _blocks(text) for sentence in _split_block(block)]


@dataclass(frozen=True, slots=True)
class _Block:
    lines: list[str]
    first_line: int
    heading: bool
    code: bool


def _blocks(text: str) -> Iterator[_Block]:
    """Lines that belong together: a paragraph, a list item, a table row, a line of code."""
    held: list[str] = []
    start = 0
    fenced = False
    for number, line in enumerate(text.split("\n")):
        fence = _FENCE.match(line) is not None
        alone = fenced or fence
        if held and (alone or not line.strip() or _BLOCK_START.match(line)):
            yield _Block(held, start, heading=False, code=False)
            held = []
        if fence:
            fenced = not fenced
        elif not line.strip() or _RULE.match(line):
            continue
        elif fenced:
            yield _Block([line], number, heading=False, code=True)
        elif _HEADING.match(line):
            yield _Block([line], number, heading=True, code=False)
        else:
            if not held:
                start = number
            held.append(line)
    if held:
        yield _Block(held, start, heading=False, code=False)


def _split_block(block: _Block) -> Iterator[Sentence]:
    if block.code or block.heading:
        text = _plain(block.lines[0], marked=not block.code)
        if text:
            yield Sentence(text, block.first_line, block.first_line, block.heading)
        return
    joined = "\n".join([_MARKER.sub("", block.lines[0]), *block.lines[1:]])
    start = 0
    for end in _ends(joined):
        text = _plain(joined[start:end], marked=False)
        if text:
            lead = len(joined[start:end]) - len(joined[start:end].lstrip())
            first = block.first_line + joined.count("\n", 0, start + lead)
            last = block.first_line + joined.count("\n", 0, len(joined[:end].rstrip()))
            yield Sentence(text, first, last, heading=False)
        start = end


def _ends(text: str) -> Iterator[int]:
    """Where sentences end, the end of the text included."""
    for match in _END.finditer(text):
        upto = text[max(0, match.end() - 12) : match.end()]
        rest = text[match.end() : match.end() + 40].lstrip()
        # A sentence goes on in lower case only after an abbreviation or a name.
        if match[0] == "." and (_ABBREVIATION.search(upto) or rest[:1].islower()):
            continue
        yield match.end()
    yield len(text)


def _plain(text: str, *, marked: bool) -> str:
    """`text` on one line, without marks that only tell how it looks."""
    if marked:
        text = _MARKER.sub("", text)
    return " ".join(text.replace("**", "").replace("__", "").split()).strip("| ")
