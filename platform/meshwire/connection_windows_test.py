"""No more is sent than a client takes, and everything in the end."""

from meshwire import frames
from meshwire.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from meshwire.offline_client import BEGINNING, FLOOD, SAY, Client, begin, call, said
from meshwire.stream import message


async def test_settings_widen_and_narrow_what_is_under_way() -> None:
    """A window may even become less than nothing; the status waits for the answer."""
    client = await Client.connect()
    await client.send(frames.PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: 10}))
    answer = message(b"a" * 95)
    found = await client.send(call(1, b"a" * 95))
    assert said(found, 1) == answer[:10]
    for size, sent in ((4, b""), (10, b""), (30, answer[10:30])):
        found = await client.send(frames.settings({frames.INITIAL_WINDOW_SIZE: size}))
        assert found[0] == (SETTINGS, ACK, 0, b"")
        assert said(found, 1) == sent
    found = await client.send(frames.window_update(1, 1000))
    assert said(found, 1) == answer[30:]
    assert found[-1][:3] == (HEADERS, END_HEADERS | END_STREAM, 1)
    client.leave()


async def test_calls_share_the_window_of_their_connection() -> None:
    """None of them is left behind, and a larger frame is used where it may be."""
    client = await Client.connect()
    size = 40_000
    await client.send(frames.PREFACE + frames.settings({frames.MAX_FRAME_SIZE: 1 << 20}))
    found = await client.send(_call_of(1, size), _call_of(3, size), _call_of(5, size))
    assert max(len(content) for *_, content in found) == size + 5
    assert sum(len(said(found, each)) for each in (1, 3, 5)) == frames.FIRST_WINDOW_BYTES
    while client.connection.streams:
        more = await client.send(frames.window_update(0, 10_000))
        assert sum(len(said(more, each)) for each in (1, 3, 5)) <= 10_000
        found += more
    assert [len(said(found, each)) for each in (1, 3, 5)] == [size + 5] * 3
    client.leave()


def _call_of(stream: int, size: int) -> bytes:
    whole = message(bytes(size))
    parts = [whole[at : at + 16_384] for at in range(0, len(whole), 16_384)]
    begins = frame(HEADERS, END_HEADERS, stream, SAY)
    data = b"".join(frame(DATA, 0, stream, each) for each in parts)
    return begins + data + frame(DATA, END_STREAM, stream)


async def test_a_handler_that_never_waits_waits_for_a_slow_client() -> None:
    """However wide the windows are."""
    client = await Client.connect()
    wide = frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 30}) + frames.window_update(0, 1 << 30)
    client.transport.most_bytes = 50_000
    found = await client.send(frames.PREFACE + wide + call(1, block=FLOOD))
    assert 50_000 <= len(said(found, 1)) <= 300_000
    client.transport.most_bytes = 1 << 30
    client.connection.resume_writing()
    found = await client.send()
    assert found[-1][:3] == (HEADERS, END_HEADERS | END_STREAM, 1)
    client.leave()


async def test_what_nobody_wants_is_credited_all_the_same() -> None:
    """Data of a call that was broken off would else use up the window of the others."""
    client = await Client.connect()
    await client.send(BEGINNING + begin(1) + frames.rst_stream(1, frames.CANCEL))
    one, credited = frame(DATA, 0, 1, bytes(16_384)), 0
    for _ in range(2000):
        for kind, _, of, content in await client.send(one):
            assert (kind, of) == (WINDOW_UPDATE, 0)
            credited += frames.read_number(content)
    assert credited >= 2000 * 16_384 - (1 << 23)
    assert await client.is_served(3)
    client.leave()
