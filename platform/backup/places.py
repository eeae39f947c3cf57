"""What lies where in a data directory, and how each of it is saved."""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from backup import sqlite_copy
from backup.failures import SaveFailed
from backup.manifest import stays_inside

NATS: Final = "nats"
REDIS: Final = "redis"
# In staging: counters of budgets, which are begun again with the ledger.
COUNTERS: Final = "redis-counters"
VECTORS: Final = "qdrant"
POSTGRES: Final = "postgres"
# Settlements of model calls that wait for the governor.
SETTLEMENTS: Final = "reasoning/settlements"
SETTLEMENT_SUFFIX: Final = ".jsonl"
# What only a running mesh needs, is written anew at each start, or is built again from the log;
# and what is saved by its server, not by its files.
_LEFT_OUT: Final = frozenset(
    (
        *("run", "logs", "gateway", "coordinator/read_model"),
        *(NATS, REDIS, COUNTERS, VECTORS, POSTGRES, SETTLEMENTS),
    )
)
# Who has a file open writes these, and nobody reads them.
_LOCKS: Final = (".lock", ".leader", ".making")
_LOOKS: Final = 10


def databases(data_dir: Path) -> Sequence[str]:
    """Files that are SQLite's, but for vectors and what is built again."""
    return [
        place
        for place in files(data_dir, with_databases=True)
        if sqlite_copy.is_database(data_dir / place)
    ]


def files(data_dir: Path, *, with_databases: bool = False) -> Sequence[str]:
    """Regular files of which a copy is all there is to save, by their place."""
    found: list[str] = []
    for path in _walk(data_dir, ""):
        place = str(path.relative_to(data_dir))
        if path.is_symlink() or not stat.S_ISREG(path.stat().st_mode):
            continue
        if path.name.endswith((*_LOCKS, *sqlite_copy.COMPANIONS)):
            continue
        if with_databases or not sqlite_copy.is_database(path):
            found.append(place)
    return found


def links(data_dir: Path) -> dict[str, str]:
    """Where symbolic links lead that go on from where they lie, by their place."""
    found: dict[str, str] = {}
    for path in _walk(data_dir, ""):
        if path.is_symlink():
            target = os.readlink(path)
            if stays_inside(target):
                found[str(path.relative_to(data_dir))] = target
    return found


def vectors(data_dir: Path) -> Sequence[str]:
    """The databases of the vectors, a tenant each."""
    return sorted(
        str(each.relative_to(data_dir))
        for each in (data_dir / VECTORS / "collection").glob("**/storage.sqlite")
    )


def settlements(data_dir: Path) -> dict[str, bytes]:
    """The content of the files that hold settlements, by their place.

    Raises:
        SaveFailed: They change all the time.
    """
    folder = data_dir / SETTLEMENTS
    for _ in range(_LOOKS):
        names = _names(folder)
        try:
            found = {f"{SETTLEMENTS}/{name}": (folder / name).read_bytes() for name in names}
        except FileNotFoundError:
            # Replaced by another one, which has what is left.
            continue
        if _names(folder) == names:
            return found
    raise SaveFailed("settlements that wait", "they change too quickly")


def _names(folder: Path) -> Sequence[str]:
    return sorted(each.name for each in folder.glob("*") if each.is_file())


def _walk(folder: Path, place: str) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            its = f"{place}{entry.name}"
            if its in _LEFT_OUT:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), f"{its}/")
            else:
                yield Path(entry.path)
