"""A task's events and the model's words, as one stream."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from agentmesh.coordinator.v1.coordinator_service_pb2 import TextDelta
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshkit.bus import Bus
from tasklog import subjects

_BUFFER: Final = 256


async def with_deltas(
    bus: Bus, tenant: str, task_id: str, events: AsyncIterator[TaskEvent]
) -> AsyncGenerator[TaskEvent | TextDelta]:
    """`events`, with the model's text between them, until `events` end.

    Words are not stored: a reader who is too slow for them misses some, and
    finds the whole text in the events.
    """
    merged: asyncio.Queue[TaskEvent | TextDelta | Exception | None] = asyncio.Queue(_BUFFER)

    async def read_events() -> None:
        try:
            async for event in events:
                await merged.put(event)
            await merged.put(None)
        except Exception as error:
            # Raised again where the stream is read.
            await merged.put(error)

    async def read_deltas() -> None:
        deltas = await bus.subscribe(subjects.deltas(tenant, task_id))
        try:
            async for message in deltas:
                with contextlib.suppress(asyncio.QueueFull):
                    merged.put_nowait(TextDelta.FromString(message.payload))
        finally:
            await deltas.close()

    readers = (asyncio.create_task(read_deltas()), asyncio.create_task(read_events()))
    try:
        while (update := await merged.get()) is not None:
            if isinstance(update, Exception):
                raise update
            yield update
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
