"""What parsers make of a document: lines that know where they stand, under their headings."""

import re
from dataclasses import dataclass
from typing import Final

# Not str.splitlines, which also splits at form feeds and the like, where no
# editor counts a line.
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
# A line costs a few hundred bytes of memory while it is read, however short.
MAX_LINES: Final = 300_000
# Headings are kept with every passage below them.
_MAX_HEADING_CHARACTERS: Final = 200


class Unreadable(Exception):
    """Why a document cannot be read, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text."""

    # In the source, from 1; 0 where lines mean nothing.
    number: int
    text: str
    # Whether a paragraph, list or the like begins here: a good place to split.
    begins_block: bool


@dataclass(frozen=True, slots=True)
class Section:
    """What stands under one heading, up to the next. Passages do not cross sections."""

    # Outermost first, with the section's own.
    headings: tuple[str, ...]
    lines: tuple[Line, ...]
    # From 1; 0 where pages mean nothing.
    page: int = 0


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """A document as text. `title` is empty where the content names none."""

    title: str
    sections: tuple[Section, ...]


def check_line_count(count: int) -> None:
    """Unreadable where a document has more than `MAX_LINES` lines."""
    if count > MAX_LINES:
        raise Unreadable(f"it has more than {MAX_LINES} lines. Add it in parts.")


def heading_text(text: str) -> str:
    """A heading or title in one line, cut where it is long."""
    return " ".join(text.split())[:_MAX_HEADING_CHARACTERS].rstrip()


def split_lines(text: str) -> list[str]:
    """The lines of `text` as editors count them, without their ends."""
    return _LINE_END.split(text)


def paragraph_lines(texts: list[str], *, numbered: bool) -> tuple[Line, ...]:
    """Lines of which each first one after a blank one begins a block."""
    lines: list[Line] = []
    blank_before = True
    for number, text in enumerate(texts, start=1):
        blank = not text.strip()
        lines.append(Line(number if numbered else 0, text, blank_before and not blank))
        blank_before = blank
    return tuple(lines)


def decode_lines(content: bytes) -> list[str]:
    """The lines of UTF-8 bytes; Unreadable as `decode`, and where there are too many."""
    lines = split_lines(decode(content))
    check_line_count(len(lines))
    return lines


def decode(content: bytes) -> str:
    """The text of UTF-8 bytes, without a byte order mark. Unreadable names the wrong byte."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The codec counts from behind a byte order mark.
        offset = error.start + len(content) - len(error.object)
        raise Unreadable(
            f"byte 0x{content[offset]:02x} at offset {offset} is not UTF-8. "
            "Save it as UTF-8 and add it again."
        ) from error
    nul = content.find(0)
    if nul >= 0:
        raise Unreadable(
            f"there is a NUL byte at offset {nul}, so it is no text, or not UTF-8. "
            "Save it as UTF-8 and add it again."
        )
    return text
