"""A connection in the middle that misbehaves when it is told to."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self


class FaultProxy:
    """Passes bytes between its own port and a server's. An async context manager."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.swallow_answers = False
        # Bytes so far.
        self.swallowed = 0
        self.refuse = False
        self.port = 0
        self._whole = asyncio.Event()
        self._whole.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.refuse = True
        self.heal()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Breaks every connection that is open now."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def part(self) -> None:
        """Lets nothing through any more, and nobody know: as a network does that loses all."""
        self._whole.clear()

    def heal(self) -> None:
        """What was sent meanwhile arrives, as after a network's loss it is sent again."""
        self._whole.set()

    async def _accept(
        self, near_reader: asyncio.StreamReader, near_writer: asyncio.StreamWriter
    ) -> None:
        await self._whole.wait()
        if self.refuse:
            near_writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            near_writer.transport.abort()
            return
        self._writers |= {near_writer, far_writer}
        for reader, writer, answers in (
            (near_reader, far_writer, False),
            (far_reader, near_writer, True),
        ):
            task = asyncio.create_task(self._pass(reader, writer, answers=answers))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if answers and self.swallow_answers:
                    self.swallowed += len(data)
                    continue
                await self._whole.wait()
                writer.write(data)
                await writer.drain()
        with suppress(OSError, RuntimeError):
            writer.close()
