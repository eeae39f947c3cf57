"""The folder in which a mesh keeps everything."""

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from tier.failures import AlreadyRunning, DataDirFull, DataDirNotWritable, RestoreUnfinished

# Logs are begun anew, and the old ones kept once, when they are larger than this at a start.
_ROTATE_BYTES: Final = 16 * 1024 * 1024
# A start writes a part of that; on less nothing goes on for long.
_ROOM_BYTES: Final = 4 * 1024 * 1024
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
# A file that is there for as long as what is restored from a backup is not whole.
RESTORING: Final = "restoring"


class DataDir:
    """Where things lie; belongs to one mesh at a time."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path.expanduser().absolute()
        # What only the running mesh needs: its state, lock and generated configuration.
        self.run: Final = self.path / "run"
        self.logs: Final = self.path / "logs"
        self.state_file: Final = self.run / "state.json"
        self._lock: int | None = None

    def prepare(self) -> None:
        """Makes the folders; DataDirNotWritable where that cannot be, DataDirFull without room."""
        try:
            for folder in (self.path, self.run, self.logs):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            probe = self.run / f"probe.{os.getpid()}"
            try:
                with probe.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, _ROOM_BYTES)
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            if error.errno in _FULL:
                raise DataDirFull(self.path, _ROOM_BYTES) from None
            raise DataDirNotWritable(self.path, error.strerror or str(error)) from None

    def lock(self, *, restoring: bool = False) -> None:
        """Takes the folder for this process until `unlock`, or until it ends however it ends.

        AlreadyRunning where another process has it; RestoreUnfinished where half of a backup
        lies in it, unless this is for `restoring`.
        """
        descriptor = os.open(self.run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise AlreadyRunning(self.path, int(holder) if holder.isdigit() else None) from None
        if not restoring and (self.path / RESTORING).exists():
            os.close(descriptor)
            raise RestoreUnfinished(self.path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._lock = descriptor

    def unlock(self) -> None:
        """Gives the folder back."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def folder(self, name: str) -> Path:
        """A folder of that name inside, made if need be; DataDirNotWritable where it cannot be."""
        path = self.path / name
        try:
            path.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise DataDirNotWritable(self.path, f"{name}: {error.strerror or error}") from None
        return path

    def log_file(self, part: str) -> Path:
        """Where a part writes its log."""
        return self.logs / f"{part}.log"

    def rotate(self, part: str) -> Path:
        """Where a part writes its log; what is there is moved aside where it has grown large."""
        path = self.log_file(part)
        try:
            if path.stat().st_size > _ROTATE_BYTES:
                path.replace(path.with_suffix(".log.1"))
        except FileNotFoundError:
            pass
        return path

    def log_files(self) -> dict[str, Path]:
        """The logs that exist, by part."""
        return {path.stem: path for path in sorted(self.logs.glob("*.log"))}
