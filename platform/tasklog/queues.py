"""The queues of runnable tasks: a consumer each."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from meshkit.bus import Bus, ConsumerSpec
from tasklog import subjects
from tasklog.policy_store import PolicyStore
from tasklog.subjects import Queue

# A task whose executor is silent for so long goes to another one.
CLAIM_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Depth:
    """How a queue stands."""

    # Tasks that nobody has pulled yet.
    queued: int
    # Tasks that some executor holds, or that are delivered again later.
    held: int
    # How many of those were delivered more than once.
    redelivered: int


class Queues:
    """Makes queues and tells how they stand. Safe to share within one event loop."""

    def __init__(self, bus: Bus, policies: PolicyStore) -> None:
        self._bus = bus
        self._policies = policies
        # What this process made, and with which limit.
        self._made: dict[Queue, int] = {}

    def spec(self, queue: Queue) -> ConsumerSpec:
        """The consumer of a queue. The broker itself bounds how much of a tenant runs at once."""
        return ConsumerSpec(
            stream=subjects.STREAM,
            durable=queue.durable,
            subject_filter=queue.filter,
            acknowledge_wait_seconds=CLAIM_SECONDS,
            max_acknowledge_pending=self._policies.current.tenant(queue.tenant).max_concurrent,
            description=f"Runnable tasks of {queue.tenant}.",
        )

    async def ensure(self, queue: Queue) -> None:
        """Makes the queue, or brings its limit up to date.

        Called before the queue's first task is stored: no runnable task is ever
        without a consumer that knows of it.
        """
        spec = self.spec(queue)
        if self._made.get(queue) != spec.max_acknowledge_pending:
            await self._bus.ensure_consumer(spec)
            self._made[queue] = spec.max_acknowledge_pending

    async def all(self) -> AsyncIterator[tuple[Queue, Depth]]:
        """Every queue there is, and how it stands."""
        async for info in self._bus.consumers(subjects.STREAM):
            queue = subjects.queue_of_durable(info["name"])
            if queue is not None:
                yield queue, _depth(info)


def _depth(info: dict[str, Any]) -> Depth:
    return Depth(
        queued=int(info["num_pending"]),
        held=int(info["num_ack_pending"]),
        redelivered=int(info["num_redelivered"]),
    )
