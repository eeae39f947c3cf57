"""What a server sends is read however it is cut, and what is sent is one message."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit import bus_wire
from meshkit.bus_wire import WireMessage

_TOKENS = st.text("abc.XYZ-_$", min_size=1, max_size=20)
_HEADERS = st.dictionaries(
    st.text("abcDEF-", min_size=1, max_size=10), st.text("äbc 123:/", max_size=10).map(str.strip)
)
_Sent = tuple[str, str, str, dict[str, str], bytes]
_SENT = st.tuples(
    _TOKENS,
    st.integers(1, 10**6).map(str),
    st.one_of(st.just(""), _TOKENS),
    _HEADERS,
    st.binary(max_size=60),
)


def _as_server(sent: _Sent) -> bytes:
    """As a server writes it."""
    subject, subscription, reply, headers, data = sent
    head = bus_wire.head(headers)
    between = f" {reply} " if reply else " "
    sizes = f"{len(head)} {len(head) + len(data)}" if head else f"{len(data)}"
    kind = "HMSG" if head else "MSG"
    line = f"{kind} {subject} {subscription}{between}{sizes}\r\n"
    return line.encode() + head + data + b"\r\n"


def _read(chunks: Sequence[bytes]) -> tuple[list[_Sent], bytes]:
    """What comes out of the chunks, and what is left at the end."""
    buffer, found = bytearray(), list[_Sent]()

    def take(subscription: str, message: WireMessage) -> None:
        found.append((message.subject, subscription, message.reply, message.headers, message.data))

    for chunk in chunks:
        buffer += chunk
        bus_wire.take_messages(buffer, take)
    return found, bytes(buffer)


@given(st.lists(_SENT, max_size=5), st.lists(st.integers(0, 1000), max_size=5))
def test_messages_are_read_however_they_are_cut(sent: list[_Sent], cuts: list[int]) -> None:
    """Any payload, a line's end in it included, in pieces of any size."""
    whole = b"".join(_as_server(each) for each in sent)
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    chunks = [whole[start:end] for start, end in itertools.pairwise(places)]
    assert _read(chunks) == (sent, b"")


def test_what_is_no_message_stays_for_others() -> None:
    """So does what comes behind it."""
    message = _as_server(("a", "1", "", {}, b"x"))
    assert _read([message + b"PING\r\n" + message]) == (
        [("a", "1", "", {}, b"x")],
        b"PING\r\n" + message,
    )


@pytest.mark.parametrize("line", [b"MSG a\r\n", b"MSG a 1 x\r\n", b"HMSG a 1 x 5\r\nabcde\r\n"])
def test_a_malformed_message_is_told(line: bytes) -> None:
    """It would be waited for without end."""
    with pytest.raises((ValueError, IndexError)):
        _read([line])


@pytest.mark.parametrize(
    ("head", "status", "description", "headers"),
    [
        (b"", "", "", {}),
        (b"NATS/1.0\r\nKey: a: b\r\n\r\n", "", "", {"Key": "a: b"}),
        (b"NATS/1.0 503\r\n\r\n", "503", "", {}),
        (
            b"NATS/1.0 409 Consumer Deleted\r\nNats-Pending-Messages: 3\r\n\r\n",
            "409",
            "Consumer Deleted",
            {"Nats-Pending-Messages": "3"},
        ),
    ],
)
def test_a_status_is_told_from_headers(
    head: bytes, status: str, description: str, headers: dict[str, str]
) -> None:
    """A server speaks for itself by a status; a message has none."""
    message = WireMessage("a", "", head, b"")
    assert (message.status, message.description, message.headers) == (status, description, headers)


@pytest.mark.parametrize(
    "headers", [{"a": "x\r\nNats-Rollup: sub"}, {"a\nb": "x"}, {"a": "x\ry"}, {"a": "\n"}]
)
def test_a_header_cannot_hide_another(headers: dict[str, str]) -> None:
    """Values may come from callers."""
    with pytest.raises(ValueError, match=r"^a header has one line$"):
        bus_wire.head(headers)


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB x 0\r\n", "a\tb"])
def test_a_subject_cannot_hide_a_command(subject: str) -> None:
    """Subjects are made from names that callers choose."""
    with pytest.raises(ValueError, match=r"is no subject$"):
        bus_wire.command(subject, b"", "", b"")
    with pytest.raises(ValueError, match=r"is no subject$"):
        bus_wire.interest(subject, 1)


def test_messages_are_sent_as_the_protocol_has_it() -> None:
    """With and without a reply and headers."""
    assert bus_wire.command("a.b", b"hi", "", b"") == b"PUB a.b  2\r\nhi\r\n"
    assert bus_wire.command("a", b"hi", "r", bus_wire.head({"k": "v"})) == (
        b"HPUB a r 18 20\r\nNATS/1.0\r\nk: v\r\n\r\nhi\r\n"
    )
    assert bus_wire.interest("a.*", 7) == b"SUB a.* 7\r\n"
    assert bus_wire.no_interest(7) == b"UNSUB 7\r\n"
