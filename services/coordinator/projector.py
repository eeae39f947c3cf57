"""Carries events from the log into the read model, in batches."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshkit.bus import Bus, ConsumerSpec, Delivery
from meshkit.errors import MeshError
from meshkit.log import Log
from services.coordinator.task_row import Recorded
from tasklog import claim_check, subjects
from tasklog.partitions import WHOLE

# Events that come within so long are written together: one alone costs ten times
# as much as one of many, and nobody waits for the list.
_GATHER_SECONDS: Final = 0.02
# How many events may wait in memory; also the largest batch.
_WINDOW: Final = 512
_RETRY_SECONDS: Final = 5.0
# Repeats are harmless, and redelivery is only after a crash.
_WAIT_SECONDS: Final = 30.0
# A copy that nobody has carried events into for so long begins anew.
_FORGET_SECONDS: Final = 30 * 86_400.0
# The server takes acknowledgements a moment after they were sent.
_LOOK_AGAIN_SECONDS: Final = 0.05


class Sink(Protocol):
    """Where events go."""

    async def apply(self, entries: Sequence[Recorded], *, position: int) -> None:
        """Writes events, and the last stream sequence that is passed with them."""
        ...


async def fits(bus: Bus, identity: str, position: int) -> bool:
    """Whether a copy has all that was carried into it, and nothing that the log has not.

    A power cut may take the last writes of a file, though the broker knows them as
    acknowledged and does not bring them again. A broker may lose its last messages,
    or all of them, and give their sequences to others.

    Args:
        bus: The broker.
        identity: Of the copy.
        position: The last stream sequence that the copy knows to be carried into it.

    Raises:
        DependencyUnavailable: The broker cannot be reached in time.
    """
    stream = await bus.stream_info(WHOLE.stream)
    if stream is None:
        return position == 0
    spec = _consumer(identity)
    await bus.ensure_consumer(spec)
    consumer = await bus.consumer_info(spec.stream, spec.durable)
    acknowledged = int(consumer["ack_floor"]["stream_seq"])
    is_known = position == 0 or int(consumer["delivered"]["consumer_seq"]) > 0
    # A consumer begins as if what is gone before the log's first message was acknowledged.
    has_all = acknowledged <= position or acknowledged < int(stream["state"]["first_seq"])
    if is_known and has_all and position <= int(stream["state"]["last_seq"]):
        return True
    await bus.delete_consumer(spec.stream, spec.durable)
    return False


class Projector:
    """Feeds one copy of the log."""

    def __init__(self, bus: Bus, sink: Sink, log: Log, *, identity: str) -> None:
        """`identity`: of the copy. What was carried into it is remembered under this name."""
        self._bus = bus
        self._sink = sink
        self._log = log
        self._listeners: list[Callable[[], None]] = []
        # Whether the consumer is there for sure.
        self._made = False
        self._spec = _consumer(identity)

    def on_applied(self, listener: Callable[[], None]) -> None:
        """Has `listener` called whenever events were written."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Runs until cancelled.

        Events are acknowledged only after they are written: a crash repeats some,
        and the sink takes a repeat as nothing new. A batch that cannot be written comes
        again later; what is no event is logged and passed over. Neither stops
        anything but the list.
        """
        waiting: asyncio.Queue[Delivery] = asyncio.Queue(_WINDOW)

        async def receive() -> None:
            async for delivery in self._bus.consume(self._spec, max_in_flight=_WINDOW):
                await waiting.put(delivery)

        async with asyncio.TaskGroup() as group:
            group.create_task(receive())
            while True:
                batch = [await waiting.get()]
                await asyncio.sleep(_GATHER_SECONDS)
                while not waiting.empty():
                    batch.append(waiting.get_nowait())
                await self._write(batch)

    async def has_passed(self, stream: str, stream_sequence: int) -> bool:
        """Whether every event of the stream up to that one is written.

        Raises:
            DependencyUnavailable: The broker, which knows, cannot be reached in time.
        """
        if not self._made:
            await self._bus.ensure_consumer(self._spec)
            self._made = True
        info = await self._bus.consumer_info(stream, self._spec.durable)
        return int(info["ack_floor"]["stream_seq"]) >= stream_sequence

    async def wait_for(self, stream_sequence: int) -> None:
        """Returns once every event up to that one is written. The caller limits the time."""
        while True:
            if await self.has_passed(self._spec.stream, stream_sequence):
                return
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _write(self, batch: Sequence[Delivery]) -> None:
        readable: list[Delivery] = []
        unreadable: list[Delivery] = []
        entries: list[Recorded] = []
        for delivery in batch:
            try:
                entries.append(_recorded(delivery))
                readable.append(delivery)
            except (DecodeError, ValueError, MeshError):
                self._log.error("projection.unreadable", subject=delivery.subject)
                unreadable.append(delivery)
        try:
            # What is passed over counts, or it would look like something lost.
            position = max(delivery.sequence for delivery in batch)
            await self._sink.apply(entries, position=position)
        except sqlite3.Error as error:
            self._log.error("projection.failed", error=str(error), events=len(entries))
            for delivery in batch:
                await delivery.not_now(_RETRY_SECONDS)
            return
        for delivery in unreadable:
            await delivery.reject()
        for delivery in readable:
            await delivery.acknowledge()
        for listener in self._listeners:
            listener()


def _consumer(identity: str) -> ConsumerSpec:
    return ConsumerSpec(
        stream=WHOLE.stream,
        durable=f"projector-{identity}",
        subject_filter=WHOLE.all_events,
        acknowledge_wait_seconds=_WAIT_SECONDS,
        max_acknowledge_pending=_WINDOW * 2,
        inactive_seconds=_FORGET_SECONDS,
        description="Carries events into the coordinator's read model.",
    )


def _recorded(delivery: Delivery) -> Recorded:
    event = TaskEvent.FromString(delivery.payload)
    tenant, task_id = subjects.parse(delivery.subject)
    if event.task != subjects.task_name(tenant, task_id):
        raise ValueError(f"{event.task!r} is not the task of {delivery.subject}")
    blobs = claim_check.references(event)
    size_bytes = len(delivery.payload) + sum(blob.size_bytes for blob in blobs)
    return Recorded(event, delivery.sequence, size_bytes)
