"""Tests of the HTTP that supervising takes."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tier.http_get import get, post
from tier.unix_socket import reached


@asynccontextmanager
async def _answering(path: Path, answer: bytes) -> AsyncGenerator[list[bytes]]:
    """A server at a socket that says the same to everybody; what it was asked."""
    asked: list[bytes] = []

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(answer)
        writer.close()

    with reached(path) as short:
        server = await asyncio.start_unix_server(tell, short)
    async with server:
        yield asked


async def test_a_socket_is_asked_like_a_port(tmp_path: Path) -> None:
    """Also one in a folder that lies deeper than the address of a socket is long."""
    folder = tmp_path / ("a" * 100) / ("b" * 100)
    folder.mkdir(parents=True)
    answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 8\r\n\r\nDRAINING"
    async with _answering(folder / "admin.sock", answer) as asked:
        assert await get(folder / "admin.sock", "/ready") == (503, b"DRAINING")
        assert await post(folder / "admin.sock", "/drain") == (503, b"DRAINING")
    assert asked == [b"GET /ready HTTP/1.1\r\n", b"POST /drain HTTP/1.1\r\n"]


async def test_an_answer_in_chunks_is_joined(tmp_path: Path) -> None:
    """As Envoy sends what it cannot measure beforehand."""
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"
    async with _answering(tmp_path / "admin.sock", answer):
        assert await get(tmp_path / "admin.sock", "/stats") == (200, b"abcd")


@pytest.mark.parametrize("there", ["folder", "nothing"])
async def test_where_nobody_listens_the_socket_is_named(tmp_path: Path, there: str) -> None:
    """Whether or not there is a folder for it."""
    path = (tmp_path if there == "folder" else tmp_path / "none") / "admin.sock"
    with pytest.raises(ConnectionError) as caught:
        await get(path, "/ready")
    assert str(caught.value) == f"nobody listens at {path}"


async def test_what_a_killed_server_left_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket is there, and nobody behind it."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind("admin.sock")
    with pytest.raises(ConnectionRefusedError):
        await get(tmp_path / "admin.sock", "/ready")


async def test_who_speaks_another_language_is_named(tmp_path: Path) -> None:
    """It is not HTTP that answers."""
    path = tmp_path / "admin.sock"
    async with _answering(path, b"+PONG\r\n"):
        with pytest.raises(ConnectionError) as caught:
            await get(path, "/ready")
    assert str(caught.value) == f"{path} does not speak HTTP"
