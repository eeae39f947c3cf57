"""HTML as tags and texts, with the lines that they stand in.

Our own, since Python's html.parser (and with it Beautiful Soup) needs 20
seconds for 30 KB of `<a <a <a`, and forgets where a text began. This one looks
at each sign a fixed number of times, and knows no attributes: nobody here asks
for them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_TAG: Final = re.compile(r"<(/?)([a-zA-Z][^\s/>]*)")
# In a tag: what may end it, or hide an end.
_TAG_MARK: Final = re.compile(r"[>\"']")
# What begins a tag, comment, doctype or processing instruction.
_MARKUP: Final = re.compile(r"<(?=[a-zA-Z!?]|/[a-zA-Z])")
# Elements whose content has no tags.
_RAW: Final = frozenset({"script", "style", "title", "textarea", "xmp", "iframe", "noembed"})


@dataclass(frozen=True, slots=True)
class Tag:
    """`<name ...>` or, where it `closes`, `</name>`; the name in lower case."""

    name: str
    closes: bool


@dataclass(frozen=True, slots=True)
class Text:
    """Text between tags, its character references as they are written."""

    text: str
    # The line of the source in which it begins, from 1.
    line: int


def tokens(source: str) -> Iterator[Tag | Text]:
    """The tags and texts of `source`, whose lines end with a line feed; no comments."""
    at = line = line_at = 0
    raw = ""
    while at < len(source):
        end = _raw_end(source, raw, at) if raw else _markup_start(source, at)
        raw = ""
        if end > at:
            line += source.count("\n", line_at, at)
            line_at = at
            yield Text(source[at:end], line + 1)
        if end == len(source):
            return
        match = _TAG.match(source, end)
        if match is None:
            at = _after_declaration(source, end)
            continue
        tag = Tag(match[2].lower(), bool(match[1]))
        yield tag
        at = _after_tag(source, match.end())
        if tag.name in _RAW and not tag.closes:
            raw = tag.name


def _markup_start(source: str, at: int) -> int:
    match = _MARKUP.search(source, at)
    return match.start() if match else len(source)


def _raw_end(source: str, name: str, at: int) -> int:
    match = re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE).search(source, at)
    return match.start() if match else len(source)


def _after_declaration(source: str, at: int) -> int:
    """Behind a comment, doctype or processing instruction, which may never end."""
    mark = "-->" if source.startswith("<!--", at) else ">"
    end = source.find(mark, at + 2)
    return len(source) if end < 0 else end + len(mark)


def _after_tag(source: str, at: int) -> int:
    """Behind the `>` that is in no attribute's value; a tag without end takes the rest with it."""
    while match := _TAG_MARK.search(source, at):
        if match[0] == ">":
            return match.end()
        closing = source.find(match[0], match.end())
        if closing < 0:
            # A stray quote, more likely than a value up to the end.
            end = source.find(">", match.end())
            return len(source) if end < 0 else end + 1
        at = closing + 1
    return len(source)
