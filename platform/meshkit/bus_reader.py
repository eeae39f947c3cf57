"""Reading streams without a consumer: by direct get, or from the leader.

Any replica answers a direct get, and one may be behind. The leader has all that is stored.
"""

import asyncio
import base64
import heapq
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from datetime import datetime
from typing import Any, Final, Self

from meshkit.bus_link import Link, NotAnswered
from meshkit.bus_messages import StoredMessage, own_headers, stored_message
from meshkit.bus_publisher import api_error
from meshkit.bus_wire import WireMessage
from meshkit.errors import DependencyUnavailable, Internal
from meshkit.time_limit import within

_DIRECT_GET: Final = "$JS.API.DIRECT.GET."
_LEADER_GET: Final = "$JS.API.STREAM.MSG.GET."
_NO_MESSAGE: Final = 10037
_OK: Final = ""
_END_OF_BATCH: Final = "204"
_NOT_FOUND: Final = "404"
# The server ends a batch here even before it is full, so that memory stays bounded.
_MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
# A filter that matches more subjects than this is scanned.
_MAX_SUBJECTS: Final = 64
# As is one of so few tokens, such as `task.>`: it matches about everything.
_BROAD_TOKENS: Final = 2


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
        status = answer.status
        if status == _NOT_FOUND:
            return None
        if status != _OK:
            raise _refused(answer, subject_filter)
        return stored_message(answer)


async def read(
    link: Link, stream: str, subject_filter: str, start_sequence: int, batch: int
) -> AsyncGenerator[StoredMessage]:
    """The messages that the filter matches, from `start_sequence` to the present end.

    The server finds the messages of one subject by an index, but those of a
    wildcard by looking through everything that is stored. So a narrow filter is
    first turned into its subjects, and these are read side by side.
    """
    start = max(1, start_sequence)
    lasts = await _last_by_subject(link, stream, subject_filter)
    if lasts is None:
        parts = [_scan(link, stream, subject_filter, start, None, batch)]
    else:
        parts = [
            _scan(link, stream, subject, start, sequence, batch)
            for subject, sequence in lasts.items()
            if sequence >= start
        ]
    async with AsyncExitStack() as stack:
        for each in parts:
            await stack.enter_async_context(aclosing(each))
        heads: list[tuple[int, int, StoredMessage]] = []
        for number, each in enumerate(parts):
            await _advance(heads, number, each)
        while heads:
            _, number, message = heapq.heappop(heads)
            yield message
            await _advance(heads, number, parts[number])


async def _advance(
    heads: list[tuple[int, int, StoredMessage]],
    number: int,
    part: AsyncIterator[StoredMessage],
) -> None:
    message = await anext(part, None)
    if message is not None:
        heapq.heappush(heads, (message.sequence, number, message))


async def _last_by_subject(link: Link, stream: str, subject_filter: str) -> dict[str, int] | None:
    """The last sequence of each subject, all at one moment; None where a scan is better."""
    tokens = subject_filter.split(".")
    if not {"*", ">"} & set(tokens):
        return None
    if {"*", ">"} & set(tokens[:-1]) or len(tokens) <= _BROAD_TOKENS:
        return None
    tries = link.tries(f"read {subject_filter}")
    while True:
        lasts: dict[str, int] = {}
        try:
            async with _Inbox(link) as inbox:
                await inbox.request(
                    _DIRECT_GET + stream, {"multi_last": [subject_filter], "batch": _MAX_SUBJECTS}
                )
                while True:
                    message = await inbox.next(tries.seconds())
                    headers = message.headers
                    match message.status:
                        case "":
                            lasts[headers["Nats-Subject"]] = int(headers["Nats-Sequence"])
                        case "204":
                            more = int(headers.get("Nats-Num-Pending", 0))
                            return None if more else lasts
                        case "404":
                            return {}
                        case "413":
                            return None
                        case _:
                            raise _refused(message, subject_filter)
        except NotAnswered as error:
            await tries.again(error)


