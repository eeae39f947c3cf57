"""What coordinators do about the events that need them: waits, cancels, ends of children."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit import names
from meshkit.bus import ConsumerSpec, Delivery
from meshkit.clock import Clock
from meshkit.errors import CorruptData, TaskNotFound
from services.coordinator import timers
from tasklog import lifecycle, subjects
from tasklog.formats import EVENTS
from tasklog.partitions import Partition
from tasklog.task_log import Entry

# The list of children is usually a moment behind.
_SOON_SECONDS: Final = 0.02
_SOON_AT_MOST_SECONDS: Final = 5.0
# After so many, some 15 seconds, what is listed and not in the log is lost.
_LOOKS: Final = 10


def consumer(partition: Partition) -> ConsumerSpec:
    """The control events of a partition, shared by all coordinators."""
    return timers.unlimited(
        partition.stream,
        subjects.CONTROL,
        partition.all_control,
        "Waits, cancels and ends of children, for the coordinators.",
    )


class Waits(Protocol):
    """Ends waits."""

    async def attend(self, tenant: str, task_id: str, wait: Entry) -> datetime | None: ...
    async def child_ended(
        self, tenant: str, parent_id: str, child: str, *, first: bool
    ) -> datetime | None: ...


class Canceller(Protocol):
    """Asks tasks to stop."""

    async def cancel(self, tenant: str, task_id: str, reason: str) -> Task: ...


class Children(Protocol):
    """Knows the children of every task, those that clients submitted included."""

    async def open_children(self, tenant: str, task_id: str) -> Sequence[str]: ...


class Projection(Protocol):
    """Knows how far the list of children is."""

    async def has_passed(self, stream: str, stream_sequence: int) -> bool: ...


class Control:
    """Acts on control events. Whatever it does may be done twice, or by two at once."""

    def __init__(
        self,
        *,
        waits: Waits,
        canceller: Canceller,
        children: Children,
        projection: Projection,
        clock: Clock,
    ) -> None:
        self._waits = waits
        self._canceller = canceller
        self._children = children
        self._projection = projection
        self._clock = clock

    async def attend(self, delivery: Delivery) -> datetime | None:
        """Acts on an event; when to look at it again, or None once all is done.

        Raises:
            DecodeError: It is no event.
            CorruptData: What belongs to it cannot be read.
            NewerFormat: A coordinator of a later version can read it.
        """
        event = EVENTS.decode(delivery.payload)
        tenant, task_id = subjects.parse(delivery.subject)
        if event.HasField("waiting"):
            return await self._waits.attend(tenant, task_id, Entry(event, delivery.sequence))
        again: datetime | None = None
        if event.WhichOneof("kind") in ("cancel_requested", "cancelled"):
            # First of all: a parent that cannot be read does not keep a cancel from going down.
            again = await self._cancel_down(event, tenant, task_id, delivery)
        if event.status.parent_task and event.status.state in lifecycle.TERMINAL:
            parent_id = names.TASK.parse(event.status.parent_task, field="parent_task")[1]
            try:
                for_parent = await self._waits.child_ended(
                    tenant, parent_id, event.task, first=delivery.delivery_count == 1
                )
            except CorruptData:
                if again is None:
                    raise
            else:
                again = again or for_parent
        return again

    async def _cancel_down(
        self, event: TaskEvent, tenant: str, task_id: str, delivery: Delivery
    ) -> datetime | None:
        """Stops the children; each one's own cancel stops its children."""
        # Asked first: what is listed by then is in the list that is read next.
        complete = await self._projection.has_passed(delivery.stream, delivery.sequence)
        for child_id in await self._children.open_children(tenant, task_id):
            try:
                reason = f"Its parent {event.task} was cancelled."
                await self._canceller.cancel(tenant, child_id, reason)
            except TaskNotFound:
                # It is listed: a replica answered that has not heard of it yet.
                complete = complete and delivery.delivery_count > _LOOKS
            except CorruptData:
                continue  # there is nothing to be stopped
        if complete:
            return None
        # Children that were submitted just before may not be listed or shown yet.
        seconds = _SOON_SECONDS * 2 ** min(delivery.delivery_count - 1, 10)
        return self._clock.now() + timedelta(seconds=min(seconds, _SOON_AT_MOST_SECONDS))
