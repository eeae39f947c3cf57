"""Test-only: an HTTP server that answers each request as a header of it says."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeVar, cast

import h11
import httpx2

from services.reasoning.upstream import SCRIPT_HEADER, Script

_READ_BYTES: Final = 65536
_OK: Final = 200
# Scripts with a body of their own are long.
_MOST_HEAD_BYTES: Final = 1024 * 1024

ClientT = TypeVar("ClientT", bound=httpx2.AsyncClient)


@dataclass(slots=True)
class HttpRequest:
    """A request that came in."""

    method: str
    # Without the query.
    path: str
    # By their names in lower case.
    headers: dict[str, str]
    content: bytes
    # The content as a JSON object; empty where it is none.
    body: dict[str, Any]
    streamed: bool = False
    client_left: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it goes over the wire."""

    pieces: Sequence[bytes]
    media_type: str = "application/json"
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    # What follows without end, where the script wants it so.
    more: bytes = b" " * 65536


class WireFormat(Protocol):
    """A provider's published format."""

    def streams(self, request: HttpRequest) -> bool:
        """Whether it asks for an answer in pieces."""
        ...

    def answer(self, request: HttpRequest, script: Script) -> Answer:
        """What is answered: the script's reply or refusal; a refusal too where the request is
        not as the format wants it.
        """
        ...


class ScriptedUpstream:
    """The server. What a request without a script is answered can be set."""

    def __init__(self, wire: WireFormat) -> None:
        self._wire: Final = wire
        self.default: Script = Script()
        self.requests: Final[list[HttpRequest]] = []
        # Answers wait until this is set.
        self.go_on: Final = asyncio.Event()
        self.go_on.set()
        # Connections that were opened so far.
        self.connections = 0
        self.port = 0
        self._serving: Final[set[asyncio.Task[None]]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["ScriptedUpstream"]:
        """Serves on a free port of 127.0.0.1."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = int(server.sockets[0].getsockname()[1])
        try:
            yield self
        finally:
            server.close()
            for each in self._serving:
                each.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)
            await server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.ensure_future(self._serve(reader, writer))
        self.connections += 1
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)
        # A client that goes away is what tests are about.
        with suppress(asyncio.CancelledError, ConnectionError):
            await serving

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEAD_BYTES)
        try:
            while (request := await _receive(connection, reader)) is not None:
                self.requests.append(request)
                request.streamed = self._wire.streams(request)
                if not await self._answer_unless_left(connection, reader, writer, request):
                    return
                if connection.our_state is not h11.DONE:
                    return
                connection.start_next_cycle()
        finally:
            writer.close()

    async def _answer_unless_left(
        self,
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        request: HttpRequest,
    ) -> bool:
        """Whether the answer came to its end, and there may be another."""
        answering = asyncio.ensure_future(self._answer(connection, writer, request))
        listening = asyncio.ensure_future(reader.read(_READ_BYTES))
        try:
            await asyncio.wait({answering, listening}, return_when=asyncio.FIRST_COMPLETED)
            if listening.done() and not listening.result():
                raise ConnectionResetError
            complete = await answering
            if listening.done():
                # The next request, which came before the end of this answer was noticed.
                connection.receive_data(listening.result())
            return complete
        except ConnectionError:
            request.client_left.set()
            return False
        finally:
            for each in (answering, listening):
                each.cancel()
            await asyncio.gather(answering, listening, return_exceptions=True)

    async def _answer(
        self, connection: h11.Connection, writer: asyncio.StreamWriter, request: HttpRequest
    ) -> bool:
        header = request.headers.get(SCRIPT_HEADER)
        script = Script.from_header(header) if header else self.default
        await asyncio.sleep(script.delay_seconds)
        await self.go_on.wait()
        answer = self._wire.answer(request, script)
        if script.refusal is not None and answer.status != _OK:
            answer = replace(answer, pieces=[script.refusal.encode()])
        if script.body is not None and answer.status == _OK:
            answer = replace(answer, pieces=[script.body.encode()])
        if script.cut_after == 0:
            writer.transport.abort()
            return False
        head = h11.Response(
            status_code=answer.status,
            headers=[("content-type", answer.media_type), *answer.headers, *script.headers],
        )
        await _send(writer, connection.send(head))
        for number, piece in enumerate(answer.pieces):
            if number:
                await asyncio.sleep(script.pause_seconds)
            if number == script.hang_after:
                await asyncio.Event().wait()
            if number == script.cut_after:
                writer.transport.abort()
                return False
            if number == script.end_after:
                break
            await _send(writer, connection.send(h11.Data(data=piece)))
        while script.endless:
            await _send(writer, connection.send(h11.Data(data=answer.more)))
            await asyncio.sleep(script.pause_seconds)
        if script.hang_after is not None:
            await asyncio.Event().wait()
        await _send(writer, connection.send(h11.EndOfMessage()))
        return True


@asynccontextmanager
async def carrying(script: Script, client: ClientT) -> AsyncGenerator[ClientT]:
    """The client, whose requests all carry `script`; closed at the end."""

    async def add(request: httpx2.Request) -> None:
        request.headers[SCRIPT_HEADER] = script.to_header()

    async with client:
        client.event_hooks = {"request": [add]}
        yield client


async def _send(writer: asyncio.StreamWriter, data: bytes | None) -> None:
    writer.write(data or b"")
    await writer.drain()


async def _receive(connection: h11.Connection, reader: asyncio.StreamReader) -> HttpRequest | None:
    """The next request; None where the client has gone."""
    head: h11.Request | None = None
    content = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            content += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return _request(head, bytes(content))
        else:
            return None


def _request(head: h11.Request, content: bytes) -> HttpRequest:
    try:
        body: Any = json.loads(content)
    except ValueError:
        body = None
    return HttpRequest(
        method=head.method.decode(),
        path=head.target.decode().partition("?")[0],
        headers={name.decode().lower(): value.decode() for name, value in head.headers},
        content=content,
        body=cast("dict[str, Any]", body) if isinstance(body, dict) else {},
    )
