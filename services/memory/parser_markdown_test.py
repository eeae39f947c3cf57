"""Markdown."""

import pytest

from services.memory.parsed_document import ParsedDocument
from services.memory.parser_markdown import MarkdownParser


def _outline(document: ParsedDocument) -> list[tuple[tuple[str, ...], int, int]]:
    """Headings, first and last line of each section."""
    return [
        (each.headings, each.lines[0].number, each.lines[-1].number) for each in document.sections
    ]


def _parse(text: str) -> ParsedDocument:
    return MarkdownParser().parse(text.encode())


def test_sections_begin_at_headings_and_know_those_above() -> None:
    """A deeper heading keeps those above it; one of the same level takes their place."""
    document = _parse("# Top\n\nintro\n\n## A\na\n\n### A1\na1\n\n## B\nb")
    assert _outline(document) == [
        (("Top",), 1, 4),
        (("Top", "A"), 5, 7),
        (("Top", "A", "A1"), 8, 10),
        (("Top", "B"), 11, 12),
    ]
    assert document.title == "Top"


def test_a_heading_with_nothing_below_goes_with_what_follows() -> None:
    """A passage that is but a heading would answer nothing."""
    assert _outline(_parse("# Top\n\n## A\n\ntext")) == [(("Top", "A"), 1, 5)]


def test_underlined_headings_count_and_fenced_ones_do_not() -> None:
    """CommonMark decides what a heading is."""
    document = _parse("Under\nlined\n===\ntext\n```\n# no heading\n```\n    # nor this\n")
    assert _outline(document) == [(("Under lined",), 1, 9)]


def test_headings_are_given_as_they_are_read() -> None:
    """Without their markup."""
    assert _parse("# The *big* [`link`](x) &amp; more\ntext").title == "The big link & more"


def test_front_matter_is_no_heading() -> None:
    """Its closing line would make one of the last line above it."""
    document = _parse("---\ntitle: x\n---\n# Real\ntext")
    assert document.title == "Real"
    assert _outline(document) == [((), 1, 3), (("Real",), 4, 5)]


def test_blocks_begin_at_paragraphs_and_lists() -> None:
    """A list is one block, whatever is in it."""
    lines = _parse("one\none\n\n- a\n  - b\n\n    c\n- d\n\ntwo").sections[0].lines
    assert [each.number for each in lines if each.begins_block] == [1, 4, 10]


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"{'  ' * depth}- x\n" for depth in range(500)),
        "> " * 5_000 + "x",
        "# a\n" * 5_000,
        "- a\n" * 10_000,
        "[a]: <b>\n" * 5_000,
        "`" * 100_000,
        "word " * 200_000,
        "# " + "[" * 3_000_000,
    ],
    ids=["lists", "quotes", "headings", "items", "definitions", "ticks", "long line", "brackets"],
)
def test_strange_documents_are_read_whole(text: str) -> None:
    """Every line is there, once, whatever the nesting."""
    lines = [line for each in _parse(text).sections for line in each.lines]
    assert "\n".join(line.text for line in lines) == text
    assert [line.number for line in lines] == list(range(1, text.count("\n") + 2))
