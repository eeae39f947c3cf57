"""Markdown: sections at headings. The text stays as it is written, so that lines can be cited."""

from dataclasses import dataclass
from typing import Final

from markdown_it import MarkdownIt

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


@dataclass(frozen=True, slots=True)
class _Heading:
    # The lines that it takes, from 0, and the one behind them.
    line: int
    end: int
    level: int
    text: str


class MarkdownParser:
    """Reads text/markdown (CommonMark)."""

    def __init__(self) -> None:
        # Blocks are all that is needed of the body; headings are parsed to the end.
        self._blocks: Final = MarkdownIt("commonmark")
        self._blocks.core.ruler.enableOnly(["normalize", "block"])
        # A definition of a link is text like any other here; many take it long.
        self._blocks.disable("reference")
        self._inline: Final = MarkdownIt("commonmark")

    def parse(self, content: bytes) -> ParsedDocument:
        """The sections and their lines; Unreadable where it is not UTF-8."""
        texts = decode_lines(content)
        body = _front_matter_length(texts)
        headings: list[_Heading] = []
        starts: set[int] = {0}
        for first in range(body, len(texts), _SLICE_LINES):
            self._scan(texts[first : first + _SLICE_LINES], first, headings, starts)
        lines = [Line(n + 1, text, n in starts) for n, text in enumerate(texts)]
        title = next((each.text for each in headings if each.text), "")
        return ParsedDocument(title, tuple(_sections(lines, headings)))

    def _scan(
        self, texts: list[str], first: int, headings: list[_Heading], starts: set[int]
    ) -> None:
        """Adds the headings and the starts of blocks in `texts`, the lines from `first` on."""
        tokens = self._blocks.parse("\n".join(texts))
        for index, token in enumerate(tokens):
            if token.level or token.map is None:
                continue
            start, end = token.map
            starts.add(first + start)
            if token.type == "heading_open":
                text = self._plain(tokens[index + 1].content)
                headings.append(_Heading(first + start, first + end, int(token.tag[1]), text))

    def _plain(self, markup: str) -> str:
        return heading_text(
            "".join(
                " " if child.type == "softbreak" else child.content
                for token in self._inline.parseInline(markup)
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
