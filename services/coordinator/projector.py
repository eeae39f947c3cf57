"""Keeps the read model up with the log of tasks."""

from collections.abc import Sequence

from meshkit import names
from meshkit.bus import Bus, Followed
from meshkit.log import Log
from services.coordinator.task_row import Recorded
from sqlstore.carrier import Source
from sqlstore.projector import Projector, SharedCopy
from tasklog import claim_check, subjects
from tasklog.formats import EVENTS
from tasklog.partitions import Partition


def task_projector(
    bus: Bus, copy: SharedCopy[Recorded], log: Log, *, partitions: Sequence[Partition]
) -> Projector[Recorded]:
    """What feeds the copy that is in use."""
    return Projector(bus, copy, log, sources=[source_of(each) for each in partitions])


def source_of(partition: Partition) -> Source[Recorded]:
    """All events of a part of the log."""
    return Source(partition.stream, (partition.all_events,), _recorded)


def _recorded(message: Followed) -> Recorded:
    event = EVENTS.decode(message.payload)
    if names.TASK.parse(event.task, field="task") != subjects.parse(message.subject):
        raise ValueError(f"{event.task!r} is not the task of {message.subject}")
    blobs = claim_check.references(event)
    size_bytes = len(message.payload) + sum(blob.size_bytes for blob in blobs)
    return Recorded(event, message.sequence, size_bytes)
