"""Acknowledged publishing: bounded, repeated until acknowledged, and compare-and-set."""

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Protocol

from meshkit import bus_wire
from meshkit.bus_link import Link, NotAnswered
from meshkit.bus_messages import StoredMessage
from meshkit.errors import Conflict, DependencyUnavailable, Internal, MeshError, QueueFull, TooLarge

# The server remembers these for a while, and stores none twice.
MESSAGE_ID: Final = "Nats-Msg-Id"
# Those of appends it need not know: they are found again in the log, if ever.
_APPEND_ID: Final = "Agentmesh-Append"
_EXPECTED_LAST: Final = "Nats-Expected-Last-Subject-Sequence"
_EXPECTED_SCOPE: Final = "Nats-Expected-Last-Subject-Sequence-Subject"

_STORED: Final = re.compile(rb'\{"stream":"[^"]*", ?"seq":(\d+)\}')
# How many publishes may wait for their acknowledgement.
_MAX_IN_FLIGHT: Final = 1024
_WRONG_LAST_SEQUENCE: Final = (10071, 10164)
_TOO_LARGE: Final = 10054
_STORE_FAILED: Final = 10077
_TOO_MANY_CONSUMERS: Final = 10026
_NO_STREAM: Final = 10059


class Read(Protocol):
    """Gives the messages of a stream that a filter matches, from a sequence on."""

    def __call__(
        self, stream: str, subject_filter: str, *, start_sequence: int
    ) -> AsyncIterator[StoredMessage]: ...


class Publisher:
    """Publishes to streams over one link."""

    def __init__(self, link: Link, read: Read) -> None:
        self._link: Final = link
        self._read: Final = read
        self._slots: Final = asyncio.Semaphore(_MAX_IN_FLIGHT)
        # Unique for the process, and counted up: no two appends share an id.
        self._id_prefix: Final = secrets.token_urlsafe(12)
        self._count = 0

    async def publish(
        self, subject: str, payload: bytes, message_id: str, headers: Mapping[str, str]
    ) -> int:
        """The stream sequence, after the acknowledgement; that of the first message of this id."""
        answer, _ = await self._send(subject, payload, {**headers, MESSAGE_ID: message_id})
        error = answer.get("error")
        if error is not None:
            raise api_error(error, f"publish to {subject}")
        return int(answer["seq"])

    async def append(
        self,
        subject: str,
        payload: bytes,
        expected_last: int,
        scope: str | None,
        headers: Mapping[str, str],
    ) -> int:
        """The stream sequence; Conflict unless the last one over `scope` is `expected_last`."""
        self._count += 1
        message_id = f"{self._id_prefix}{self._count}"
        complete = {**headers, _APPEND_ID: message_id, _EXPECTED_LAST: str(expected_last)}
        if scope is not None:
            complete[_EXPECTED_SCOPE] = scope
        answer, tries = await self._send(subject, payload, complete)
        error = answer.get("error")
        if error is None:
            return int(answer["seq"])
        if error.get("err_code") in _WRONG_LAST_SEQUENCE:
            if tries > 1:
                # An earlier try may have been stored and its acknowledgement lost.
                # The server then reports our own message as somebody else's.
                own = await self._find(
                    answer.get("stream", ""), scope or subject, expected_last, message_id
                )
                if own is not None:
                    return own
            raise Conflict(
                f"Somebody else wrote to {scope or subject} after {expected_last}:"
                f" {error.get('description', '')}.",
                metadata={"expected_last": str(expected_last)},
            )
        raise api_error(error, f"append to {subject}")

    async def _send(
        self, subject: str, payload: bytes, headers: Mapping[str, str]
    ) -> tuple[dict[str, Any], int]:
        head = bus_wire.head(headers)
        tries = self._link.tries(f"publish to {subject}")
        async with self._slots:
            while True:
                try:
                    answer = await self._link.ask(
                        subject, payload, head=head, seconds=tries.seconds()
                    )
                    return _read(answer.data), tries.count
                except NotAnswered as error:
                    await tries.again(error)

    async def _find(self, stream: str, scope: str, after: int, message_id: str) -> int | None:
        async for message in self._read(stream, scope, start_sequence=after + 1):
            if message.headers.get(_APPEND_ID) == message_id:
                return message.sequence
        return None


def _read(acknowledgement: bytes) -> dict[str, Any]:
    # The usual one, without a parser.
    stored = _STORED.match(acknowledgement)
    return {"seq": int(stored[1])} if stored else json.loads(acknowledgement)


def api_error(error: Mapping[str, Any], what: str) -> MeshError:
    """What an error of the JetStream API means to the caller."""
    text = f"Failed to {what}: {error.get('description', 'unknown')}."
    match int(error.get("err_code", 0)):
        case code if code == _TOO_LARGE:
            return TooLarge(text)
        case code if code in (_STORE_FAILED, _TOO_MANY_CONSUMERS):
            return QueueFull(text, retry_after_seconds=1.0)
        case code if code == _NO_STREAM:
            return DependencyUnavailable(text, metadata={"dependency": "nats"})
        case _:
            pass
    if int(error.get("code", 0)) >= 500:
        return DependencyUnavailable(text, metadata={"dependency": "nats"})
    return Internal(text)
