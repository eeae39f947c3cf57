"""The read model's database in SQLite: a file that can be built again while it is in use.

Each copy is a file of its own, and the file `current` says which one is in use:
replacing that is the switch. What a crash leaves of others is removed at the
next start.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Self, TypeVar

from meshkit.errors import Conflict, DependencyUnavailable
from meshkit.ids import Ids
from services.coordinator.read_model_database import PURPOSE
from services.coordinator.read_model_schema import SCHEMA
from sqlstore.database import Work
from sqlstore.sqlite_file import SqliteFile, files_of, is_damage

T = TypeVar("T")

_CURRENT: Final = "current"
# The one file of earlier versions, beside the folder.
_FORMER: Final = "tasks.sqlite"


def remove_former(folder: Path) -> None:
    """Removes the file of earlier versions beside the folder: what is in it is in the log."""
    for path in files_of(folder.with_name(_FORMER)):
        path.unlink(missing_ok=True)


class SqliteCopy(SqliteFile):
    """A copy that is not in use yet."""

    def __init__(self, path: Path, files: "SqliteFiles") -> None:
        super().__init__(path, PURPOSE)
        self._files: Final = files

    @asynccontextmanager
    async def switching(self) -> AsyncGenerator[None]:
        """While it lasts, nothing is carried into the copy in use; at its end this one is."""
        async with self._files.carrying:
            yield
            await self._files.put_in_use(self)


class SqliteFiles:
    """The copies in a folder: one in use, and one that is being built."""

    def __init__(self, folder: Path, ids: Ids) -> None:
        """Use `open`."""
        self._folder: Final = folder
        self._ids: Final = ids
        self._file: SqliteFile
        self._is_rebuilding = False
        # Held by who carries events into the copy in use.
        self.carrying: Final = asyncio.Lock()

    @classmethod
    async def open(cls, folder: Path, ids: Ids) -> Self:
        """Opens the copy in use, or begins one. Close it at the end.

        One that is damaged or of another version is replaced by an empty one.
        """
        files = cls(folder, ids)
        files._file = await files._reopened(files._tidied()) or await files._begun()
        return files

    @property
    def kind(self) -> str:
        """What it is."""
        return "sqlite"

    async def read(self, work: Work[T]) -> T:
        """What `work` finds in the copy in use."""
        return await self._file.read(work)

    async def write(self, work: Work[T]) -> T:
        """Does all of `work` or nothing, in the copy in use."""
        return await self._file.write(work)

    async def lead(self) -> None:
        """Returns at once: nobody else has the folder."""

    async def resign(self) -> None:
        """Does nothing: there is nobody else."""

    async def carry(self, work: Work[T]) -> T:
        """As `write`, but not while another copy takes its place."""
        async with self.carrying:
            return await self._file.write(work)

    @asynccontextmanager
    async def rebuilding(self) -> AsyncGenerator[SqliteCopy]:
        """An empty copy, removed at the end unless it was put in use."""
        if self._is_rebuilding:
            raise Conflict("The read model is being built again already.")
        self._is_rebuilding = True
        copy = SqliteCopy(self._new_path(), self)
        try:
            await copy.write(SCHEMA.upgrade)
            yield copy
        finally:
            self._is_rebuilding = False
            if self._file is not copy:
                await _remove(copy)

    async def put_in_use(self, copy: SqliteFile) -> None:
        """Has `copy` take the place of the one in use, which is removed."""
        former, self._file = self._file, copy
        self._point_to(copy.path)
        await _remove(former)

    async def size_bytes(self) -> int:
        """What the copy in use takes on disk."""
        return await self._file.size_bytes()

    async def close(self) -> None:
        """Ends what is under way, and closes the file."""
        await self._file.close()

    async def _reopened(self, path: Path | None) -> SqliteFile | None:
        if path is None:
            return None
        file = SqliteFile(path, PURPOSE)
        try:
            if await file.write(SCHEMA.is_current):
                return file
        except DependencyUnavailable as error:
            if not is_damage(error):
                raise
        await _remove(file)
        return None

    async def _begun(self) -> SqliteFile:
        file = SqliteFile(self._new_path(), PURPOSE)
        await file.write(SCHEMA.upgrade)
        self._point_to(file.path)
        return file

    def _tidied(self) -> Path | None:
        """The file in use, None without one; there is no other any more."""
        self._folder.mkdir(parents=True, exist_ok=True)
        current = self._path_in_use()
        for path in self._folder.iterdir():
            is_needed = path.name == _CURRENT or (current and path.name.startswith(current.name))
            if not is_needed:
                path.unlink()
        return current

    def _new_path(self) -> Path:
        return self._folder / f"{self._ids.new()}.sqlite"

    def _path_in_use(self) -> Path | None:
        try:
            path = self._folder / (self._folder / _CURRENT).read_text("utf-8").strip()
        except (OSError, UnicodeError):
            return None
        return path if path.parent == self._folder and path.is_file() else None

    def _point_to(self, path: Path) -> None:
        next_one = self._folder / f"{_CURRENT}.next"
        next_one.write_text(path.name, "utf-8")
        os.replace(next_one, self._folder / _CURRENT)


async def _remove(file: SqliteFile) -> None:
    await file.close()
    for path in files_of(file.path):
        path.unlink(missing_ok=True)
