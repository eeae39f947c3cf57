"""Opening counters for somebody who waits, who is not kept for long."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final, Protocol

from meshkit.errors import DependencyUnavailable, MeshError
from services.governor.account import Counter, Unopened

# For how long whoever asks waits for counters to be opened, before the ledger counts as late. What
# is asked for together waits for no more than that, either.
_OPENED_WITHIN_SECONDS: Final = 0.25


class Openings(Protocol):
    """Who begins counters with what the ledger has."""

    async def open(self, counters: Iterable[Counter]) -> None:
        """Returns when all of these are there. Raises DependencyUnavailable and QueueFull."""
        ...


class PromptOpenings:
    """Opens counters for items of a batch: none is held up by another one's counter for long."""

    def __init__(
        self, openings: Openings, *, within_seconds: float = _OPENED_WITHIN_SECONDS
    ) -> None:
        """`within_seconds`: how long whoever asks waits."""
        self._openings: Final = openings
        self._within_seconds: Final = within_seconds

    def deadline(self) -> float:
        """Until when whoever asks now waits, by the event loop's clock."""
        return asyncio.get_running_loop().time() + self._within_seconds

    async def open(self, unopened: Mapping[int, Unopened], until: float) -> Mapping[int, MeshError]:
        """Opens what items wait for; the items for which that failed, or takes too long.

        What takes longer goes on for whoever asks next.
        """
        wanted = {each.id: each for one in unopened.values() for each in one.counters}
        failed: dict[str, MeshError] = {key: _ledger_late() for key in wanted}

        async def open_one(counter: Counter) -> None:
            try:
                await self._openings.open([counter])
            except MeshError as error:
                failed[counter.id] = error
            else:
                del failed[counter.id]

        opening = asyncio.gather(*(open_one(each) for each in wanted.values()))
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await opening
        return {
            index: failed[each.id]
            for index, one in unopened.items()
            for each in one.counters
            if each.id in failed
        }


def _ledger_late() -> DependencyUnavailable:
    return DependencyUnavailable(
        "The ledger has not said in time what was spent so far.",
        metadata={"dependency": "ledger"},
        retry_after_seconds=1.0,
    )
