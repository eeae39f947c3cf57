"""Carries events from the log into the read model, in batches."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshkit.bus import Delivery
from meshkit.log import Log

# How many events may wait in memory; also the largest batch.
_WINDOW: Final = 512
_RETRY_SECONDS: Final = 5.0


class Sink(Protocol):
    """Where events go."""

    async def apply(self, events: Sequence[TaskEvent]) -> None: ...


async def project(deliveries: AsyncIterator[Delivery], sink: Sink, log: Log) -> None:
    """Runs until cancelled.

    Events that arrive while a batch is written go together in the next one,
    and are acknowledged only after they are written: a crash repeats some, and
    the sink takes a repeat as nothing new. A batch that cannot be written comes
    again later; what is no event is logged and passed over. Neither stops
    anything but the list.
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
            await _write(batch, sink, log)


async def _write(batch: Sequence[Delivery], sink: Sink, log: Log) -> None:
    readable: list[Delivery] = []
    events: list[TaskEvent] = []
    for delivery in batch:
        try:
            events.append(TaskEvent.FromString(delivery.payload))
            readable.append(delivery)
        except DecodeError:
            log.error("projection.unreadable", subject=delivery.subject)
            await delivery.reject()
    try:
        await sink.apply(events)
    except sqlite3.Error as error:
        log.error("projection.failed", error=str(error), events=len(events))
        for delivery in readable:
            await delivery.not_now(_RETRY_SECONDS)
        return
    for delivery in readable:
        await delivery.acknowledge()
