"""Redis as one file of a single moment: what a replica asks for when it is new.

Nothing is asked of Redis for each key, and it stops for nobody: a fork of it writes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from meshkit.time_limit import within

_CONNECT_SECONDS: Final = 5.0
# Silence for longer is no slowness: a master tells its replicas that it lives.
_SILENCE_SECONDS: Final = 60.0
_CHUNK_BYTES: Final = 256 * 1024
_MARK_BYTES: Final = 40
_MARKED: Final = b"$EOF:"
# As Redis 7 keeps its append-only file: a base, and what came after it.
_FOLDER: Final = "appendonlydir"
_BASE: Final = "appendonly.aof.1.base.rdb"
_LIST: Final = "appendonly.aof.manifest"


class RedisRefused(Exception):
    """Redis does not give its data."""


async def save(url: str, write: Callable[[bytes], None]) -> None:
    """Writes all of its data, as of one moment. Raises RedisRefused."""
    try:
        address = urlsplit(url)
        with within(_CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            writer.write(b"SYNC\r\n")
            await _receive(reader, write)
        finally:
            writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
        raise RedisRefused(str(error) or type(error).__name__) from None


async def _receive(reader: asyncio.StreamReader, write: Callable[[bytes], None]) -> None:
    # Until it begins it sends empty lines.
    while not (head := (await _within(reader.readline())).strip()):
        if reader.at_eof():
            raise RedisRefused("it ended the connection")
    if head.startswith(_MARKED):
        await _until(reader, head.removeprefix(_MARKED), write)
    elif head.startswith(b"$"):
        left = int(head[1:])
        while left:
            data = await _some(reader, min(left, _CHUNK_BYTES))
            left -= len(data)
            await asyncio.to_thread(write, data)
    else:
        raise RedisRefused(head.decode("utf-8", "replace"))


async def _until(reader: asyncio.StreamReader, mark: bytes, write: Callable[[bytes], None]) -> None:
    """Everything before the mark, which nobody else can know."""
    if len(mark) != _MARK_BYTES:
        raise RedisRefused("it announces its data in an unknown way")
    held = b""
    while True:
        held += await _some(reader, _CHUNK_BYTES)
        at = held.find(mark)
        data = held[: at if at >= 0 else max(0, len(held) - _MARK_BYTES)]
        if data:
            await asyncio.to_thread(write, data)
        if at >= 0:
            return
        held = held[len(data) :]


async def _some(reader: asyncio.StreamReader, most: int) -> bytes:
    data = await _within(reader.read(most))
    if not data:
        raise RedisRefused("it ended the connection")
    return data


async def _within(reading: Awaitable[bytes]) -> bytes:
    with within(_SILENCE_SECONDS):
        return await reading


def place(folder: Path) -> Path:
    """Where the data has to lie for a server that keeps its append-only file in `folder`.

    The list beside it is written, too.
    """
    kept = folder / _FOLDER
    kept.mkdir(parents=True, mode=0o700)
    (kept / _LIST).write_text(f"file {_BASE} seq 1 type b\n", "ascii")
    return kept / _BASE
