"""Sockets in folders, reached however deep the folder lies."""

import asyncio
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def reached(socket: Path) -> Generator[str]:
    """A path of the socket that is short enough for one. OSError where there is no such folder."""
    descriptor = os.open(socket.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{socket.name}"
    finally:
        os.close(descriptor)


async def connected(socket: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection with who listens there; ConnectionError where nobody does, else OSError."""
    try:
        with reached(socket) as path:
            return await asyncio.open_unix_connection(path)
    except FileNotFoundError as error:
        raise ConnectionError(f"nobody listens at {socket}") from error
