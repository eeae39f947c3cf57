"""How long somebody is waited for, in time in which this process runs.

A process that stood still finds its timers over when it goes on, before it has sent what it
had to ask, or read what lies there. So it waits in turns: standing still costs it one of them.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

_TURNS: Final = 4

T = TypeVar("T")


async def has_ended(work: asyncio.Future[Any], seconds: float) -> bool:
    """Whether it ends within `seconds`; it goes on where it does not."""
    for _ in range(_TURNS):
        await asyncio.wait((work,), timeout=seconds / _TURNS)
        if work.done():
            return True
    return False


async def answer(asked: Coroutine[Any, Any, T], seconds: float) -> T:
    """What comes of it; TimeoutError where nothing does within `seconds`."""
    asking = asyncio.ensure_future(asked)
    try:
        if not await has_ended(asking, seconds):
            raise TimeoutError
        return asking.result()
    finally:
        asking.cancel()
