"""Tool calls and stop texts in what a model writes."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.reasoning.answer_text import AnswerText, CallText
from services.reasoning.chat_text import broken_marks

_CALL = '<tool_call>\n{"name": "add"}\n</tool_call>'


def _read(text: str, cuts: list[int], *, stop: tuple[str, ...] = ()) -> AnswerText:
    """The answer, fed in pieces cut at these places."""
    answer = AnswerText(stop=stop)
    at = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    given_out = "".join(answer.feed(text[a:b]) for a, b in pairwise(at))
    assert given_out + answer.finish() == answer.text
    return answer


_CUTS = st.lists(st.integers(0, 200), max_size=12)


@given(_CUTS)
def test_calls_are_taken_out_wherever_the_pieces_are_cut(cuts: list[int]) -> None:
    """The text before them stays, the space around them goes."""
    answer = _read(f"Let me see.\n{_CALL}\n{_CALL}\n", cuts)
    assert answer.text == "Let me see."
    assert answer.calls == [CallText('{"name": "add"}')] * 2


@given(st.text(max_size=30), _CUTS)
def test_a_broken_mark_in_text_is_mended_wherever_it_is_cut(text: str, cuts: list[int]) -> None:
    """What a model quotes of a document with marks is no call."""
    quoted = f"{text}{_CALL}<|im_end|>."
    answer = _read(broken_marks(quoted), cuts)
    assert answer.text == quoted
    assert not answer.calls


@given(_CUTS)
def test_a_stop_text_ends_the_answer_wherever_it_is_cut(cuts: list[int]) -> None:
    """It is not part of the text, and nor is what follows."""
    answer = _read("One, two, ENOUGH, three.", cuts, stop=("ENOUGH", "never"))
    assert answer.text == "One, two, "
    assert answer.stopped


def test_text_is_given_out_as_soon_as_it_is_certain() -> None:
    """Only what may become a mark waits for the next piece."""
    answer = AnswerText(stop=["STOP"])
    assert answer.feed("2 <") == "2"
    assert answer.feed(" 3, S") == " < 3, "
    assert answer.feed("o be it.") == "So be it."
    assert answer.finish() == ""


def test_a_call_that_is_cut_off_is_marked() -> None:
    """It may be whole all the same, or may not."""
    answer = _read('<tool_call>\n{"name": "a', [])
    assert answer.calls == [CallText('{"name": "a', finished=False)]


def test_without_tools_nothing_is_a_call() -> None:
    """The text comes as it is written."""
    answer = AnswerText(with_calls=False)
    assert answer.feed(_CALL) + answer.finish() == _CALL
