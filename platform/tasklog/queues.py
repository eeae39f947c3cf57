"""The queues of runnable tasks: a consumer each."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from meshkit.bus import Bus, ConsumerSpec
from meshkit.errors import MeshError
from tasklog import subjects
from tasklog.partitions import Partitions
from tasklog.policy_store import PolicyStore
from tasklog.subjects import Queue

# A task whose executor is silent for so long goes to another one.
CLAIM_SECONDS: Final = 3.0
_AGAIN_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Depth:
    """How a queue stands."""

    # Tasks that nobody has pulled yet.
    queued: int
    # Tasks that some executor holds, or that are delivered again later.
    held: int
    # How many of those were delivered more than once.
    redelivered: int
    # How often a task was handed to an executor, since the queue was made.
    delivered: int

    def __add__(self, other: "Depth") -> "Depth":
        return Depth(
            queued=self.queued + other.queued,
            held=self.held + other.held,
            redelivered=self.redelivered + other.redelivered,
            delivered=self.delivered + other.delivered,
        )


NO_DEPTH: Final = Depth(queued=0, held=0, redelivered=0, delivered=0)


class Queues:
    """Makes queues and tells how they stand. Safe to share within one event loop."""

    def __init__(self, bus: Bus, partitions: Partitions, policies: PolicyStore) -> None:
        self._bus = bus
        self._partitions = partitions
        self._policies = policies
        # What this process made, and with which limit.
        self._made: dict[Queue, int] = {}
        # Many submissions may find a new queue at the same time.
        self._making = asyncio.Lock()

    def spec(self, queue: Queue) -> ConsumerSpec:
        """The consumer of a queue. The broker itself bounds how much of a tenant runs at once."""
        partition = self._partitions.of(queue.tenant)
        return ConsumerSpec(
            stream=partition.stream,
            durable=queue.durable,
            subject_filter=partition.of_queue(queue),
            acknowledge_wait_seconds=CLAIM_SECONDS,
            max_acknowledge_pending=self._limit(queue),
            description=f"Runnable tasks of {queue.tenant}.",
        )

    async def ensure(self, queue: Queue) -> None:
        """Makes the queue, or brings its limit up to date.

        Called before the queue's first task is stored: no runnable task is ever
        without a consumer that knows of it.
        """
        if self._is_made(queue):
            return
        async with self._making:
            if not self._is_made(queue):
                await self._make(queue)

    async def follow_policy(self) -> None:
        """Keeps the limit of every queue as the policy says, until cancelled.

        Those that get no new tasks have some to run all the same.
        """
        changed = asyncio.Event()
        self._policies.on_change(changed.set)
        while True:
            try:
                await self._apply_policy()
                await changed.wait()
                changed.clear()
            except MeshError:
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _apply_policy(self) -> None:
        async for queue, info in self._infos():
            if info["config"]["max_ack_pending"] != self._limit(queue):
                await self._make(queue)

    def _is_made(self, queue: Queue) -> bool:
        return self._made.get(queue) == self._limit(queue)

    def _limit(self, queue: Queue) -> int:
        return self._policies.current.tenant(queue.tenant).max_concurrent

    async def _make(self, queue: Queue) -> None:
        spec = self.spec(queue)
        await self._bus.ensure_consumer(spec)
        self._made[queue] = spec.max_acknowledge_pending

    async def all(self) -> AsyncIterator[tuple[Queue, Depth]]:
        """Every queue there is, and how it stands."""
        async for queue, info in self._infos():
            yield queue, _depth(info)

    async def _infos(self) -> AsyncIterator[tuple[Queue, dict[str, Any]]]:
        for partition in self._partitions.all:
            async for info in self._bus.consumers(partition.stream):
                queue = subjects.queue_of_durable(info["name"])
                if queue is not None:
                    yield queue, info


def _depth(info: dict[str, Any]) -> Depth:
    return Depth(
        queued=int(info["num_pending"]),
        held=int(info["num_ack_pending"]),
        redelivered=int(info["num_redelivered"]),
        delivered=int(info["delivered"]["consumer_seq"]),
    )
