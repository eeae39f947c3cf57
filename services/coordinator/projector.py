"""Carries events from the log into the read model, in batches."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, Protocol

from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshkit.bus import Delivery

# How many events may wait in memory; also the largest batch.
_WINDOW: Final = 512


class Sink(Protocol):
    """Where events go."""

    async def apply(self, events: Sequence[TaskEvent]) -> None: ...


async def project(deliveries: AsyncIterator[Delivery], sink: Sink) -> None:
    """Runs until cancelled.

    Events that arrive while a batch is written go together in the next one,
    and are acknowledged only after they are written: a crash repeats some, and
    the sink takes a repeat as nothing new.
    """
    waiting: asyncio.Queue[Delivery] = asyncio.Queue(_WINDOW)

    async def receive() -> None:
        async for delivery in deliveries:
            await waiting.put(delivery)

    async with asyncio.TaskGroup() as group:
        group.create_task(receive())
        while True:
            batch = [await waiting.get()]
            while not waiting.empty():
                batch.append(waiting.get_nowait())
            await sink.apply([TaskEvent.FromString(each.payload) for each in batch])
            for each in batch:
                await each.acknowledge()
