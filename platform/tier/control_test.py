"""Tests of the socket by which a running mesh is told what to do."""

import asyncio
import json
import stat
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tier import control
from tier.control import SOCKET, ControlSocket, Scale, Scaled
from tier.failures import BadOptions, StartFailed


async def _scale(wanted: Mapping[str, int]) -> Scaled:
    return {part: (1, count) for part, count in wanted.items()}


@asynccontextmanager
async def _serving(folder: Path, scale: Scale = _scale) -> AsyncGenerator[None]:
    listening = ControlSocket(folder, scale)
    await listening.open()
    try:
        yield
    finally:
        await listening.close()


async def test_a_mesh_answers_what_it_did(tmp_path: Path) -> None:
    """How many processes each part had, and has."""
    async with _serving(tmp_path):
        assert await control.ask_scale(tmp_path, {"tool": 3}) == {"tool": (1, 3)}


async def test_a_folder_may_lie_deep(tmp_path: Path) -> None:
    """Deeper than the path of a socket may be long."""
    deep = tmp_path / ("a" * 100) / ("b" * 100)
    deep.mkdir(parents=True)
    async with _serving(deep):
        assert await control.ask_scale(deep, {"tool": 2}) == {"tool": (1, 2)}


async def test_nobody_else_may_tell_a_mesh_what_to_do(tmp_path: Path) -> None:
    """The socket is its owner's alone, and gone with the mesh."""
    async with _serving(tmp_path):
        assert stat.S_IMODE((tmp_path / SOCKET).stat().st_mode) == 0o600
    assert not (tmp_path / SOCKET).exists()
    with pytest.raises(ConnectionError):
        await control.ask_scale(tmp_path, {"tool": 2})


@pytest.mark.parametrize(
    "error", [BadOptions("Not so many."), StartFailed("the tool service", "it ended", None)]
)
async def test_what_a_mesh_cannot_do_it_says(tmp_path: Path, error: Exception) -> None:
    """In the words, and by the kind, of what went wrong there."""

    async def refuse(wanted: Mapping[str, int]) -> Scaled:
        raise error

    async with _serving(tmp_path, refuse):
        with pytest.raises(type(error)) as caught:
            await control.ask_scale(tmp_path, {"tool": 2})
        assert str(caught.value) == str(error)


@pytest.mark.parametrize("line", [b"{}", b"[]", b'{"scale": 1}', b'{"scale": {"tool": {}}}'])
async def test_what_a_mesh_does_not_understand_it_refuses(
    tmp_path: Path, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And goes on listening."""
    # The whole path may be longer than that of a socket may be.
    monkeypatch.chdir(tmp_path)
    async with _serving(tmp_path):
        reader, writer = await asyncio.open_unix_connection(SOCKET)
        writer.write(line + b"\n")
        told = json.loads(await reader.readline())
        writer.close()
        assert told["failure"]["kind"] == "BadOptions"
        assert await control.ask_scale(tmp_path, {"tool": 2}) == {"tool": (1, 2)}


async def test_a_mesh_does_one_thing_at_a_time(tmp_path: Path) -> None:
    """Two who ask at once wait for each other."""
    running, most = 0, 0

    async def slowly(wanted: Mapping[str, int]) -> Scaled:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return await _scale(wanted)

    async with _serving(tmp_path, slowly):
        await asyncio.gather(*(control.ask_scale(tmp_path, {"tool": 2}) for _ in range(5)))
    assert most == 1
