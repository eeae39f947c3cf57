"""Passes a model's words on over NATS while it is still speaking."""

import contextlib

from agentmesh.coordinator.v1.coordinator_service_pb2 import TextDelta
from meshkit.bus import Bus
from meshkit.errors import MeshError
from services.executor.journal import Journal
from tasklog import subjects


class NatsWords:
    """Words for whoever follows the task now; the log will hold the whole text."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def say(self, journal: Journal, step: int, text: str) -> None:
        """Publishes `text` as the next piece of `step`."""
        delta = TextDelta(step=step, attempt=journal.status.attempt, text=text)
        # Words are a courtesy: the step goes on without a listener.
        with contextlib.suppress(MeshError):
            await self._bus.signal(
                subjects.deltas(journal.tenant, journal.task_id), delta.SerializeToString()
            )
