"""Tells executors over NATS that a task should stop."""

from meshkit.bus import Bus
from tasklog import subjects


class NatsCancelSignal:
    """A CancelSignal. It may be lost: the log says the same, and executors meet it there."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def send(self, tenant: str, task_id: str) -> None:
        """Publishes the signal; waits for nobody."""
        await self._bus.signal(subjects.cancels(tenant, task_id), b"")
