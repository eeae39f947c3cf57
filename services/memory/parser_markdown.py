"""Markdown: sections at headings. The text stays as it is written, so that lines can be cited."""

from dataclasses import dataclass
from typing import Final

from services.memory.parsed_document import (
    Line,
    ParsedDocument,
    Section,
    decode_lines,
    heading_text,
)

_FENCE: Final = "---"
# The library makes several objects of each line: this many lines at a time.
_SLICE_LINES: Final = 50_000
# Of a heading, with its markup; much less is kept. The library takes a second for some
# of ten thousand.
_MOST_MARKUP_CHARACTERS: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Heading:
    # The lines that it takes, from 0, and the one behind them.
    line: int
    end: int
    level: int
    text: str


class MarkdownParser:
    """Reads text/markdown (CommonMark)."""

    def parse(self, content: bytes) -> ParsedDocument:
        """The sections and their lines; Unreadable where it is not UTF-8."""
        texts = decode_lines(content)
        scanner = _Scanner()
        for first in range(_front_matter_length(texts), len(texts), _SLICE_LINES):
            scanner.scan(texts[first : first + _SLICE_LINES], first)
        lines = [Line(n + 1, text, n in scanner.starts) for n, text in enumerate(texts)]
        title = next((each.text for each in scanner.headings if each.text), "")
        return ParsedDocument(title, tuple(_sections(lines, scanner.headings)))


class _Scanner:
    """Finds headings, and the lines that blocks begin in."""

    def __init__(self) -> None:
        # Imported when the first document comes: a start takes long enough.
        from markdown_it import MarkdownIt

        self.headings: Final[list[_Heading]] = []
        self.starts: Final[set[int]] = {0}
        # Blocks are all that is needed of the body; headings are parsed to the end.
        self._blocks: Final = MarkdownIt("commonmark")
        self._blocks.core.ruler.enableOnly(["normalize", "block"])
        # A definition of a link is text like any other here; many take it long.
        self._blocks.disable("reference")
        self._inline: Final = MarkdownIt("commonmark")

    def scan(self, texts: list[str], first: int) -> None:
        """Adds what is found in `texts`, the lines from `first` on."""
        tokens = self._blocks.parse("\n".join(texts))
        for index, token in enumerate(tokens):
            if token.level or token.map is None:
                continue
            start, end = token.map
            self.starts.add(first + start)
            if token.type == "heading_open":
                text = self._plain(tokens[index + 1].content)
                level = int(token.tag[1])
                self.headings.append(_Heading(first + start, first + end, level, text))

    def _plain(self, markup: str) -> str:
        return heading_text(
            "".join(
                " " if child.type == "softbreak" else child.content
                for token in self._inline.parseInline(markup[:_MOST_MARKUP_CHARACTERS])
                for child in token.children or ()
            )
        )


def _front_matter_length(texts: list[str]) -> int:
    """How many lines at the top are YAML between two `---`; CommonMark would see headings there."""
    if texts[0].rstrip() != _FENCE:
        return 0
    for number, text in enumerate(texts[1:], start=1):
        if text.rstrip() == _FENCE:
            return number + 1
    return 0


def _sections(lines: list[Line], headings: list[_Heading]) -> list[Section]:
    sections: list[Section] = []
    path: list[_Heading] = []
    start = body = 0  # where the section begins, and what follows its headings
    for heading in headings:
        # A heading with nothing below it goes with what follows.
        if any(line.text.strip() for line in lines[body : heading.line]):
            sections.append(_section(path, lines[start : heading.line]))
            start = heading.line
        path = [each for each in path if each.level < heading.level] + [heading]
        body = heading.end
    sections.append(_section(path, lines[start:]))
    return sections


def _section(path: list[_Heading], lines: list[Line]) -> Section:
    return Section(tuple(each.text for each in path if each.text), tuple(lines))
