"""Patience instead of sleeps."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeVar, cast

T = TypeVar("T")


async def eventually(condition: Callable[[], T | Awaitable[T]], timeout_seconds: float = 60.0) -> T:
    """What `condition` gives, as soon as that is true.

    A condition that raises AssertionError or LookupError counts as not yet
    true. Fails after `timeout_seconds` with what it last gave or raised.
    """
    give_up = time.monotonic() + timeout_seconds
    pause_seconds = 0.002
    last: object = None
    while True:
        try:
            value = condition()
            result = cast(T, await value if isawaitable(value) else value)
            if result:
                return result
            last = result
        except (AssertionError, LookupError) as error:
            last = error
        if time.monotonic() > give_up:
            raise AssertionError(f"not true within {timeout_seconds:g} seconds; last: {last!r}")
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 1.5, 0.1)
