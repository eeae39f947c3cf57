"""Stop texts, wherever the pieces of an answer are cut."""

from hypothesis import given
from hypothesis import strategies as st

from services.reasoning.stop_texts import StopTexts


@given(
    pieces=st.lists(st.text(alphabet="abc", max_size=5), max_size=12),
    stop=st.lists(st.text(alphabet="abc", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_pieces_stop_where_the_whole_would(pieces: list[str], stop: list[str]) -> None:
    """What is given out never depends on how it came, unless an earlier end was certain."""
    texts = StopTexts(stop)
    given_out = ""
    for piece in pieces:
        given_out += texts.feed(piece)
        if texts.stopped:
            break
    given_out += texts.finish()
    whole = "".join(pieces)
    assert texts.stopped == any(each in whole for each in stop)
    assert given_out == texts.text
    assert whole.startswith(given_out)
    assert not any(each in given_out for each in stop)
    if not texts.stopped:
        assert given_out == whole


def test_text_waits_only_while_it_must() -> None:
    """A piece is given out as soon as no stop text can begin within it."""
    texts = StopTexts(["STOP"])
    assert texts.feed("All well. S") == "All well. "
    assert texts.feed("o far.") == "So far."
    assert (texts.feed(" ST"), texts.feed("OP, he said"), texts.stopped) == (" ", "", True)
