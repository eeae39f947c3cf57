"""Gives reservations back whose time is over, also where no call comes that would."""

from typing import Final, Protocol

from meshkit.clock import Clock
from meshkit.errors import MeshError

# Nobody needs them sooner: whoever would be refused for them sweeps first.
_EVERY_SECONDS: Final = 10.0


class Reservations(Protocol):
    """What is reserved."""

    async def sweep(self) -> None:
        """Gives back some of what has expired. Raises DependencyUnavailable."""
        ...


class Sweep:
    """Keeps what is shown as reserved true while nothing happens."""

    def __init__(self, reservations: Reservations, clock: Clock) -> None:
        self._reservations: Final = reservations
        self._clock: Final = clock

    async def run(self) -> None:
        """Runs until cancelled; what cannot be swept now is swept later."""
        while True:
            await self._clock.sleep(_EVERY_SECONDS)
            try:
                await self._reservations.sweep()
            except MeshError:
                continue
