"""Bytes to lines."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.memory.parsed_document import Unreadable, decode, split_lines


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"abc\xff", "byte 0xff at offset 3 is not UTF-8. Save it as UTF-8 and add it again."),
        (
            b"\xef\xbb\xbfab\xe9",
            "byte 0xe9 at offset 5 is not UTF-8. Save it as UTF-8 and add it again.",
        ),
        (b"\xff\xfea\0", "byte 0xff at offset 0 is not UTF-8. Save it as UTF-8 and add it again."),
        (
            b"a\0b",
            "there is a NUL byte at offset 1, so it is no text, or not UTF-8. "
            "Save it as UTF-8 and add it again.",
        ),
    ],
)
def test_what_is_no_text_is_refused_at_its_first_wrong_byte(content: bytes, cause: str) -> None:
    """The offset counts from the first byte of the file, a byte order mark included."""
    with pytest.raises(Unreadable) as caught:
        decode(content)
    assert str(caught.value) == cause


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    """It would be in the first heading otherwise."""
    assert decode(b"\xef\xbb\xbf# A") == "# A"


def test_lines_end_where_editors_end_them() -> None:
    """At LF, CRLF and CR, and not at form feeds or line separators."""
    assert split_lines("a\r\nb\rc\nd\x0ce\u2028f\n") == ["a", "b", "c", "d\x0ce\u2028f", ""]


@given(st.lists(st.text(st.characters(exclude_characters="\r\n"))), st.sampled_from(["\n", "\r\n"]))
@settings(deadline=None)
def test_lines_are_what_was_joined(lines: list[str], end: str) -> None:
    """Splitting undoes joining."""
    assert split_lines(end.join(lines)) == (lines or [""])
