"""Text is split into sentences at the right places, and nothing is lost."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reasoning.offline.sentences import Sentence, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("It costs 17.5 dollars. Pay now.", ["It costs 17.5 dollars.", "Pay now."]),
        ("See docs/app.py for it. Then stop.", ["See docs/app.py for it.", "Then stop."]),
        ("Use e.g. Redis. Not NATS.", ["Use e.g. Redis.", "Not NATS."]),
        ("Dr. J. Doe agreed. We did not.", ["Dr. J. Doe agreed.", "We did not."]),
        ('He said "Stop." She did.', ['He said "Stop."', "She did."]),
        ("Wait... what", ["Wait...", "what"]),
        ("- one\n- two\n  goes on\n- three", ["one", "two goes on", "three"]),
        ("A line\nthat goes on. End", ["A line that goes on.", "End"]),
        ("你好。再见。", ["你好。", "再见。"]),
        ("", []),
        (" \n\n ", []),
    ],
)
def test_sentences_end_where_readers_see_it(text: str, sentences: list[str]) -> None:
    """Numbers, file names, abbreviations and broken lines end no sentence."""
    assert [each.text for each in split_sentences(text)] == sentences


def test_markdown_is_read_as_blocks_with_their_lines() -> None:
    """Headings, list items, table rows and code lines stand alone and know their lines."""
    text = (
        "# Limits\n\nThe gateway\nlimits. It\nanswers 429.\n\n"
        "```sh\nmake it.  so\n```\n| a | b |\n|---|---|"
    )
    assert split_sentences(text) == [
        Sentence("Limits", 0, 0, heading=True),
        Sentence("The gateway limits.", 2, 3, heading=False),
        Sentence("It answers 429.", 3, 4, heading=False),
        Sentence("make it. so", 7, 7, heading=False),
        Sentence("a | b", 9, 9, heading=False),
    ]


@given(st.text(alphabet=st.sampled_from("aB1 .!?\n,'\""), max_size=200))
def test_no_word_is_lost_or_invented(text: str) -> None:
    """The words of the sentences are those of the text, in order, each on its lines."""
    sentences = split_sentences(text)
    # A number and a dot at the start of a line number a list: they are its mark.
    if not re.search(r"^\s*1{1,3}\.", text, re.MULTILINE):
        assert [word for each in sentences for word in each.text.split()] == text.split()
    lines = text.split("\n")
    for each in sentences:
        assert 0 <= each.first_line <= each.last_line < len(lines)
        first_word = each.text.split()[0]
        assert first_word in lines[each.first_line]


@given(st.text(max_size=400))
def test_any_text_is_survived(text: str) -> None:
    """Sentences are never blank and their lines never go back."""
    previous = 0
    for each in split_sentences(text):
        assert each.text.strip() == each.text != ""
        assert previous <= each.first_line <= each.last_line
        previous = each.first_line
