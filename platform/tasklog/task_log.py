"""The log of every task on JetStream: append by compare-and-set, read.

A stream sequence is one of the stream in which the tenant's tasks are.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.message import DecodeError

from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task, TaskNote
from meshkit.bus import Bus, Delivery, StoredMessage, Subscription
from meshkit.constants import CLAIM_CHECK_BYTES
from meshkit.errors import Conflict, CorruptData, MeshError, TaskNotFound
from meshkit.frozen import frozen
from tasklog import claim_check, fold, subjects
from tasklog.formats import EVENTS
from tasklog.partitions import Partitions

# By then a replica that was behind has caught up.
_LOOK_AGAIN_SECONDS: Final = 1.0
# Of what was stored longer ago, no replica is behind: families with many children whose
# content is lost are not to be waited for one by one.
_YOUNG: Final = timedelta(minutes=1)


@frozen
class Entry:
    """An event and the broker's sequence of it, which the next append must name."""

    event: TaskEvent
    stream_sequence: int


class TaskLog:
    """Reads and writes task logs. Safe to share within one event loop."""

    def __init__(self, bus: Bus, partitions: Partitions) -> None:
        self._bus = bus
        self._partitions = partitions

    async def prepare(self) -> None:
        """Creates the streams, or brings them up to date."""
        for partition in self._partitions.all:
            await self._bus.ensure_stream(partition.stream_spec())

    async def append(self, tenant: str, task_id: str, event: TaskEvent, *, after: int) -> Entry:
        """Stores `event` if `after` is still the last stream sequence of the task.

        Executors are told where it makes the task runnable. The answer means
        that the server has stored it.

        Args:
            tenant: Whose task it is.
            task_id: The task.
            event: What happened; its large content goes to the object store.
            after: Stream sequence of the task's last event; 0 if it has none.

        Raises:
            Conflict: The log has moved on.
            DependencyUnavailable: The broker cannot be reached in time.
        """
        event.format = EVENTS.writes
        payload = event.SerializeToString()
        is_large = len(payload) > CLAIM_CHECK_BYTES
        if is_large:
            stored = await claim_check.check_in(event, self._bus, subjects.owner(tenant, task_id))
            payload = stored.SerializeToString()
        partition = self._partitions.of(tenant)
        try:
            sequence = await self._bus.append(
                partition.of_event(tenant, task_id, event),
                payload,
                expected_last=after,
                scope=partition.scope(tenant, task_id),
            )
        except Conflict:
            if is_large:
                await self._sweep(tenant, task_id)
            raise
        if event.sequence == 1:
            event.status.submitted_stream_sequence = sequence
        queue = subjects.queue_of(tenant, event)
        if queue is not None:
            # Executors look for themselves every second; this is quicker.
            with contextlib.suppress(MeshError):
                await self._bus.signal(queue.wake, b"")
        return Entry(event, sequence)

    async def _sweep(self, tenant: str, task_id: str) -> None:
        """Removes content that came too late: retention has been there.

        Before retention it lies beside the task's other content and goes with it.
        """
        end = await self._end(tenant, task_id)
        if end is not None and end.event.HasField("expired"):
            await self._bus.delete_blobs(subjects.owner(tenant, task_id))

    async def last(self, tenant: str, task_id: str) -> Entry | None:
        """The task's last event, or None where there is no such task."""
        message = await self._last(tenant, task_id)
        return None if message is None else await self.entry(message)

    async def read(
        self,
        tenant: str,
        task_id: str,
        *,
        from_stream_sequence: int = 1,
        batch: int = 256,
        lenient: bool = False,
    ) -> AsyncGenerator[Entry]:
        """The task's events as they stand now, oldest first; `batch` at most are on their way.

        Raises:
            CorruptData: A message is no event, or its large content is gone or damaged.
                Where `lenient`, an event whose content is lost has the reference alone.
            NewerFormat: Only a later version can read an event.
        """
        async with contextlib.aclosing(
            self._messages(tenant, task_id, start=from_stream_sequence, batch=batch)
        ) as messages:
            async for message in messages:
                try:
                    entry = await self.entry(message, is_patient=not lenient)
                except CorruptData:
                    # Retention may be at work: then what it leaves is the whole log.
                    end = await self._end(tenant, task_id)
                    if end is not None and end.event.HasField("expired"):
                        yield end
                        return
                    if not lenient:
                        raise
                    entry = _stored(message)
                yield entry

    async def read_stored(self, tenant: str, task_id: str) -> AsyncGenerator[Entry]:
        """As `read`, but large content stays in the object store: it may be damaged or gone."""
        async for message in self._messages(tenant, task_id):
            yield _stored(message)

    async def last_readable(self, tenant: str, task_id: str) -> Entry | None:
        """The last event of a damaged log that can be read, without its large content.

        Its stream sequence is that of the log's last message, so that an event
        can be appended after it. None where nothing can be read.

        Raises:
            NewerFormat: Only a later version can read an event.
        """
        found: Entry | None = None
        async for message in self._messages(tenant, task_id):
            try:
                event = _stored(message).event
            except CorruptData:
                if found is None:
                    continue
                event = found.event
            found = Entry(event, message.sequence)
        return found

    async def ends(self, tenant: str, task_id: str) -> tuple[Entry, Entry] | None:
        """The task's first and last event, as `read_stored` gives them; None without a task."""
        last = await self._end(tenant, task_id)
        if last is None:
            return None
        if last.event.sequence > 1:
            start = last.event.status.submitted_stream_sequence or 1
            async with contextlib.aclosing(
                self._messages(tenant, task_id, start=start, batch=1)
            ) as messages:
                async for first in messages:
                    return _stored(first), last
        return last, last

    async def task(self, tenant: str, task_id: str) -> Task:
        """The task as it stands now.

        Raises:
            TaskNotFound: There is no such task.
        """
        last = await self.last(tenant, task_id)
        if last is None:
            raise TaskNotFound(f"There is no task {subjects.task_name(tenant, task_id)!r}.")
        return fold.task_of(await self._first(tenant, task_id, last), last.event)

    async def shown(self, tenant: str, task_id: str) -> Task:
        """As `task`, for people: content that is gone or damaged is missing, and a note says so.

        Raises:
            TaskNotFound: There is no such task.
            CorruptData: Its log itself cannot be read.
        """
        try:
            return await self.task(tenant, task_id)
        except CorruptData:
            ends = await self.ends(tenant, task_id)
            if ends is None:
                raise
        first, last = ends
        if last.event.HasField("expired"):
            first = last
        for entry in ends:
            with contextlib.suppress(CorruptData):
                await claim_check.check_out(entry.event, self._bus, subjects.owner(tenant, task_id))
        task = fold.task_of(first.event, last.event)
        if first.event.submitted.HasField("input_blob") and not task.HasField("input"):
            task.notes.append(_lost("input"))
        if task.output.HasField("blob"):
            task.notes.append(_lost("output"))
        return task

    async def _first(self, tenant: str, task_id: str, last: Entry) -> TaskEvent:
        """The submission of the task that `last` belongs to."""
        if last.event.sequence == 1 or last.event.HasField("expired"):
            return last.event
        start = last.event.status.submitted_stream_sequence or 1
        async with contextlib.aclosing(
            self.read(tenant, task_id, from_stream_sequence=start)
        ) as entries:
            async for entry in entries:
                return entry.event
        raise CorruptData(f"The submission of {last.event.task} is gone from the log.")

    async def listen(
        self, tenant: str, task_id: str, *, tokens: Sequence[str], max_waiting: int
    ) -> Subscription:
        """The task's events as they are stored from now on; some may be lost.

        Args:
            tenant: Whose task it is.
            task_id: The task.
            tokens: The last ones of the subjects whose events are wanted.
            max_waiting: How many may wait for the reader.
        """
        partition = self._partitions.of(tenant)
        return await self._bus.subscribe(
            *(partition.live(tenant, task_id, token) for token in tokens),
            max_waiting=max_waiting,
            # What is submitted or read next over the same connection comes after it.
            confirmed=False,
        )

    async def _end(self, tenant: str, task_id: str) -> Entry | None:
        """The task's last event as it is stored, or None where there is no such task."""
        message = await self._last(tenant, task_id)
        return None if message is None else _stored(message)

    async def _last(self, tenant: str, task_id: str) -> StoredMessage | None:
        partition = self._partitions.of(tenant)
        return await self._bus.last(partition.stream, partition.scope(tenant, task_id))

    def _messages(
        self, tenant: str, task_id: str, *, start: int = 1, batch: int = 256
    ) -> AsyncGenerator[StoredMessage]:
        partition = self._partitions.of(tenant)
        return self._bus.read(
            partition.stream, partition.scope(tenant, task_id), start_sequence=start, batch=batch
        )

    async def entry(self, message: StoredMessage, *, is_patient: bool = True) -> Entry:
        """The event that a message holds, with its large content.

        Content is stored before its event, but a replica that is behind may be the
        one that answers: who `is_patient` looks a second time for what is new.

        Raises:
            CorruptData: It holds none, or its content is gone or damaged.
            NewerFormat: Only a later version can read it.
        """
        owner = subjects.owner(*subjects.parse(message.subject))
        entry = _stored(message)
        try:
            await claim_check.check_out(entry.event, self._bus, owner)
        except CorruptData:
            if not is_patient or datetime.now(UTC) - message.time > _YOUNG:
                raise
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            entry = _stored(message)
            await claim_check.check_out(entry.event, self._bus, owner)
        return entry


def event_of(message: StoredMessage | Delivery) -> TaskEvent:
    """The event that a message holds, as it is stored.

    Raises:
        CorruptData: It holds none.
        NewerFormat: It holds one that only a later version can read.
    """
    try:
        event = EVENTS.decode(message.payload)
    except DecodeError:
        event = TaskEvent()
    if event.WhichOneof("kind") is None:
        raise CorruptData(f"Message {message.sequence} of {message.subject} is no event.")
    if event.sequence == 1:
        event.status.submitted_stream_sequence = message.sequence
    return event


def _stored(message: StoredMessage) -> Entry:
    return Entry(event_of(message), message.sequence)


def _lost(part: str) -> TaskNote:
    text = f"The task's {part} is gone or damaged where large content is kept."
    return TaskNote(code="CONTENT_LOST", text=text)
