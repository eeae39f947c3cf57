"""Alerts as a client reads them: those of the past, and then what comes, each once."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from agentmesh.governor.v1.cost_governor_service_pb2 import WatchAlertsRequest, WatchAlertsResponse
from cli.gateway import Gateway
from meshkit.errors import DeadlineExceeded, DependencyUnavailable, ShuttingDown

# To read all of the past.
_PAST_SECONDS: Final = 60.0
# One call of a stream; when it is over, the next goes on after the last alert.
_STREAM_SECONDS: Final = 3600.0
# How long alerts are followed without hearing from the mesh.
_PATIENCE_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.5
_BROKEN: Final = (DependencyUnavailable, DeadlineExceeded, ShuttingDown)
_ALL: Final = -1
_USUAL: Final = 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which alerts are asked for."""

    # `tenants/{tenant}`, or `tenants/-` for all.
    parent: str
    # The sequence of the last one that is not wanted; None for none.
    after: int | None
    # How many of the past at most, the last ones; None where it goes without saying.
    limit: int | None
    # Empty for all kinds.
    kinds: frozenset[str]

    @property
    def most(self) -> int | None:
        """How many of the past, None for all."""
        if self.limit is not None:
            return self.limit
        return _USUAL if self.after is None else None

    def has(self, alert: WatchAlertsResponse) -> bool:
        """Whether the alert is of a kind that is asked for."""
        return not self.kinds or alert.kind in self.kinds


async def past(gateway: Gateway, wanted: Wanted) -> tuple[list[WatchAlertsResponse], int]:
    """What there is, and after which sequence it goes on."""
    found = deque[WatchAlertsResponse](maxlen=wanted.most)
    # Of the sequences that this client knows none may be 0: that would be for the present.
    position = wanted.after or _ALL
    request = WatchAlertsRequest(parent=wanted.parent, after_sequence=position, past_only=True)
    async for alert in gateway.governor.WatchAlerts(request, timeout=_PAST_SECONDS):
        position = alert.sequence
        if wanted.has(alert):
            found.append(alert)
    return list(found), position


async def coming(
    gateway: Gateway, wanted: Wanted, position: int
) -> AsyncGenerator[WatchAlertsResponse]:
    """What comes after a sequence, for ever.

    A connection that breaks is taken up again for _PATIENCE_SECONDS. Raises MeshError
    where the mesh is not heard of for longer.
    """
    heard = time.monotonic()
    while True:
        request = WatchAlertsRequest(parent=wanted.parent, after_sequence=position)
        begun = time.monotonic()
        try:
            async for alert in gateway.governor.WatchAlerts(request, timeout=_STREAM_SECONDS):
                heard = time.monotonic()
                position = alert.sequence
                if wanted.has(alert):
                    yield alert
        except _BROKEN:
            # A stream that stood for so long was in order, though nothing came.
            if time.monotonic() - begun > _PATIENCE_SECONDS:
                heard = time.monotonic()
            if time.monotonic() - heard > _PATIENCE_SECONDS:
                raise
        await asyncio.sleep(_PAUSE_SECONDS)
