"""The headers that are written are read by others, and say what they are to say."""

import base64
import math
import string
from typing import cast

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwire import headers

_NAMES = st.text(string.ascii_lowercase + string.digits + "-_.", min_size=1, max_size=200).filter(
    lambda each: not each.endswith("-bin")
)
_PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
_VALUES = st.text(_PRINTABLE, max_size=300)
_LENGTHS = (0, 1, 126, 127, 128, 254, 255, 256, 16_383, 16_384, 16_511, 16_512, 50_000)


def _read(block: bytes) -> list[tuple[str, str]]:
    """What another implementation reads."""
    decoder = hpack.Decoder(max_header_list_size=1 << 20)
    return [(name, value) for name, value in cast(headers.Headers, decoder.decode(block))]


@given(st.lists(st.tuples(_NAMES, _VALUES)))
def test_headers_are_read_as_they_were(said: list[tuple[str, str]]) -> None:
    """But for spaces around a value, which are no part of it."""
    expected = [(name, value.strip(" ")) for name, value in said]
    assert _read(headers.block(said)) == expected


@pytest.mark.parametrize("size", _LENGTHS)
def test_headers_of_any_length_are_read_as_they_were(size: int) -> None:
    """Also where the length takes several bytes."""
    assert _read(headers.literal("x" * (size + 1), "")) == [("x" * (size + 1), "")]
    assert _read(headers.literal("x", "v" * size)) == [("x", "v" * size)]


@given(_NAMES.map(lambda name: f"{name}-bin"), st.binary(max_size=300))
def test_binary_metadata_is_read_as_it_was(name: str, value: bytes) -> None:
    """It travels as base64 without padding, by which one may read it, too."""
    ((read_name, text),) = _read(headers.literal(name, value))
    assert "=" not in text
    assert headers.metadata([(read_name, text)]) == ((name, value),)
    padded = base64.b64encode(value).decode()
    assert headers.metadata([(name, padded)]) == ((name, value),)


@given(st.lists(st.binary(max_size=20), min_size=1))
def test_binary_metadata_that_was_joined_is_taken_apart(values: list[bytes]) -> None:
    """Whoever passes headers on may join those of one name by commas."""
    joined = ",".join(base64.b64encode(each).decode() for each in values)
    assert headers.metadata([("x-bin", joined)]) == tuple(("x-bin", each) for each in values)


@pytest.mark.parametrize("value", ["a", "ab!d", "é", "ab\u0660d", "=", "a=b="])
def test_binary_metadata_that_is_no_base64_is_refused(value: str) -> None:
    """As a ValueError, which says no more."""
    with pytest.raises(ValueError, match=r"base64|ASCII"):
        headers.metadata([("x-bin", value)])


def test_what_is_grpcs_own_is_no_metadata() -> None:
    """Neither are the headers by which a call is routed."""
    said = [(":path", "/a/b"), ("te", "trailers"), ("grpc-timeout", "1S"), ("user-agent", "x")]
    assert headers.metadata(said) == (("user-agent", "x"),)


@pytest.mark.parametrize("name", ["", "Upper", "with space", "é", "line\n", "a:b"])
def test_what_is_no_name_of_a_header_is_refused(name: str) -> None:
    """It would cost the whole connection, and all calls on it."""
    with pytest.raises(ValueError, match="is no name of a header"):
        headers.literal(name, "")


@pytest.mark.parametrize("value", ["two\r\nlines", "\0", "\t", "é", "\x7f", "\u6f22", b"\xff"])
def test_what_is_no_value_of_a_header_is_refused(value: str | bytes) -> None:
    """It would cost the whole connection, and all calls on it."""
    with pytest.raises(ValueError, match="the header x may have printable ASCII only"):
        headers.literal("x", value)


def test_credentials_stay_out_of_tables() -> None:
    """Those of everybody on the way."""
    block = headers.literal("authorization", "Bearer secret")
    (read,) = list(hpack.Decoder().decode(block))
    assert isinstance(read, hpack.NeverIndexedHeaderTuple)


