"""What a running mesh is told to do by other processes of its owner: to have more of a part.

By a socket in its data directory that nobody else may open: a line of JSON there, and one back.
"""

import asyncio
import json
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from tier.failures import BadOptions, MeshStartError, from_kind

SOCKET: Final = "control.sock"
_MOST_BYTES: Final = 65536
# To say what is wanted takes no time; to do it may take as long as a service takes to start.
_ASK_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 180.0

# How many processes each part has had and has, by its name.
Scaled = Mapping[str, tuple[int, int]]
Scale = Callable[[Mapping[str, int]], Awaitable[Scaled]]


class ControlSocket:
    """Does what it is told, one thing at a time, while it is open."""

    def __init__(self, folder: Path, scale: Scale) -> None:
        """`folder`: in which the socket lies, that of what only a running mesh needs."""
        self._folder: Final = folder
        self._scale: Final = scale
        self._turn: Final = asyncio.Lock()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Returns when it can be told."""
        (self._folder / SOCKET).unlink(missing_ok=True)
        with _reached(self._folder) as path:
            # Made for its owner alone, not closed to others afterwards.
            before = os.umask(0o177)
            try:
                server = asyncio.start_unix_server(self._answer, path, limit=_MOST_BYTES)
                self._server = await server
            finally:
                os.umask(before)

    async def close(self) -> None:
        """Listens no more; who waits for an answer is left to itself."""
        if self._server is not None:
            self._server.close()
            (self._folder / SOCKET).unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                line = await reader.readline()
            async with self._turn:
                told = await _told(line, self._scale)
            writer.write(json.dumps(told).encode() + b"\n")
            await writer.drain()
        except (OSError, TimeoutError, ValueError):
            pass  # who asked is gone, or speaks another language
        finally:
            writer.close()


async def ask_scale(folder: Path, wanted: Mapping[str, int]) -> Scaled:
    """Has the mesh have so many processes of each part; returns when they serve.

    Raises what a mesh raises that cannot: BadOptions, StartFailed; ConnectionError where
    none listens.
    """
    async with _connected(folder) as (reader, writer):
        writer.write(json.dumps({"scale": dict(wanted)}).encode() + b"\n")
        async with asyncio.timeout(_ANSWER_SECONDS):
            line = await reader.readline()
    if not line:
        raise ConnectionError("the mesh hung up")
    told: dict[str, Any] = json.loads(line)
    if "failure" in told:
        raise from_kind(told["failure"]["kind"], told["failure"]["text"])
    return {part: (before, now) for part, (before, now) in told["scaled"].items()}


async def _told(line: bytes, scale: Scale) -> dict[str, Any]:
    try:
        wanted = json.loads(line)["scale"]
        scaled = await scale({str(part): int(count) for part, count in wanted.items()})
    except MeshStartError as error:
        return {"failure": {"kind": type(error).__name__, "text": str(error)}}
    except (KeyError, TypeError, ValueError, AttributeError):
        text = 'A mesh is told {"scale": {PART: COUNT}} and nothing else.'
        return {"failure": {"kind": BadOptions.__name__, "text": text}}
    return {"scaled": scaled}


@asynccontextmanager
async def _connected(
    folder: Path,
) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    with _reached(folder) as path:
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, path)
        except FileNotFoundError as error:
            connection.close()
            raise ConnectionError("no mesh listens") from error
    reader, writer = await asyncio.open_unix_connection(sock=connection, limit=_MOST_BYTES)
    try:
        yield reader, writer
    finally:
        writer.close()


@contextmanager
def _reached(folder: Path) -> Generator[str]:
    """A path of the socket that is short enough for one, however deep the folder lies."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)
