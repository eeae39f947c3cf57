"""A line that a person types, awaited: neither a mesh in this process nor Ctrl-C is held up."""

import asyncio
import os
from typing import Final

_MOST_BYTES: Final = 1 << 20


async def read_line(descriptor: int) -> str | None:
    """The next line that is typed at a terminal, without its end; None where there is no more.

    A terminal gives a line at a time, so nothing of the next one is lost.
    """
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
    typed = os.read(descriptor, _MOST_BYTES)
    return typed.decode("utf-8", "replace").rstrip("\r\n") if typed else None