@given(st.booleans(), st.text(string.ascii_letters + "./", max_size=200))
def test_requests_are_read_as_they_were(tls: bool, path: str) -> None:
    """With all that gRPC has a call say."""
    assert _read(headers.request_block("host:1", f"/{path}", tls=tls)) == [
        (":method", "POST"),
        (":scheme", "https" if tls else "http"),
        (":authority", "host:1"),
        (":path", f"/{path}"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]


_UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "S": 1.0, "M": 60.0, "H": 3600.0}


def _near(unit: str, beyond: float) -> float:
    """About as long as can be said in that unit."""
    return _UNITS[unit] * (99_999_999 + beyond)


@given(
    st.floats(0, 3600 * 99_999_999) | st.builds(_near, st.sampled_from("numSM"), st.floats(-2, 2))
)
def test_a_call_has_the_time_that_its_caller_gives_it(seconds: float) -> None:
    """In eight digits: longer by a unit at most, and shorter only as floating point is."""
    ((name, text),) = _read(headers.timeout_header(seconds))
    assert name == "grpc-timeout"
    assert 1 <= len(text) - 1 <= 8
    said = headers.read_timeout(text)
    assert seconds - 1e-9 <= said * (1 + 1e-9)
    assert said <= seconds + _UNITS[text[-1]] + seconds * 1e-9


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_deadline_that_has_passed_is_the_shortest(seconds: float) -> None:
    """There is no timeout of nothing."""
    assert _read(headers.timeout_header(seconds)) == [("grpc-timeout", "1n")]


@pytest.mark.parametrize("seconds", [1e20, math.inf])
def test_a_deadline_beyond_all_bounds_is_the_longest(seconds: float) -> None:
    """Eleven thousand years."""
    assert _read(headers.timeout_header(seconds)) == [("grpc-timeout", "99999999H")]


@pytest.mark.parametrize(
    "text", ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "1 S", "1e3S", "123456789S", "٣S", "²S"]
)
def test_what_is_no_timeout_is_refused(text: str) -> None:
    """By its text."""
    with pytest.raises(ValueError, match="is no timeout"):
        headers.read_timeout(text)


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.text(" %a"))
def test_every_text_of_a_status_is_read_as_it_was(text: str) -> None:
    """It travels as printable ASCII."""
    sent = headers.literal("grpc-message", headers.message_header(text))
    ((_, value),) = _read(sent)
    assert all(0x20 <= ord(each) <= 0x7E for each in value)
    assert headers.read_message(value) == text


def test_what_no_text_may_have_is_replaced() -> None:
    """Half a character must not cost a call its status."""
    assert headers.read_message(headers.message_header("a\ud800b")) == "a?b"


@pytest.mark.parametrize(
    ("value", "text"), [("100%", "100%"), ("%zz", "%zz"), ("%ff", "\ufffd"), ("a+b", "a+b")]
)
def test_a_text_that_is_not_encoded_is_shown_all_the_same(value: str, text: str) -> None:
    """An error that cannot be read would be worse."""
    assert headers.read_message(value) == text


def test_names_that_are_known_are_not_looked_at_again() -> None:
    """There are never many of them, and what repeats one of HTTP's own is none of them."""
    known: set[headers.Names] = set()
    said = [(":method", "POST"), (":scheme", "http"), (":path", "/a"), ("te", "trailers")]
    for number in range(1000):
        named = headers.read_request([*said, (f"a{number}", "b")], known)
        assert named == {**dict(said), f"a{number}": "b"}
    assert len(known) <= 100
    known.clear()
    headers.read_request([*said, ("a" * 3000, "b")], known)
    assert not known
    assert headers.read_request([*said, ("a", "b"), ("a", "c")], known)["a"] == "c"
    for wrong in ([*said, (":path", "/b")], [*said, ("a", "b\n")], [*said[1:]]):
        with pytest.raises(ValueError, match=r"."):
            headers.read_request(wrong, known)
