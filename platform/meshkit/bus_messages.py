"""What travels over the bus, and how streams and consumers are described."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from meshkit.bus_wire import WireMessage
from meshkit.frozen import frozen

# Headers that the server adds to what it hands out; not part of the message.
_SERVER_HEADERS: Final = frozenset(
    (
        "Nats-Stream",
        "Nats-Subject",
        "Nats-Sequence",
        "Nats-Time-Stamp",
        "Nats-Num-Pending",
        "Nats-Last-Sequence",
        "Nats-UpTo-Sequence",
    )
)


@frozen
class StoredMessage:
    """A message as a stream keeps it, or as it came by."""

    subject: str
    # Its place in the stream, from 1; 0 where it was never in one.
    sequence: int
    payload: bytes
    headers: Mapping[str, str]
    # When the server stored it, or when it arrived where it was never stored.
    time: datetime


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream on disk."""

    name: str
    subjects: tuple[str, ...]
    description: str
    # None keeps messages for ever.
    max_age_seconds: float | None = None
    # None lets the stream grow as the disk does.
    max_bytes: int | None = None
    # How long `publish` recognises a message id again. The server keeps the ids
    # in memory, about 150 bytes each.
    duplicate_window_seconds: float = 120.0
    # Source filter and destination: each stored message is also sent there.
    republish: tuple[str, str] | None = None
    allow_direct: bool = True
    # None keeps any number of messages of a subject.
    max_messages_per_subject: int | None = None
    # None leaves it to the server, which refuses the 1,001st.
    max_consumers: int | None = None
    # `work_queue` removes what was acknowledged.
    retention: Literal["limits", "work_queue"] = "limits"
    # When a limit is reached: refuse new messages (QueueFull) instead of dropping old ones.
    refuse_when_full: bool = False
    # Lets a message replace the former ones of its subject, by the `Nats-Rollup` header.
    allow_rollup: bool = False


@dataclass(frozen=True, slots=True)
class ConsumerSpec:
    """A durable pull consumer: the server remembers what was acknowledged."""

    stream: str
    durable: str
    subject_filter: str
    # Without an acknowledgement or `in_progress` for this long, a message is delivered again.
    acknowledge_wait_seconds: float
    # How many messages may be out unacknowledged, over all processes.
    max_acknowledge_pending: int
    description: str
    # How often a message is delivered at most; -1 for no end.
    max_deliver: int = -1
    # The server forgets the consumer after nobody pulled for this long; never where None.
    inactive_seconds: float | None = None
    # What was stored before the consumer was made is not delivered.
    only_new: bool = False


def stored_message(message: WireMessage) -> StoredMessage:
    """From a direct get, or from a republished or plain message."""
    headers = message.headers
    stamp = headers.get("Nats-Time-Stamp")
    return StoredMessage(
        subject=headers.get("Nats-Subject", message.subject),
        sequence=int(headers.get("Nats-Sequence", 0)),
        payload=message.data,
        headers=own_headers(headers),
        time=datetime.fromisoformat(stamp) if stamp else datetime.now(UTC),
    )


def own_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that the sender set."""
    return {key: value for key, value in headers.items() if key not in _SERVER_HEADERS}
