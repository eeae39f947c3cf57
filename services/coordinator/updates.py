"""A task's events and the model's words, as one stream."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from agentmesh.coordinator.v1.coordinator_service_pb2 import TextDelta
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshkit.bus import Bus
from meshkit.errors import QueueFull
from tasklog import subjects

# What is held for a reader that is slow or has stopped. Further events stay
# where they come from; further words are left out.
_EVENTS: Final = 2
_WORDS_BYTES: Final = 64 * 1024
_WAITING_WORDS: Final = 256


class _Buffer:
    """Events and words in the order in which they came."""

    def __init__(self) -> None:
        self._updates: deque[TaskEvent | TextDelta] = deque()
        self._words_bytes = 0
        self._event_slots = asyncio.Semaphore(_EVENTS)
        self._wake = asyncio.Event()
        self._ended = False
        self._failure: Exception | None = None

    async def put_event(self, event: TaskEvent) -> None:
        """Waits until there is room."""
        await self._event_slots.acquire()
        self._updates.append(event)
        self._wake.set()

    def put_words(self, words: TextDelta) -> None:
        """Leaves the words out where there is no room."""
        if self._words_bytes + words.ByteSize() > _WORDS_BYTES:
            return
        self._words_bytes += words.ByteSize()
        self._updates.append(words)
        self._wake.set()

    def end(self, failure: Exception | None = None) -> None:
        """Nothing follows; `failure` is raised where the stream is read."""
        self._ended, self._failure = True, failure
        self._wake.set()

    async def next(self) -> TaskEvent | TextDelta | None:
        """The next one; None at the end."""
        while not self._updates:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return None
            self._wake.clear()
            await self._wake.wait()
        update = self._updates.popleft()
        if isinstance(update, TaskEvent):
            self._event_slots.release()
        else:
            self._words_bytes -= update.ByteSize()
        return update


async def with_deltas(
    bus: Bus, tenant: str, task_id: str, events: AsyncGenerator[TaskEvent]
) -> AsyncGenerator[TaskEvent | TextDelta]:
    """`events`, with the model's text between them, until `events` end.

    Words are not stored: a reader who is too slow for them misses some, and
    finds the whole text in the events.
    """
    buffer = _Buffer()

    async def read_events() -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    await buffer.put_event(event)
            buffer.end()
        except Exception as error:
            buffer.end(error)

    async def read_words() -> None:
        while True:
            words = await bus.subscribe(
                subjects.deltas(tenant, task_id), max_waiting=_WAITING_WORDS
            )
            try:
                async for message in words:
                    buffer.put_words(TextDelta.FromString(message.payload))
                return
            except QueueFull:
                # More came at once than fits: those are left out, later ones are not.
                continue
            finally:
                await words.close()

    readers = (asyncio.create_task(read_words()), asyncio.create_task(read_events()))
    try:
        while (update := await buffer.next()) is not None:
            yield update
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
