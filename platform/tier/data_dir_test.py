"""The folder of a mesh, and who has it."""

import errno
import os
from pathlib import Path

import pytest

from tier.data_dir import DataDir
from tier.failures import AlreadyRunning, DataDirFull, DataDirNotWritable


def test_it_is_locked_by_one_at_a_time(tmp_path: Path) -> None:
    """A second owner is told who has the folder, and gets it when the first is done."""
    first, second = DataDir(tmp_path), DataDir(tmp_path)
    first.prepare()
    first.lock()
    with pytest.raises(AlreadyRunning) as caught:
        second.lock()
    assert str(caught.value) == (
        f"A mesh already runs on {tmp_path} (pid {os.getpid()}): "
        "use it, end it with `agentmesh down`, or choose another with --data-dir."
    )
    first.unlock()
    second.lock()
    second.unlock()


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    """A path below a file cannot be made: one line says so and what to do."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "data"
    with pytest.raises(DataDirNotWritable) as caught:
        DataDir(path).prepare()
    assert str(caught.value) == (
        f"The data directory {path} is not writable (Not a directory): "
        "make it writable, or choose another with --data-dir."
    )


def test_a_folder_without_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is started that would fail for it in words of its own."""

    def full(_descriptor: int, _offset: int, _length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataDirFull) as caught:
        DataDir(tmp_path).prepare()
    assert str(caught.value) == (
        f"The data directory {tmp_path} is on a full disk (less than 4 MiB left): "
        "make room there, or choose another with --data-dir."
    )
    assert list((tmp_path / "run").iterdir()) == []


def test_a_part_whose_folder_cannot_be_is_named(tmp_path: Path) -> None:
    """A file in the place of a part's folder is named, with what to do."""
    (tmp_path / "nats").touch()
    with pytest.raises(DataDirNotWritable) as caught:
        DataDir(tmp_path).folder("nats")
    assert str(caught.value) == (
        f"The data directory {tmp_path} is not writable (nats: File exists): "
        "make it writable, or choose another with --data-dir."
    )


def test_large_logs_are_begun_anew(tmp_path: Path) -> None:
    """A log that has grown large is kept once and not appended to."""
    folder = DataDir(tmp_path)
    folder.prepare()
    log = folder.log_file("nats")
    log.write_bytes(b"")
    os.truncate(log, 16 * 1024 * 1024)
    assert folder.rotate("nats") == log
    assert log.exists()
    os.truncate(log, 16 * 1024 * 1024 + 1)
    folder.rotate("nats")
    assert not log.exists()
    assert (tmp_path / "logs/nats.log.1").exists()
