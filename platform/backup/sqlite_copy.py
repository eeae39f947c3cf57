"""Databases of SQLite, copied while others use them."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

_HEADER: Final = b"SQLite format 3\0"
# How long somebody who writes is waited for.
_LOCKED_SECONDS: Final = 30.0
# Beside a database, and part of it.
COMPANIONS: Final = ("-wal", "-shm", "-journal")


def is_database(path: Path) -> bool:
    """Whether the file is one."""
    with path.open("rb") as file:
        return file.read(len(_HEADER)) == _HEADER


def copy(source: Path, to: Path) -> None:
    """Copies the database as it stands at one moment, and looks whether the copy is sound.

    Raises:
        sqlite3.Error: It is damaged, or somebody has it locked all the time.
    """
    # Made here, so that it is its owner's alone from the beginning.
    to.touch(mode=0o600)
    with (
        closing(sqlite3.connect(source, timeout=_LOCKED_SECONDS)) as live,
        closing(sqlite3.connect(to)) as saved,
    ):
        live.backup(saved)
        # One file, whatever the database was.
        saved.execute("PRAGMA journal_mode = DELETE")
        (said,) = saved.execute("PRAGMA quick_check").fetchone()
        if said != "ok":
            raise sqlite3.DatabaseError(str(said))
