"""A receiver of webhooks for tests: a real HTTP server that does what it is told."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self


@dataclass(frozen=True, slots=True)
class Received:
    """One call, in the words of HTTP; names of headers in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Receiver:
    """Answers each call with the next status of `script`, and with 204 when that is empty.

    A status may have headers after it, as in `302 location: /elsewhere`. `hang` never
    answers, `close` ends the connection instead, `garbage` answers no HTTP, and `drip`
    answers without an end.
    """

    def __init__(self, *script: str) -> None:
        self.script: Final = list(script)
        self.received: Final[list[Received]] = []
        self._server: asyncio.Server
        self._tasks: Final[set[asyncio.Task[None]]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """Where it is called."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/hook"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in head[1:] if line)
        headers = {name.lower(): value for name, value in pairs}
        body = await reader.readexactly(int(headers["content-length"]))
        self.received.append(Received(head[0].split(" ")[1], headers, body))
        match self.script.pop(0) if self.script else "204":
            case "hang":
                await asyncio.Event().wait()
            case "close":
                return False
            case "garbage":
                writer.write(b"what?\r\n\r\n")
                return False
            case "drip":
                writer.write(b"HTTP/1.1 200 OK\r\nx-drip: ")
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.05)
            case answer:
                status, _, more = answer.partition(" ")
                lines = [f"HTTP/1.1 {status} Said", "content-length: 0"] + ([more] if more else [])
                writer.write("\r\n".join([*lines, "", ""]).encode())
                await writer.drain()
        return True
