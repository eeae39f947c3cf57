"""Looks again at what raised a doubt."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from meshkit.clock import Clock

_T = TypeVar("_T")
_R = TypeVar("_R")
# The broker answers some thousand of such reads in a second.
_SIDE_BY_SIDE: Final = 32
# What one process has written and the next has yet to take in shows within a second.
_PATIENCE_SECONDS: Final = 5.0
_LOOK_AGAIN_SECONDS: Final = 0.25


async def side_by_side(
    items: Iterable[_T], look: Callable[[_T], Awaitable[_R]]
) -> list[tuple[_T, _R]]:
    """Each item with what `look` says of it, in order."""
    found: list[tuple[_T, _R]] = []
    group: list[_T] = []
    for item in items:
        group.append(item)
        if len(group) == _SIDE_BY_SIDE:
            found += zip(group, await asyncio.gather(*map(look, group)), strict=True)
            group = []
    found += zip(group, await asyncio.gather(*map(look, group)), strict=True)
    return found


async def patiently(look: Callable[[], Awaitable[bool]], clock: Clock) -> bool:
    """Looks again and again for a few seconds until all is as it should be; whether it is."""
    until = clock.monotonic_seconds() + _PATIENCE_SECONDS
    while not await look():
        if clock.monotonic_seconds() >= until:
            return False
        await clock.sleep(_LOOK_AGAIN_SECONDS)
    return True
