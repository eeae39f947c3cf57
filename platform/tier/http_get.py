"""The little HTTP that supervising takes."""

import asyncio
from pathlib import Path
from typing import Final

from meshkit.time_limit import within
from tier.ports import HOST
from tier.unix_socket import connected

# An Envoy on a busy machine may take a second.
_TIMEOUT_SECONDS: Final = 3.0

# Where a server of this machine listens: a port of the loopback interface, or its socket.
Place = int | Path


async def get(place: Place, path: str) -> tuple[int, bytes]:
    """Status and body of a GET on this machine; OSError (TimeoutError) where nobody answers."""
    return await _exchange("GET", place, path)


async def post(place: Place, path: str) -> tuple[int, bytes]:
    """Status and body of a POST of nothing, as `get`."""
    return await _exchange("POST", place, path)


async def _exchange(method: str, place: Place, path: str) -> tuple[int, bytes]:
    with within(_TIMEOUT_SECONDS):
        reader, writer = await _connected(place)
        try:
            writer.write(
                f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n"
                "Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
            )
            answer = await reader.read()
        finally:
            writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        where = place if isinstance(place, Path) else f"{HOST}:{place}"
        raise ConnectionError(f"{where} does not speak HTTP")
    chunked = b"transfer-encoding: chunked" in head.lower()
    return int(words[1]), _joined(body) if chunked else body


async def _connected(place: Place) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(place, Path):
        return await connected(place)
    return await asyncio.open_connection(HOST, place)


def _joined(body: bytes) -> bytes:
    """The body that was sent in chunks."""
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        whole, body = whole + rest[:length], rest[length + 2 :]
    return whole
