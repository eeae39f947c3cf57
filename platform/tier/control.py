"""What a running mesh is told to do by other processes of its owner: to have more of a part.

By a socket in its data directory that nobody else may open: a line of JSON there, and one back.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from meshkit.time_limit import within
from tier.failures import BadOptions, MeshStartError, from_kind
from tier.unix_socket import connected, reached

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
        self._socket: Final = folder / SOCKET
        self._scale: Final = scale
        self._turn: Final = asyncio.Lock()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Returns when it can be told."""
        self._socket.unlink(missing_ok=True)
        with reached(self._socket) as path:
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
            self._socket.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with within(_ASK_SECONDS):
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
    reader, writer = await connected(folder / SOCKET)
    try:
        writer.write(json.dumps({"scale": dict(wanted)}).encode() + b"\n")
        with within(_ANSWER_SECONDS):
            line = await reader.readline()
    finally:
        writer.close()
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
