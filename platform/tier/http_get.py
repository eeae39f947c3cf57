"""The little HTTP that supervising takes."""

import asyncio
from typing import Final

from tier.ports import HOST

_TIMEOUT_SECONDS: Final = 1.0


async def get(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of a GET on this machine; OSError (TimeoutError) where nobody answers."""
    return await _exchange("GET", port, path)


async def post(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of a POST of nothing, as `get`."""
    return await _exchange("POST", port, path)


async def _exchange(method: str, port: int, path: str) -> tuple[int, bytes]:
    async with asyncio.timeout(_TIMEOUT_SECONDS):
        reader, writer = await asyncio.open_connection(HOST, port)
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
        raise ConnectionError(f"{HOST}:{port} does not speak HTTP")
    chunked = b"transfer-encoding: chunked" in head.lower()
    return int(words[1]), _joined(body) if chunked else body


def _joined(body: bytes) -> bytes:
    """The body that was sent in chunks."""
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        whole, body = whole + rest[:length], rest[length + 2 :]
    return whole
