"""Looks again at tasks that raised a doubt, side by side but not too many at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")
# The broker answers some thousand of such reads in a second.
_SIDE_BY_SIDE: Final = 32


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
