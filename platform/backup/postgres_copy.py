"""The mesh's own PostgreSQL, saved by its files while it runs, and brought up by its own log.

This is PostgreSQL's way for file copies (`pg_backup_start`, `pg_backup_stop`): nothing but the
server is needed, and all its databases are of one moment, which is before that of the streams.
A server that is somebody else's is not touched.
"""

import asyncio
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psycopg

from backup import places
from backup.archive import Archive, ArchiveWriter
from backup.failures import Damaged, SaveFailed
from backup.manifest import stays_inside
from tier.ports import HOST
from tier.state import MeshState

PREFIX: Final = "postgres"
_DATA: Final = f"{places.POSTGRES}/data"
_PASSWORD: Final = f"{places.POSTGRES}/password"
_FOLDERS: Final = f"{PREFIX}/folders.json"
_WAL: Final = "pg_wal"
_SEGMENT: Final = re.compile(r"[0-9A-F]{24}|[0-9A-F]{8}\.history")
# What a server writes anew when it starts: see the manual of pg_basebackup.
_EMPTY: Final = frozenset(
    (
        *("pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp"),
        *("pg_subtrans",),
    )
)
_LEFT_OUT: Final = frozenset(("postmaster.pid", "postmaster.opts", "pg_internal.init"))
_TEMPORARY: Final = "pgsql_tmp"
# From this version on the functions have their present names.
_RENAMED: Final = 150_000
_CONNECT_SECONDS: Final = 10


async def save_postgres(
    data_dir: Path, state: MeshState | None, writer: ArchiveWriter, note: Callable[[str], None]
) -> str:
    """Saves the server in the data directory; its version, empty where there is none.

    Raises SaveFailed.
    """
    data = data_dir / _DATA
    if not (data / "PG_VERSION").exists():
        return ""
    running = [each for each in state.processes if each.name == places.POSTGRES] if state else []
    try:
        if running:
            await asyncio.to_thread(_save_running, data_dir, running[0].ports[0], writer)
        else:
            await asyncio.to_thread(_save_at_rest, data, writer)
    except (OSError, psycopg.Error) as error:
        raise SaveFailed("PostgreSQL", str(error).strip().partition("\n")[0]) from error
    writer.add(f"{PREFIX}/password", data_dir / _PASSWORD)
    version = (data / "PG_VERSION").read_text("ascii").strip()
    note(f"The databases are PostgreSQL's, version {version}: the same is needed to use them.")
    return version


def restore_postgres(archive: Archive, data_dir: Path) -> None:
    """Puts the files back; the server brings them up when it starts. Raises Damaged, OSError."""
    if _FOLDERS not in archive.names:
        return
    data = data_dir / _DATA
    data.mkdir(parents=True, mode=0o700)
    data.parent.chmod(0o700)
    for place in json.loads(b"".join(archive.read(_FOLDERS))):
        if not stays_inside(place):
            raise Damaged(archive.path, "it names places outside of a data directory")
        (data / place).mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in archive.names:
        if name.startswith(f"{PREFIX}/data/"):
            archive.extract(name, data / name.removeprefix(f"{PREFIX}/data/"))
    archive.extract(f"{PREFIX}/password", data_dir / _PASSWORD)


def _save_running(data_dir: Path, port: int, writer: ArchiveWriter) -> None:
    data = data_dir / _DATA
    connection: psycopg.Connection[Any] = psycopg.connect(
        host=HOST,
        port=port,
        user="agentmesh",
        dbname="postgres",
        password=(data_dir / _PASSWORD).read_text("utf-8"),
        autocommit=True,
        connect_timeout=_CONNECT_SECONDS,
    )
    with connection:
        is_new = connection.info.server_version >= _RENAMED
        start = (
            "pg_backup_start('agentmesh', true)"
            if is_new
            else ("pg_start_backup('agentmesh', true, false)")
        )
        stop = "pg_backup_stop(false)" if is_new else "pg_stop_backup(false, false)"
        (first,) = _row(connection, f"SELECT pg_walfile_name({start})")
        _save_files(data, writer, with_log=False)
        (label,) = _row(connection, f"SELECT labelfile FROM {stop}")
    with writer.member(f"{PREFIX}/data/backup_label") as into:
        into.write(str(label).encode())
    segments = _segments(data)
    for place in segments:
        writer.add(f"{PREFIX}/data/{place}", data / place)
    # The server may use old files of its log again.
    if f"{_WAL}/{first}" not in _segments(data) or f"{_WAL}/{first}" not in segments:
        raise SaveFailed("PostgreSQL", "its log went on too quickly")


def _save_at_rest(data: Path, writer: ArchiveWriter) -> None:
    _save_files(data, writer, with_log=True)


def _save_files(data: Path, writer: ArchiveWriter, *, with_log: bool) -> None:
    folders: list[str] = []
    for path in _walk(data):
        place = str(path.relative_to(data))
        if path.is_dir():
            folders.append(place)
        elif with_log or not place.startswith(f"{_WAL}/"):
            try:
                writer.add(f"{PREFIX}/data/{place}", path)
            except FileNotFoundError:
                # Dropped meanwhile, which its log knows.
                continue
    with writer.member(_FOLDERS) as into:
        into.write(json.dumps(folders).encode())


def _walk(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda each: each.name)
    for entry in found:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield path
            if entry.name not in _EMPTY and not entry.name.startswith(_TEMPORARY):
                yield from _walk(path)
        elif entry.is_file(follow_symlinks=False) and entry.name not in _LEFT_OUT:
            yield path


def _segments(data: Path) -> Sequence[str]:
    return sorted(
        f"{_WAL}/{each.name}" for each in (data / _WAL).iterdir() if _SEGMENT.fullmatch(each.name)
    )


def _row(connection: psycopg.Connection[Any], statement: str) -> tuple[Any, ...]:
    row = connection.execute(statement.encode()).fetchone()
    if row is None:
        raise SaveFailed("PostgreSQL", "it does not answer")
    return tuple(row)
