"""A restore that is broken off leaves the directory as it was."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backup.archive import ArchiveWriter
from backup.manifest import Manifest
from backup.progress import Step
from backup.restoring import restore
from meshtest.eventually import eventually
from tier.version import VERSION

_NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
_FILES = 5_000


def _many_files(path: Path) -> Path:
    writer = ArchiveWriter(path)
    for number in range(_FILES):
        with writer.member(f"files/folder{number % 100}/file{number}", compress=False) as member:
            member.write(b"content")
    writer.finish(Manifest(VERSION, {}, "", _NOW, _NOW, writer.members, [], [], {}, []))
    return path


def _ignore(_step: Step) -> None:
    pass


async def test_files_that_are_on_their_way_do_not_come_back(tmp_path: Path) -> None:
    """Whoever breaks it off, with Ctrl-C say, finds no directory, and none that appears later."""
    file, data_dir = _many_files(tmp_path / "a.backup"), tmp_path / "data"
    restoring = asyncio.create_task(restore(file, data_dir, progress=_ignore))
    await eventually((data_dir / "folder20").is_dir)
    restoring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await restoring
    await asyncio.get_running_loop().shutdown_default_executor()
    assert os.listdir(tmp_path) == ["a.backup"]
