"""What a service is made from, and what it gives back."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis

from meshkit.bus import Bus
from meshkit.client import Channels
from meshkit.clock import Clock
from meshkit.ids import Ids
from meshkit.log import Log
from meshkit.server import Registration


@dataclass(frozen=True)
class Resources:
    """What a process offers to the services in it. Each is made once.

    `build(resources, settings)` in a service's main.py turns these into a
    Service; several services may be built from the same resources.
    """

    # Closes, in reverse order, what services put on it.
    stack: AsyncExitStack
    bus: Bus
    redis: Redis
    channels: Channels
    clock: Clock
    ids: Ids
    log: Log
    # Where the process may keep files.
    data_dir: Path


@dataclass(frozen=True)
class Service:
    """A service, ready to be served."""

    registrations: Sequence[Registration]
    # Jobs that run beside the server for as long as the process lives.
    background: Sequence[Callable[[], Awaitable[None]]] = ()
