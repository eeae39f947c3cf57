"""The formats in which events are stored, and how those of earlier ones are read today.

An event says which format its reader has to know at least. Wherever events are
read they come through `EVENTS`, which brings older ones to the form of today and
refuses what a later version wrote in a format that is not known here.
"""

from collections.abc import Callable, Sequence
from typing import Final

from google.protobuf.unknown_fields import UnknownFieldSet

from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshkit.errors import NewerFormat

# Adds to an event of one format, in place, what the next one has. It takes nothing
# away, so that what older readers go by stays, and does nothing a second time.
Upcaster = Callable[[TaskEvent], None]

_FIRST: Final = 1


class EventFormats:
    """All formats up to the one of today."""

    def __init__(self, upcasters: Sequence[Upcaster], *, writes: int) -> None:
        """The first of `upcasters` leads from format 1 to 2, and so on.

        `writes`: the format of new events. It follows the newest that is read a release
        later: by then nobody is left who could not read it.
        """
        if not _FIRST <= writes <= _FIRST + len(upcasters):
            raise ValueError(f"format {writes} cannot be written: nobody reads it")
        self._upcasters: Final = tuple(upcasters)
        self.reads: Final = _FIRST + len(upcasters)
        self.writes: Final = writes

    def decode(self, payload: bytes) -> TaskEvent:
        """The event that is stored so, in the form of today.

        Raises:
            DecodeError: It is no event.
            NewerFormat: Only a later version can read it.
        """
        return self.upcast(TaskEvent.FromString(payload))

    def upcast(self, event: TaskEvent) -> TaskEvent:
        """Brings `event` to the form of today, in place, and answers it; safe to repeat.

        Its `format` stays: whoever could read it still can, also from a copy of it.

        Raises:
            NewerFormat: Only a later version can read it.
        """
        stored = event.format or _FIRST
        if stored > self.reads or _is_of_unknown_kind(event):
            raise self._newer(event)
        for upcaster in self._upcasters[stored - _FIRST :]:
            upcaster(event)
        return event

    def _newer(self, event: TaskEvent) -> NewerFormat:
        what = f"is of format {event.format}" if event.format > self.reads else "is of a later kind"
        return NewerFormat(
            f"Event {event.sequence} of {event.task} {what}; this version of Agentmesh reads"
            f" formats up to {self.reads}. A later version can read it.",
            metadata={"format": str(event.format or _FIRST), "reads": str(self.reads)},
            retry_after_seconds=1.0,
        )


def _is_of_unknown_kind(event: TaskEvent) -> bool:
    """Whether something happened that has no name here. What is no event has no task."""
    return (
        event.WhichOneof("kind") is None
        and event.sequence > 0
        and bool(event.task)
        and len(UnknownFieldSet(event)) > 0
    )


EVENTS: Final = EventFormats((), writes=1)
