"""Server-sent events are the same in whatever parts they come."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reasoning.server_events import ServerEvents

_LINES = st.sampled_from(
    (
        b"",
        b"",
        b"data: a",
        b"data:b",
        b"data:  c",
        b"data",
        b": data: x",
        b"event: y",
        b"id: 1",
        b"x",
    )
)
_ENDS = st.sampled_from((b"\n", b"\r\n", b"\r"))


def _events(*parts: bytes) -> list[bytes]:
    events = ServerEvents()
    return [*(each for part in parts for each in events.feed(part)), *events.end()]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_an_event_is_its_data(end: bytes) -> None:
    """Lines of one are joined; comments, names, numbers and unknown fields are left out."""
    lines = [
        b": hello", b"event: chunk", b"id: 7", b'data: {"n": 1}', b"",
        b"data:first", b"data:  second: third", b"", b"", b"retry: 10", b"",
        b"data: [DONE]", b"", b"",
    ]  # fmt: skip
    assert _events(end.join(lines)) == [b'{"n": 1}', b"first\n second: third", b"[DONE]"]


def test_an_event_without_its_blank_line_is_none() -> None:
    """What broke off may be half of it."""
    assert _events(b"data: 1\n\ndata: 2\n") == [b"1"]
    assert _events(b"data: 1\n\ndata: 2") == [b"1"]
    assert _events(b"data: 1\r\rdata: 2\r") == [b"1"]
    assert _events(b"data: 1\r\rdata: 2\r\r") == [b"1", b"2"]


def test_an_event_is_told_when_its_blank_line_is_there() -> None:
    """Nobody waits for the next one."""
    events = ServerEvents()
    assert events.feed(b"data: 1\n") == []
    assert events.feed(b"\nda") == [b"1"]
    assert events.feed(b"ta: 2\r\n\r\n") == [b"2"]


@given(st.lists(st.tuples(_LINES, _ENDS), max_size=30), st.lists(st.integers(0, 400), max_size=20))
def test_where_it_is_cut_makes_no_difference(
    lines: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    """Not in the middle of a word, and not between the halves of a line's end."""
    whole = b"".join(line + end for line, end in lines)
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    parts = [whole[start:end] for start, end in pairwise(places)]
    assert _events(*parts) == _events(whole)


def test_a_long_line_is_put_together_once() -> None:
    """A server that never ends its line costs no more than what it sends."""
    events = ServerEvents()
    for _ in range(20_000):
        assert events.feed(b"data: " + b"x" * 994) == []
    (event,) = events.feed(b"\n\n")
    assert len(event) == 20_000_000 - len(b"data: ")
