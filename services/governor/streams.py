"""The age of the streams that places are counted in."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Protocol


class Stream(Protocol):
    """A stream that may be created anew."""

    @property
    def created_ms(self) -> int:
        """When it was, as far as is known here; in milliseconds since 1970."""
        ...

    async def refresh(self) -> None:
        """Finds it out again. Raises DependencyUnavailable."""
        ...


class StreamAges:
    """One number for several streams, which grows when one of them is created anew."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams: Final = streams

    @property
    def age(self) -> int:
        """As it is known here; the larger one is right."""
        return sum(each.created_ms for each in self._streams)

    async def refresh(self) -> None:
        """Finds it out again. Raises DependencyUnavailable."""
        for each in self._streams:
            await each.refresh()


def created_ms(created: str) -> int:
    """The broker's word for when a stream was created, in milliseconds since 1970."""
    # It has nanoseconds, or fewer digits where the last are zeros.
    seconds, _, fraction = created.removesuffix("Z").partition(".")
    since = datetime.fromisoformat(seconds).replace(tzinfo=UTC).timestamp()
    return int(since) * 1000 + int(fraction[:3].ljust(3, "0") or 0)
