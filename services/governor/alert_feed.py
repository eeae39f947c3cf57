"""Following alerts: those of the past, then what comes, without gap or repeat."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Final

from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from meshkit.bus import Bus
from meshkit.time_limit import within
from services.governor import alert_stream

# What a reader that is slow, or has stopped, has held for it. The rest stays in the stream.
_PAGE: Final = 64
# That something came is told by a signal, which may be lost.
_LOOK_AFTER_SECONDS: Final = 30.0


class AlertFeed:
    """Gives out what is in the stream of alerts. Safe to share within one event loop."""

    def __init__(self, bus: Bus) -> None:
        self._bus: Final = bus

    async def alerts(
        self, tenant: str | None, *, after_sequence: int, past_only: bool
    ) -> AsyncGenerator[pb.WatchAlertsResponse]:
        """A tenant's alerts, or with None those of all, in the order of their sequences.

        Args:
            tenant: Whose.
            after_sequence: The last one that is not wanted; 0 for the last that there is
                now, and a negative number for none.
            past_only: Whether to end where others would wait for what comes.

        Raises:
            DependencyUnavailable: The broker is away. Begin anew after what was given out.
        """
        stored = alert_stream.ALL if tenant is None else alert_stream.subject(tenant)
        wake = asyncio.Event()
        # Before the stream is read, so that nothing falls between the two.
        listener = await self._bus.listen(
            alert_stream.live(stored), lambda _: wake.set(), missed=wake.set
        )
        try:
            position = max(0, after_sequence)
            if after_sequence == 0:
                last = await self._bus.last(alert_stream.STREAM, stored)
                position = last.sequence if last else 0
            while True:
                wake.clear()
                async with aclosing(
                    self._bus.read(
                        alert_stream.STREAM, stored, start_sequence=position + 1, batch=_PAGE
                    )
                ) as messages:
                    async for message in messages:
                        position = message.sequence
                        yield alert_stream.decode(message)
                if past_only:
                    return
                with suppress(TimeoutError), within(_LOOK_AFTER_SECONDS):
                    await wake.wait()
        finally:
            await listener.close()
