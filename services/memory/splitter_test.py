"""Splitting."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.memory.document import Passage
from services.memory.parsed_document import ParsedDocument, Section, paragraph_lines, split_lines
from services.memory.parser_markdown import MarkdownParser
from services.memory.parser_text import TextParser
from services.memory.splitter import BYTES_PER_TOKEN, Splitter

_TARGET_TOKENS = 20
_TARGET_BYTES = _TARGET_TOKENS * BYTES_PER_TOKEN
_SPLITTER = Splitter(target_tokens=_TARGET_TOKENS, overlap_tokens=4)


def _split(text: str, splitter: Splitter = _SPLITTER) -> list[Passage]:
    return list(splitter.split(TextParser().parse(text.encode())))


_TEXTS = st.lists(
    st.sampled_from(
        [
            "word",
            "another",
            "End.",
            "x",
            "é" * 7,
            "。",
            "漢字",
            "a" * 200,
            "\n",
            "\n\n",
            "\r\n",
            "# Title\n",
            "- item",
            "\t",
            "```",
        ]
    ),
    max_size=80,
).map(" ".join)


@given(_TEXTS, st.sampled_from([TextParser(), MarkdownParser()]))
@settings(deadline=None)
def test_a_passage_is_a_part_of_the_lines_that_it_cites(
    text: str, parser: TextParser | MarkdownParser
) -> None:
    """Word for word, with the right first and last line, and never blank."""
    lines = split_lines(text)
    for passage in _SPLITTER.split(parser.parse(text.encode())):
        cited = lines[passage.start_line - 1 : passage.end_line]
        assert passage.text.strip() == passage.text != ""
        assert passage.text in "\n".join(cited)
        assert passage.text.split("\n")[0] in cited[0]
        assert passage.text.split("\n")[-1] in cited[-1]


def _unique_words(parts: list[tuple[int, str]]) -> str:
    """Words of given lengths, no part of which occurs twice, so that a passage can be found."""
    return "".join(
        "".join(f"<é{n}.{k}>" for k in range(length)) + gap for n, (length, gap) in enumerate(parts)
    )


_UNIQUE_WORDS = st.lists(
    st.tuples(st.sampled_from([1, 2, 3, 25]), st.sampled_from([" ", ". ", "\n", "\n\n"])),
    max_size=60,
).map(_unique_words)


def _holds(text: str, word: str, at: int) -> bool:
    start = text.index(word)
    return start <= at < start + len(word)


@given(_UNIQUE_WORDS)
@settings(deadline=None)
def test_nothing_is_lost_and_no_word_is_cut(text: str) -> None:
    """Between two passages are but blanks; only a word that is longer than a passage is cut."""
    end = 0
    for passage in _split(text):
        start = end + len(text[end:]) - len(text[end:].lstrip())
        if not text.startswith(passage.text, start):  # it repeats something
            start = text.index(passage.text)
        assert not text[end:start].strip()
        end = start + len(passage.text)
        for inside, outside in ((start, start - 1), (end - 1, end)):
            if 0 <= outside < len(text) and not text[outside].isspace():
                word = next(each for each in text.split() if _holds(text, each, inside))
                assert len(word.encode()) > _TARGET_BYTES
    assert not text[end:].strip()


@given(_TEXTS)
@settings(deadline=None)
def test_passages_are_no_longer_than_the_target(text: str) -> None:
    """In bytes, so that signs of any script count as what they cost."""
    assert all(len(each.text.encode()) <= _TARGET_BYTES for each in _split(text))


def test_paragraphs_stay_whole_where_they_fit() -> None:
    """The cut is before a paragraph rather than in the middle of one."""
    paragraph = "Ten words make this paragraph, which is long."
    passages = _split(
        f"{paragraph}\n\n{paragraph}\n\n{paragraph}", Splitter(target_tokens=20, overlap_tokens=0)
    )
    assert [(each.start_line, each.end_line, each.text) for each in passages] == [
        (1, 1, paragraph),
        (3, 3, paragraph),
        (5, 5, paragraph),
    ]


def test_sentences_stay_whole_where_paragraphs_do_not_fit() -> None:
    """And each passage repeats the last words of the one before."""
    text = " ".join(f"This is the sentence number {n}." for n in range(1, 6))
    assert [each.text for each in _split(text)] == [
        "This is the sentence number 1. This is the sentence number 2.",
        "number 2. This is the sentence number 3. This is the sentence number 4.",
        "number 4. This is the sentence number 5.",
    ]


def test_a_short_document_is_one_passage() -> None:
    """Without a copy of its end."""
    assert [each.text for each in _split("  Short.\n")] == ["Short."]


def test_a_word_longer_than_a_passage_is_cut_into_such() -> None:
    """There is no better place."""
    assert [each.text for each in _split("a" * 200)] == ["a" * 80, "a" * 80, "a" * 40]


def test_passages_do_not_cross_sections() -> None:
    """What stands under another heading, or on another page, is another matter."""
    sections = [
        Section((name,), paragraph_lines([f"Text {name}."], numbered=False), page)
        for page, name in enumerate("AB", start=1)
    ]
    passages = list(_SPLITTER.split(ParsedDocument("", tuple(sections))))
    assert passages == [
        Passage("Text A.", ("A",), 0, 0, 1),
        Passage("Text B.", ("B",), 0, 0, 2),
    ]


def test_long_documents_take_linear_time() -> None:
    """A megabyte and a half, in one line or in many, is split within a test's time."""
    for text in ("word " * 300_000, "word word word word\n" * 75_000, "a" * 1_500_000):
        assert len(_split(text, Splitter(target_tokens=200, overlap_tokens=40))) > 1_250