async def _scan(
    link: Link, stream: str, subject_filter: str, start: int, end: int | None, batch: int
) -> AsyncGenerator[StoredMessage]:
    """The messages from sequence `start` to `end`, which matches if it is given, in batches."""
    sequence = start
    tries = link.tries(f"read {subject_filter}")
    while True:
        first = sequence
        pending = 0
        try:
            async with _Inbox(link) as inbox:
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
                    status = message.status
                    if status == _NOT_FOUND:
                        return
                    if status == _END_OF_BATCH:
                        pending = int(message.headers.get("Nats-Num-Pending", 0))
                        break
                    if status != _OK:
                        raise _refused(message, subject_filter)
                    found = stored_message(message)
                    sequence = found.sequence + 1
                    yield found
                    if found.sequence == end:
                        return
        except NotAnswered as error:
            if sequence > first:  # it went on for a while: time starts anew
                tries = link.tries(f"read {subject_filter}")
            await tries.again(error)
            continue
        if pending == 0:
            return
        tries = link.tries(f"read {subject_filter}")


class Leader:
    """Reads from the leaders of streams, a message at a time: for who did not find it elsewhere."""

    def __init__(self, link: Link) -> None:
        self._link: Final = link

    async def last(self, stream: str, subject: str) -> StoredMessage | None:
        """The last message of the subject."""
        return await self._get(stream, subject, {"last_by_subj": subject})

    async def read(self, stream: str, subject: str) -> AsyncGenerator[StoredMessage]:
        """The messages of the subject, oldest first."""
        sequence = 1
        while message := await self._get(
            stream, subject, {"seq": sequence, "next_by_subj": subject}
        ):
            yield message
            sequence = message.sequence + 1

    async def _get(
        self, stream: str, subject: str, request: dict[str, Any]
    ) -> StoredMessage | None:
        answer = await self._link.ask_json(_LEADER_GET + stream, request)
        error = answer.get("error", {})
        if error.get("err_code") == _NO_MESSAGE:
            return None
        if error:
            raise api_error(error, f"read {subject}")
        found: dict[str, Any] = answer["message"]
        head, payload = (base64.b64decode(found.get(part, "")) for part in ("hdrs", "data"))
        return StoredMessage(
            subject=found["subject"],
            sequence=found["seq"],
            payload=payload,
            headers=own_headers(WireMessage(found["subject"], "", head, payload).headers),
            time=datetime.fromisoformat(found["time"]),
        )


class _Inbox:
    """Where the many answers to one request arrive."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._subject = link.client.new_inbox()
        self._messages: asyncio.Queue[WireMessage] = asyncio.Queue()
        self._subscription: Any = None

    async def __aenter__(self) -> Self:
        if not self._link.is_up:
            raise NotAnswered("there is no connection")
        self._subscription = await self._link.client.listen(
            self._subject, self._messages.put_nowait
        )
        return self

    async def request(self, subject: str, request: dict[str, Any]) -> None:
        self._link.client.send(subject, json.dumps(request).encode(), self._subject)

    async def next(self, seconds: float) -> WireMessage:
        if self._messages.empty():
            try:
                with within(seconds):
                    message = await self._messages.get()
            except TimeoutError:
                raise NotAnswered(f"no answer within {seconds:.3g} seconds") from None
        else:
            message = self._messages.get_nowait()
        if message.status == "503":
            raise NotAnswered("nobody answers there")
        return message

    async def __aexit__(self, *_: object) -> None:
        if self._subscription is not None and not self._link.client.is_closed:
            await self._subscription.unsubscribe()


def _refused(message: WireMessage, what: str) -> Exception:
    text = f"Failed to read {what}: {message.status} {message.description}."
    if message.status.startswith("5"):
        return DependencyUnavailable(text, metadata={"dependency": "nats"})
    return Internal(text)
