"""nats-py's client with a short way for messages.

nats-py keeps the connection: it connects, authenticates, reconnects and
subscribes again. But it takes a message that comes through a chain of regular
expressions, a queue and a task for each subscription, and one that goes through
as many checks. Here messages go between the connection and those who wait for
them directly, at about half the cost. Whoever waits for a task listens for it
alone, so listening is as direct.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, cast

from nats.aio.client import Client
from nats.errors import (
    ConnectionClosedError,
    FlushTimeoutError,
    OutboundBufferLimitError,
    ProtocolError,
    UnexpectedEOF,
)

from meshkit import bus_wire
from meshkit.bus_transport import DirectTransport
from meshkit.bus_wire import WireMessage

_END: Final = b"\r\n"
# Else it has not heard of it.
_CANCELLED_WITHIN_SECONDS: Final = 0.1

Take = Callable[[WireMessage], None]


class Listening:
    """A subject that somebody listens to. It stands for nats-py's subscription."""

    # What nats-py looks at when it subscribes again, and when it closes.
    _queue = ""
    _max_msgs = 0
    _wait_for_msgs_task = None
    _message_iterator = None
    _pending_next_msgs_calls = None

    def __init__(self, client: "WireClient", number: int, subject: str) -> None:
        self._client: Final = client
        self._number: Final = number
        self._subject: Final = subject

    async def unsubscribe(self) -> None:
        """Nothing is heard any more."""
        self._client.refuse(self._number)
        self._client.forget(self._number)

    async def drain(self) -> None:
        """Returns when what is on its way has been heard, and nothing more comes."""
        self._client.refuse(self._number)
        try:
            await self._client.flush()
        finally:
            self._client.forget(self._number)


class WireClient(Client):
    """Use `listen` instead of `subscribe`, and `send` instead of `publish`."""

    def __init__(self) -> None:
        super().__init__()
        self._wire: Final = DirectTransport()
        self._transport = self._wire
        # What came and is no whole message yet.
        self._read: Final = bytearray()
        # By the number of the subscription, as the wire has it.
        self._takers: dict[str, Take] = {}
        self._will_write = False
        # What the server said beside messages, being dealt with.
        self._notes: Final[set[asyncio.Task[None]]] = set()

    async def listen(self, subject: str, take: Take) -> Listening:
        """Calls `take` for each message of a subject, in the order in which they come.

        Raises nats-py's errors as `subscribe` does.
        """
        if self.is_closed:
            raise ConnectionClosedError
        self._sid += 1
        listening = Listening(self, self._sid, subject)
        self._post(bus_wire.interest(subject, self._sid))
        self._subs[self._sid] = cast(Any, listening)
        self._takers[str(self._sid)] = take
        return listening

    def refuse(self, number: int) -> None:
        """Tells the server that this subscription wants nothing more."""
        self._post(bus_wire.no_interest(number))

    def forget(self, number: int) -> None:
        """What still comes for this subscription is passed over."""
        self._subs.pop(number, None)
        self._takers.pop(str(number), None)

    def send(self, subject: str, payload: bytes, reply: str = "", head: bytes = b"") -> None:
        """Publishes with the next write: all that is sent in a turn of the loop leaves together.

        Raises nats-py's errors as `publish` does. Who sends much makes room now and then.
        """
        if self.is_closed:
            raise ConnectionClosedError
        size = len(payload) + self._pending_data_size
        if not self.is_connected and size > self._max_pending_size:
            raise OutboundBufferLimitError
        self._post(bus_wire.command(subject, payload, reply, head))

    def _post(self, command: bytes) -> None:
        self._pending.append(command)
        self._pending_data_size += len(command)
        if not self._will_write and self.is_connected:
            self._will_write = True
            asyncio.get_running_loop().call_soon(self._write_soon)

    async def make_room(self) -> None:
        """Returns when there is not too much that still has to be written."""
        if self._pending_data_size > self._max_pending_size:
            self._write()
        if self.is_connected and not self._wire.has_room:
            # At its end it connects again, and what is pending then has a bound of its own.
            with suppress(OSError):
                await self._wire.drain()

    def _write_soon(self) -> None:
        self._will_write = False
        self._write()

    def _write(self) -> None:
        # Otherwise it leaves when there is a connection again.
        if self.is_connected and self._pending:
            self._wire.writelines(self._pending)
            self._pending = []
            self._pending_data_size = 0

    async def _read_loop(self) -> None:
        """Stands for nats-py's: what comes is handed on; here only its end is waited for."""
        self._read.clear()
        client: Any = self
        try:
            await self._wire.hand_on(self._take)
        except OSError as error:
            # nats-py tells this one, and that alone, when a server goes away.
            end = error if error.errno is not None else UnexpectedEOF()
            if isinstance(end, UnexpectedEOF):
                await client._error_cb(end)
            await self._process_op_err(end)

    def _take(self, data: bytes) -> None:
        self._read.extend(data)
        try:
            while self._read:
                bus_wire.take_messages(self._read, self._hand_out)
                end = self._read.find(_END)
                if end < 0 or self._read.startswith((b"MSG ", b"HMSG ")):
                    return  # the rest is still to come
                line = bytes(self._read[:end])
                del self._read[: end + len(_END)]
                self._note(line)
        except (ValueError, IndexError, ProtocolError):
            self._read.clear()
            self._deal(self._process_op_err(ProtocolError("nats: malformed message")))

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        """Stands for nats-py's, after which the client may yet connect again, and stay.

        Python's wait_for takes no cancel that comes together with what it waits for, until 3.12.
        """
        # Which may be who closes.
        current = asyncio.current_task()
        while (again := self._reconnection_task) and again is not current and not again.done():
            again.cancel()
            await asyncio.wait([again], timeout=_CANCELLED_WITHIN_SECONDS)
        await super()._close(status, do_cbs)

    async def flush(self, timeout: int = 10) -> None:
        """Returns when the server has all that was sent; `timeout` in seconds.

        Stands for nats-py's for the same reason as `_close`: who was cancelled while the answer
        came would go on for ever.
        """
        if self.is_closed:
            raise ConnectionClosedError
        answer = asyncio.get_running_loop().create_future()
        await self._send_ping(answer)
        if not (await asyncio.wait([answer], timeout=timeout))[0]:
            raise FlushTimeoutError

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        """What was sent before it goes before it: its answer says that all that has arrived."""
        self._write()
        untyped: Any = super()
        await untyped._send_ping(future)

    def _hand_out(self, subscription: str, message: WireMessage) -> None:
        """Gives a message to who listens, if somebody still does."""
        take = self._takers.get(subscription)
        if take is None:
            return
        try:
            take(message)
        except Exception as error:  # one listener's fault must not keep others waiting
            client: Any = self
            self._deal(client._error_cb(error))

    def _note(self, line: bytes) -> None:
        client: Any = self
        word, _, rest = line.partition(b" ")
        match word.strip():
            case b"PING":
                self._deal(client._process_ping())
            case b"PONG":
                self._deal(client._process_pong())
            case b"+OK":
                pass
            case b"INFO":
                self._deal(client._process_info(json.loads(rest)))
            case b"-ERR":
                self._deal(client._process_err(rest.decode().strip().lower()))
            case _:
                raise ProtocolError("nats: unknown protocol")

    def _deal(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)
