"""Reading streams without a consumer, by direct get."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

from nats.aio.msg import Msg

from meshkit.bus_link import Link, NotAnswered
from meshkit.bus_messages import StoredMessage, stored_message
from meshkit.errors import DependencyUnavailable, Internal

_DIRECT_GET: Final = "$JS.API.DIRECT.GET."
_OK: Final = ""
_END_OF_BATCH: Final = "204"
_NOT_FOUND: Final = "404"
# The server ends a batch here even before it is full, so that memory stays bounded.
_MAX_BATCH_BYTES: Final = 8 * 1024 * 1024


async def last(link: Link, stream: str, subject_filter: str) -> StoredMessage | None:
    """The last message of all subjects that the filter matches."""
    tries = link.tries(f"read {subject_filter}")
    request = json.dumps({"last_by_subj": subject_filter}).encode()
    while True:
        try:
            answer = await link.ask(_DIRECT_GET + stream, request, seconds=tries.seconds())
        except NotAnswered as error:
            await tries.again(error)
            continue
        status = _status(answer)
        if status == _NOT_FOUND:
            return None
        if status != _OK:
            raise _refused(answer, subject_filter)
        return stored_message(answer)


async def read(
    link: Link, stream: str, subject_filter: str, start_sequence: int, batch: int
) -> AsyncIterator[StoredMessage]:
    """The messages that the filter matches, from `start_sequence` to the present end."""
    sequence = max(1, start_sequence)
    tries = link.tries(f"read {subject_filter}")
    while True:
        inbox = _Inbox(link)
        first = sequence
        pending = 0
        try:
            await inbox.open()
            await inbox.request(
                _DIRECT_GET + stream,
                {
                    "seq": sequence,
                    "next_by_subj": subject_filter,
                    "batch": batch,
                    "max_bytes": _MAX_BATCH_BYTES,
                },
            )
            while True:
                message = await inbox.next(tries.seconds())
                status = _status(message)
                if status == _NOT_FOUND:
                    return
                if status == _END_OF_BATCH:
                    pending = int((message.headers or {}).get("Nats-Num-Pending", 0))
                    break
                if status != _OK:
                    raise _refused(message, subject_filter)
                found = stored_message(message)
                sequence = found.sequence + 1
                yield found
        except NotAnswered as error:
            if sequence > first:  # it went on for a while: time starts anew
                tries = link.tries(f"read {subject_filter}")
            await tries.again(error)
            continue
        finally:
            await inbox.close()
        if pending == 0:
            return
        tries = link.tries(f"read {subject_filter}")


class _Inbox:
    """Where the many answers to one request arrive."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._subject = link.client.new_inbox()
        self._messages: asyncio.Queue[Msg] = asyncio.Queue()
        self._subscription: Any = None

    async def open(self) -> None:
        if not self._link.is_up:
            raise NotAnswered("there is no connection")

        async def take(message: Msg) -> None:
            self._messages.put_nowait(message)

        self._subscription = await self._link.client.subscribe(self._subject, cb=take)

    async def request(self, subject: str, request: dict[str, Any]) -> None:
        await self._link.client.publish(subject, json.dumps(request).encode(), self._subject)

    async def next(self, seconds: float) -> Msg:
        if self._messages.empty():
            try:
                async with asyncio.timeout(seconds):
                    message = await self._messages.get()
            except TimeoutError:
                raise NotAnswered(f"no answer within {seconds:.3g} seconds") from None
        else:
            message = self._messages.get_nowait()
        if _status(message) == "503":
            raise NotAnswered("nobody answers there")
        return message

    async def close(self) -> None:
        if self._subscription is not None and not self._link.client.is_closed:
            await self._subscription.unsubscribe()


def _status(message: Msg) -> str:
    return (message.headers or {}).get("Status", _OK)


def _refused(message: Msg, what: str) -> Exception:
    headers = message.headers or {}
    text = f"Failed to read {what}: {headers.get('Status')} {headers.get('Description', '')}."
    if (headers.get("Status") or "").startswith("5"):
        return DependencyUnavailable(text, metadata={"dependency": "nats"})
    return Internal(text)
