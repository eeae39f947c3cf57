"""HTML."""

import html

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.memory.parsed_document import ParsedDocument
from services.memory.parser_html import HtmlDocumentParser

_PAGE = """<!DOCTYPE html>
<html><head>
<title>Rates &amp;
 limits</title>
<style>p { color: red }</style>
<script>if (a < b) { alert("</p>") }</script>
</head><body class="a>b">
<h1>How <b>we</b> limit</h1>
<!-- <p>not this</p> -->
<p>Every tenant has
a <a href='x'>bucket</a>.<br>It refills.</p>
<ul><li>one<li>two</ul>
<h2>Errors</h2>
<table><tr><td>429</td><td>slow down</td></tr></table>
AT&T, caf&eacute; &#8364; 5
<noscript>Turn it on</noscript>
</body></html>"""


def _lines(document: ParsedDocument) -> list[tuple[tuple[str, ...], int, str]]:
    return [
        (each.headings, line.number, line.text) for each in document.sections for line in each.lines
    ]


def _parse(text: str) -> ParsedDocument:
    return HtmlDocumentParser().parse(text.encode())


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_visible_text_stands_where_the_source_has_it(end: str) -> None:
    """Scripts, styles and comments are gone; headings are known; line numbers are the source's."""
    document = _parse(_PAGE.replace("\n", end))
    limit, errors = ("How we limit",), ("How we limit", "Errors")
    assert document.title == "Rates & limits"
    assert _lines(document) == [
        (limit, 8, "How we limit"),
        (limit, 10, "Every tenant has"),
        (limit, 11, "a bucket. It refills."),
        (limit, 12, "one"),
        (limit, 12, "two"),
        (errors, 13, "Errors"),
        (errors, 14, "429 slow down"),
        (errors, 15, "AT&T, café € 5"),
    ]


def test_the_first_heading_stands_in_for_a_title() -> None:
    """Where there is no title element."""
    assert _parse("<h2>Only</h2>text").title == "Only"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a < b and b > c", "a < b and b > c"),
        ("<p>open", "open"),
        ("<script>never closed", ""),
        ("<SCRIPT>x</Script >y", "y"),
        ("<!-- never closed", ""),
        ('<p title="x>y">z', "z"),
        ('<p title="x>z', "z"),
        ("<svg><p>a</p><svg></svg>b</svg>c", "c"),
        ("<noscript>a<body>b", "b"),
        ("</p></div>a", "a"),
        ("<?xml version='1'?>a", "a"),
        ("&lt;b&gt;", "<b>"),
    ],
)
def test_malformed_pages_give_up_their_text(source: str, text: str) -> None:
    """Nothing needs to be closed, and nothing unclosed hides more than it must."""
    assert " ".join(each[2] for each in _lines(_parse(source))) == text


@pytest.mark.parametrize(
    "piece",
    ["<a ", "<!--", "</a", "<script>", '<a href="', "&a", "<p>", "<noscript>", "<a =", "<![CDATA["],
)
def test_no_page_takes_long(piece: str) -> None:
    """A hundred thousand of anything is read in the time of any other page of this size."""
    _parse(piece * 100_000)


def test_a_page_in_one_line_takes_no_longer() -> None:
    """As large as a page may be, and tags all over: in seconds, where copying took minutes."""
    ((_, _, text),) = _lines(_parse("some words <b>" * 400_000))
    assert text.count("words") == 400_000


_WORDS = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FFF, categories=["L", "N", "P", "S"]),
    min_size=1,
)


@given(st.lists(st.lists(_WORDS, max_size=4), max_size=8))
@settings(deadline=None)
def test_every_word_is_found_in_its_line(lines: list[list[str]]) -> None:
    """Whatever the words are made of, as long as they are escaped."""
    source = "\n".join(" ".join(f"<p>{html.escape(word)}</p>" for word in line) for line in lines)
    found = [(number, text) for _, number, text in _lines(_parse(source))]
    assert found == [(n, word) for n, line in enumerate(lines, start=1) for word in line]


@given(st.text(st.sampled_from("<>/!-\"'= abp\n&;")))
@settings(deadline=None)
def test_anything_can_be_read(source: str) -> None:
    """No sequence of signs is an error, and no line is numbered beyond the source."""
    for _, number, text in _lines(_parse(source)):
        assert 1 <= number <= source.count("\n") + 1
        assert text.strip() == text != ""
