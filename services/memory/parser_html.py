"""HTML: the visible text, with the lines of the source that it stands in."""

import html
from typing import Final

from services.memory.html_tokens import Tag, Text, tokens
from services.memory.parsed_document import (
    Line,
    ParsedDocument,
    Section,
    check_line_count,
    decode_lines,
    heading_text,
)

_UNSEEN: Final = frozenset(
    {"script", "style", "template", "noscript", "svg", "iframe", "noembed", "title"}
)
_INLINE: Final = frozenset(
    {"a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font"}
    | {"i", "img", "ins", "kbd", "label", "mark", "q", "s", "samp", "small", "span", "strike"}
    | {"strong", "sub", "sup", "time", "tt", "u", "var", "wbr"}
)
# What separates words without ending a block.
_GAPS: Final = frozenset({"br", "td", "th", "option"})
_HEADINGS: Final = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})


class HtmlDocumentParser:
    """Reads text/html."""

    def parse(self, content: bytes) -> ParsedDocument:
        """The visible text by headings; Unreadable where it is not UTF-8."""
        collector = _Collector()
        for token in tokens("\n".join(decode_lines(content))):
            if isinstance(token, Text):
                collector.text(token)
            elif token.closes:
                collector.closing_tag(token)
            else:
                collector.opening_tag(token)
        return collector.document()


class _Collector:
    """Gathers blocks, headings and sections. It has no tree: unclosed elements do no harm."""

    def __init__(self) -> None:
        self._title: list[str] = []
        # The outermost open element of which nothing is seen, and how many of
        # its name are open.
        self._unseen = ""
        self._unseen_depth = 0
        # The block being read: line numbers, and the pieces of what stands in each. They are
        # joined once: a page may have a million of them in one line.
        self._block: list[tuple[int, list[str]]] = []
        self._lines: list[Line] = []
        self._line_count = 0
        self._sections: list[Section] = []
        self._path: list[tuple[int, str]] = []
        # Where the lines of the open heading begin; None outside of headings.
        self._heading_from: int | None = None
        self._has_body = False

    def opening_tag(self, tag: Tag) -> None:
        """An element begins, and the one before may end with it."""
        if tag.name == "body":
            self._unseen = ""
        elif self._unseen:
            self._unseen_depth += tag.name == self._unseen
        elif tag.name in _UNSEEN:
            self._unseen = tag.name
            self._unseen_depth = 1
        elif tag.name in _GAPS:
            self._gap()
        elif tag.name not in _INLINE:
            self._end_block()
            if tag.name in _HEADINGS:
                self._end_heading(0)
                if self._has_body:
                    self._end_section()
                self._heading_from = len(self._lines)

    def closing_tag(self, tag: Tag) -> None:
        """An element ends."""
        if self._unseen:
            self._unseen_depth -= tag.name == self._unseen
            if not self._unseen_depth:
                self._unseen = ""
        elif tag.name in _GAPS:
            self._gap()
        elif tag.name not in _INLINE:
            self._end_block()
            if tag.name in _HEADINGS:
                self._end_heading(int(tag.name[1]))

    def text(self, token: Text) -> None:
        """Text, seen or not."""
        if self._unseen:
            if self._unseen == "title":
                self._title.append(html.unescape(token.text))
            return
        first, *rest = token.text.split("\n")
        if self._block and self._block[-1][0] == token.line:
            self._block[-1][1].append(first)
        else:
            self._block.append((token.line, [first]))
        self._block.extend((token.line + n, [each]) for n, each in enumerate(rest, start=1))

    def document(self) -> ParsedDocument:
        """What was gathered."""
        self._end_block()
        self._end_heading(0)
        self._end_section()
        title = heading_text("".join(self._title))
        first = next((text for each in self._sections for text in each.headings), "")
        return ParsedDocument(title or first, tuple(self._sections))

    def _gap(self) -> None:
        if self._block:
            self._block[-1][1].append(" ")

    def _end_block(self) -> None:
        begins = True
        for number, pieces in self._block:
            words = " ".join(html.unescape("".join(pieces)).split())
            if words:
                self._lines.append(Line(number, words, begins))
                begins = False
                self._line_count += 1
                self._has_body = self._has_body or self._heading_from is None
        self._block.clear()
        check_line_count(self._line_count)

    def _end_heading(self, level: int) -> None:
        if self._heading_from is None:
            return
        text = heading_text(" ".join(line.text for line in self._lines[self._heading_from :]))
        self._heading_from = None
        if text and level:
            self._path = [each for each in self._path if each[0] < level] + [(level, text)]

    def _end_section(self) -> None:
        if self._lines:
            headings = tuple(text for _, text in self._path)
            self._sections.append(Section(headings, tuple(self._lines)))
        self._lines = []
        self._has_body = False
