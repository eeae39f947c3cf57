"""nats-py's client with a short way for messages.

nats-py keeps the connection: it connects, authenticates, reconnects and
subscribes again. But it takes a message that comes through a chain of regular
expressions, a queue and a task for each subscription, and one that goes through
as many checks. Here messages go between the connection and those who wait for
them directly, at about half the cost.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError, OutboundBufferLimitError, ProtocolError
from nats.protocol.parser import Parser

from meshkit import bus_wire
from meshkit.bus_wire import WireMessage

_END: Final = b"\r\n"

Take = Callable[[WireMessage], None]


class WireClient(Client):
    """Use `listen` instead of `subscribe`, and `send` instead of `publish`."""

    def __init__(self) -> None:
        super().__init__()
        self._ps = _Parser(self)
        # By the number of the subscription, as the wire has it.
        self._takers: dict[str, Take] = {}

    async def listen(self, subject: str, take: Take) -> Subscription:
        """Calls `take` for each message of a subject, in the order in which they come."""
        self._takers[str(self._sid + 1)] = take
        untyped: Any = super()  # nats-py leaves the type of an unused argument open
        return await untyped.subscribe(subject)

    def send(self, subject: str, payload: bytes, reply: str = "", head: bytes = b"") -> None:
        """Publishes with the next write: all that is sent in a turn of the loop leaves together.

        Raises nats-py's errors as `publish` does. Who sends much makes room now and then.
        """
        if self.is_closed:
            raise ConnectionClosedError
        size = len(payload) + self._pending_data_size
        if not self.is_connected and size > self._max_pending_size:
            raise OutboundBufferLimitError
        command = bus_wire.command(subject, payload, reply, head)
        self._pending.append(command)
        self._pending_data_size += len(command)
        if self.is_connected and self._flush_queue is not None and self._flush_queue.empty():
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())

    async def make_room(self) -> None:
        """Returns when there is not too much that still has to be written."""
        if self._pending_data_size > self._max_pending_size:
            await self._flush_pending(force_flush=True)

    def hand_out(self, subscription: str, message: WireMessage) -> None:
        """Gives a message to who listens, if somebody still does."""
        take = self._takers.get(subscription)
        if take is not None:
            take(message)

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        super()._remove_sub(sid, max_msgs)
        self._takers.pop(str(sid), None)


class _Parser(Parser):
    """Reads what the server sends."""

    nc: WireClient
    buf: bytearray

    async def parse(self, data: bytes = b"") -> None:
        self.buf += data
        while self.buf:
            await self._take_messages()
            end = self.buf.find(_END)
            if end < 0 or self.buf.startswith((b"MSG ", b"HMSG ")):
                return  # the rest is still to come
            line = bytes(self.buf[:end])
            del self.buf[: end + len(_END)]
            await self._note(line)

    async def _take_messages(self) -> None:
        faults: list[Exception] = []

        def take(subscription: str, message: WireMessage) -> None:
            try:
                self.nc.hand_out(subscription, message)
            except Exception as error:  # one listener's fault must not keep others waiting
                faults.append(error)

        try:
            bus_wire.take_messages(self.buf, take)
        except (ValueError, IndexError) as error:
            raise ProtocolError("nats: malformed message") from error
        client: Any = self.nc
        for fault in faults:
            await client._error_cb(fault)

    async def _note(self, line: bytes) -> None:
        client: Any = self.nc
        word, _, rest = line.partition(b" ")
        match word.strip():
            case b"PING":
                await client._process_ping()
            case b"PONG":
                await client._process_pong()
            case b"+OK":
                pass
            case b"INFO":
                await client._process_info(json.loads(rest))
            case b"-ERR":
                await client._process_err(rest.decode().strip().lower())
            case _:
                raise ProtocolError("nats: unknown protocol")
