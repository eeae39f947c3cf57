"""The world outside: what tools change, and what remembers each change."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True)
class Effect:
    """A tool has changed something."""

    # The idempotency key of the call.
    key: str
    expression: str
    # The port from which the executor called the tool service.
    caller_port: int

    @property
    def task_id(self) -> str:
        """The task on whose behalf: keys are made of task, step and call."""
        return self.key.partition("/")[0]


class Outside:
    """Takes effects from the tool processes. An async context manager."""

    def __init__(self) -> None:
        # How often each key was asked for; a second time changes nothing more.
        self.asked: Counter[str] = Counter()
        # Called when an effect has happened and its tool still waits for the answer.
        self.on_effect: Callable[[Effect], Awaitable[None]] | None = None
        self._server: asyncio.Server | None = None
        self._answering: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """Where tools reach it: `host:port`."""
        assert self._server is not None, "it is not open"
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for each in self._answering:
            each.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    def of_task(self, task_id: str) -> list[str]:
        """The keys under which a task changed something."""
        return [key for key in self.asked if key.startswith(f"{task_id}/")]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._answer(reader, writer))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Who asked may be killed at any time.
        with suppress(OSError):
            effect = Effect(**json.loads(await reader.readline()))
            self.asked[effect.key] += 1
            if self.on_effect is not None:
                await self.on_effect(effect)
            writer.write(b"done\n")
            await writer.drain()
        writer.close()
