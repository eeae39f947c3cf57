"""Snippets."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.memory.snippet import MAX_CHARACTERS, snippet

_FILLER = "Nothing of interest is said in this sentence, which only fills the page. " * 6


def test_the_sentence_with_most_words_of_the_query_comes_first() -> None:
    """Even in the middle of a long passage."""
    text = f"{_FILLER}Rate limits are described in the gateway runbook. {_FILLER}"
    assert snippet(text, "Which runbook describes rate limits?").startswith(
        "Rate limits are described in the gateway runbook."
    )


def test_a_sentence_at_the_end_has_what_stands_before_it() -> None:
    """The room is used, from the start of a word on."""
    text = f"{_FILLER}Rate limits are here."
    found = snippet(text, "rate limits")
    assert found.endswith("Rate limits are here.")
    assert 250 < len(found) <= MAX_CHARACTERS
    assert f" {found}" in text


def test_a_short_passage_is_its_own_snippet() -> None:
    """As it is."""
    assert snippet("Short.\nText.", "nothing") == "Short.\nText."


def test_without_any_word_of_the_query_it_is_the_beginning() -> None:
    """There is no better part."""
    assert _FILLER.startswith(snippet(_FILLER, "zzz"))


@given(st.text(min_size=1), st.text())
@settings(deadline=None)
def test_it_is_a_part_of_the_passage(text: str, query: str) -> None:
    """Never longer than the limit, never blank where the passage is not."""
    text = text * 50
    found = snippet(text, query)
    assert found in text
    assert len(found) <= MAX_CHARACTERS
