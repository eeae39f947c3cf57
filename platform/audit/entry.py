"""One stored event, as the audit looks at it."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from audit.finding import TaskKey
from meshkit.bus import StoredMessage
from tasklog.formats import EVENTS

_TOKENS: Final = 4


class Entry(NamedTuple):
    """An event and where it stands."""

    stream_sequence: int
    # By its subject, not by its content: whether the two agree is for a check.
    task: TaskKey
    # The subject's last token: a queue, `control` or `log`.
    token: str
    kind: str
    size_bytes: int
    event: TaskEvent


def entry_of(message: StoredMessage) -> Entry | None:
    """The entry that a message holds; None where it holds no event.

    Raises:
        NewerFormat: A later version wrote it, whose audit is to be used.
    """
    parts = message.subject.split(".")
    if len(parts) != _TOKENS:
        return None
    try:
        event = EVENTS.decode(message.payload)
    except DecodeError:
        return None
    kind = event.WhichOneof("kind")
    if kind is None:
        return None
    return Entry(
        message.sequence,
        TaskKey(parts[1], parts[2]),
        parts[3],
        kind,
        len(message.payload),
        event,
    )


def is_whole(log: Sequence[Entry]) -> bool:
    """Whether these are all of a task's events: else nothing can be said about what is not there.

    It does not hold for a task whose content was removed.
    """
    return bool(log) and all(
        entry.event.sequence == number for number, entry in enumerate(log, start=1)
    )
