"""What a gateway is asked that ends in order."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tier.gateway_drain import drain
from tier.unix_socket import reached


@asynccontextmanager
async def _gateway(admin: Path, counts: Sequence[int | None]) -> AsyncGenerator[list[str]]:
    """Has so many calls in flight, at last none; what it is asked. None is never said."""
    asked: list[str] = []
    left = iter(counts)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        verb, path, *_ = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")
        asked.append(f"{verb} {path}")
        count = next(left, 0) if verb == "GET" else 0
        if count is not None:
            body = f"http.gateway.downstream_rq_active: {count}\n".encode()
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + body)
            writer.close()

    with reached(admin) as short:
        server = await asyncio.start_unix_server(answer, short)
    async with server:
        yield asked


async def test_it_returns_when_calls_in_flight_have_finished(tmp_path: Path) -> None:
    """Its door is closed first, and then it is asked until none is left."""
    async with _gateway(tmp_path / "admin", [2, 1, 0]) as asked:
        assert await drain(tmp_path / "admin", 60) == 0
    stats = "GET /stats?filter=^http.gateway.downstream_rq_active$"
    assert asked == ["POST /drain_listeners", "POST /healthcheck/fail", stats, stats, stats]


async def test_it_says_how_many_have_not(tmp_path: Path) -> None:
    """When the time is over."""
    async with _gateway(tmp_path / "admin", [2]):
        assert await drain(tmp_path / "admin", 0) == 2


async def test_who_has_too_much_to_do_to_say_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that does not answer in time may well have calls in flight."""
    monkeypatch.setattr("tier.http_get._TIMEOUT_SECONDS", 0.5)
    async with _gateway(tmp_path / "admin", [None, 1, 0]) as asked:
        assert await drain(tmp_path / "admin", 60) == 0
    assert len(asked) >= 5


async def test_who_never_says_is_not_taken_for_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls may well be cut off, and somebody is to know."""
    monkeypatch.setattr("tier.http_get._TIMEOUT_SECONDS", 0.1)
    async with _gateway(tmp_path / "admin", [None] * 10):
        assert await drain(tmp_path / "admin", 0) is None


async def test_who_is_gone_has_none(tmp_path: Path) -> None:
    """Nobody listens there."""
    assert await drain(tmp_path / "admin", 60) == 0
