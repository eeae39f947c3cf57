"""How a tier runs the six services: the seam between starting a mesh and its tiers."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tier.state import ProcessRecord


@dataclass(frozen=True, slots=True)
class Stores:
    """Where services keep what they have."""

    nats_url: str
    redis_url: str
    # Of what may be lost with the machine's power; the same where there is one Redis alone.
    counters_url: str


class Topology(Protocol):
    """The services of one mesh. Made before anything is started."""

    @property
    def endpoints(self) -> Mapping[str, Sequence[int]]:
        """Ports by cluster of the gateway."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What this tier plainly does not do, a sentence each."""
        ...

    @property
    def records(self) -> tuple[ProcessRecord, ...]:
        """Its processes."""
        ...

    def configure(self) -> None:
        """Reads the settings; takes its time, for it imports much. Raises BadConfig."""
        ...

    async def start(self, stores: Stores) -> None:
        """Returns when all services were started. Raises StartFailed."""
        ...

    def watches(self, on_restart: Callable[[], None]) -> Sequence[Awaitable[None]]:
        """What runs for as long as the services do; the first to end or fail ends the mesh."""
        ...

    async def stop(self) -> None:
        """Drains and ends the services, however far they came."""
        ...
