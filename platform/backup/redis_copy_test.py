"""Redis is saved as of one moment, and comes back as it was."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backup import redis_copy
from backup.redis_copy import RedisRefused
from meshkit import redis_store
from meshtest.redis_server import RedisServer

pytest_plugins = ["meshtest.fixtures"]

_MARK = b"0123456789" * 4


async def test_what_changes_together_is_saved_together(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """Two keys that are always equal are equal in the copy; what expires still does."""
    redis: Any = redis_store.connect(redis_server.url)
    await redis.mset({"a": 0, "b": 0})
    await redis.set("short", "lived", ex=3600)
    for number in range(100):
        await redis.set(f"large-{number}", "x" * 100_000)
    is_saved = asyncio.Event()

    async def write() -> None:
        number = 0
        while not is_saved.is_set():
            number += 1
            await redis.mset({"a": number, "b": number})

    writing = asyncio.create_task(write())
    saved: list[bytes] = []
    await redis_copy.save(redis_server.url, saved.append)
    is_saved.set()
    await writing
    await redis.aclose()
    restored = RedisServer(tmp_path / "restored")
    redis_copy.place(tmp_path / "restored").write_bytes(b"".join(saved))
    restored.start()
    try:
        copy: Any = redis_store.connect(restored.url)
        a, b = await copy.mget("a", "b")
        assert a == b is not None
        assert await copy.dbsize() == 103
        assert 3500 < await copy.ttl("short") <= 3600
        # It goes on from there: its own file is added to.
        await copy.set("new", "1")
        await copy.aclose()
        restored.stop()
        restored.start()
        copy = redis_store.connect(restored.url)
        assert await copy.get("new") == b"1"
        await copy.aclose()
    finally:
        restored.kill()
        shutil.rmtree(tmp_path / "restored")


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(1, 60), max_size=20))
async def test_data_of_unknown_length_ends_at_its_mark(data: bytes, cuts: list[int]) -> None:
    """However the network cuts it, also within the mark."""
    sent = b"\n\n$EOF:" + _MARK + b"\r\n" + data + _MARK

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"SYNC\r\n"
        at = 0
        for cut in (*cuts, len(sent)):
            writer.write(sent[at : at + cut])
            at += cut
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        saved: list[bytes] = []
        await redis_copy.save(f"redis://127.0.0.1:{port}", saved.append)
    assert b"".join(saved) == data


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"-NOAUTH Authentication required.\r\n", "-NOAUTH Authentication required."),
        (b"$10\r\nhalf", "it ended the connection"),
        (b"$EOF:" + _MARK + b"\r\nhalf", "it ended the connection"),
        (b"", "it ended the connection"),
    ],
)
async def test_half_of_it_is_refused(answer: bytes, why: str) -> None:
    """Who ends too early, or does not give it, says so."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RedisRefused) as refused:
            await redis_copy.save(f"redis://127.0.0.1:{port}", lambda _: None)
    assert str(refused.value) == why
