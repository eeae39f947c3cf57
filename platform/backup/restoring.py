"""Restores a mesh's state into an empty data directory.

Nobody can start a mesh there before all is done: the directory is locked meanwhile, and a file in
it says that a restore is under way. It goes last; a restore that broke off is begun anew.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from audit.log_jetstream import JetStreamLog
from backup import documents, expired_tasks, late_charges, places, redis_copy
from backup.archive import Archive
from backup.failures import NewerBackup, NotEmpty, RestoreFailed
from backup.late_charges import LogReferee
from backup.manifest import Manifest
from backup.postgres_copy import restore_postgres
from backup.progress import Counter, Progress
from backup.saving import DATABASES, EXPIRED, FILES, LATE_CHARGES, REDIS_MEMBER
from backup.servers import Stores, own_servers
from backup.streams import BrokerRefused, connected
from meshkit import redis_store
from meshkit.bus import Bus
from meshkit.mesh_error import MeshError
from tasklog import partition_store
from tier.data_dir import RESTORING, DataDir
from tier.failures import MeshStartError
from tier.version import VERSION

# Counters of budgets are begun again with what the ledger has, as after a loss of Redis: what is
# saved is of another moment than the journal, and what was reserved is nobody's any more.
_COUNTERS: Final = "governor:{spend}:*"
_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Restored:
    """A restore that is done."""

    data_dir: Path
    manifest: Manifest
    # Of charges that were settled while the log was saved.
    charges: int
    # URIs of documents that were replaced while they were saved, and are not there.
    lost_documents: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "data_dir": str(self.data_dir),
            "made_by": self.manifest.made_by,
            "saved_at": self.manifest.began.isoformat(),
            "streams": {each.name: each.messages for each in self.manifest.streams},
            "late_charges": self.charges,
            "lost_documents": list(self.lost_documents),
            "notes": list(self.manifest.notes),
        }


async def restore(file: Path, data_dir: Path, *, progress: Progress) -> Restored:
    """Checks the file, and restores it.

    Raises:
        BackupError: The file cannot be restored, or not there; the directory is as it was.
        MeshStartError: A mesh runs there, or a server cannot be run.
        OSError: The file cannot be read, or there is no room.
    """
    with Archive(file) as archive:
        _refuse_later_versions(archive)
        whole = DataDir(data_dir)
        counter = Counter(progress, len(archive.manifest.streams) + 4)
        with _taken(whole):
            counter.begin("checking the file")
            await asyncio.to_thread(archive.verify, counter.count)
            try:
                return await _Restoring(archive, whole, counter).everything()
            except (MeshStartError, MeshError, BrokerRefused) as error:
                raise RestoreFailed("the stores", str(error)) from error


@contextlib.contextmanager
def _taken(data_dir: DataDir) -> Generator[None]:
    """The directory for this restore alone; as it was before where that fails."""
    was_there = data_dir.path.is_dir()
    marker = data_dir.path / RESTORING
    if was_there and not marker.exists() and any(data_dir.path.iterdir()):
        if data_dir.run.is_dir():
            # That somebody uses it says more.
            data_dir.lock()
            data_dir.unlock()
        raise NotEmpty(data_dir.path)
    data_dir.prepare()
    data_dir.lock(restoring=True)
    try:
        # What an earlier restore left.
        _clear(data_dir.path)
        marker.touch(mode=0o600)
        yield
        _clear(data_dir.logs)
        _clear(data_dir.run)
        # All that the servers wrote reaches the disk before anybody may use it.
        os.sync()
        marker.unlink()
    except BaseException:
        shutil.rmtree(data_dir.logs, ignore_errors=True)
        _clear(data_dir.path)
        shutil.rmtree(data_dir.run, ignore_errors=True)
        marker.unlink(missing_ok=True)
        if not was_there:
            with contextlib.suppress(OSError):
                data_dir.path.rmdir()
        raise
    finally:
        data_dir.unlock()


def _clear(folder: Path) -> None:
    """Empties it, but for what keeps others out of the directory."""
    for each in folder.iterdir():
        if each.name in (RESTORING, "run", "logs", "lock"):
            continue
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()


def _refuse_later_versions(archive: Archive) -> None:
    made_by = archive.manifest.made_by
    if _numbers(made_by) > _numbers(VERSION):
        raise NewerBackup(archive.path, made_by, f"this is {VERSION}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(each) for each in version.split(".") if each.isdecimal())


class _Restoring:
    """The parts, in an order in which each finds what it needs."""

    def __init__(self, archive: Archive, data_dir: DataDir, counter: Counter) -> None:
        self._archive: Final = archive
        self._manifest: Final = archive.manifest
        self._data_dir: Final = data_dir
        self._counter: Final = counter

    async def everything(self) -> Restored:
        """Restores it."""
        self._counter.begin("files")
        await self._restore_files_unless_cancelled()
        async with own_servers(self._data_dir) as stores:
            await self._restore_streams(stores)
            charges = await self._restore_what_came_late(stores)
            lost = await self._agree(stores)
        return Restored(self._data_dir.path, self._manifest, charges, lost)

    async def _restore_files_unless_cancelled(self) -> None:
        """In a thread, which nobody can cancel: it must not write where others clean up."""
        writing = asyncio.ensure_future(asyncio.to_thread(self._restore_files))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            # It has nothing more to write then.
            self._archive.close()
            await asyncio.gather(writing, return_exceptions=True)
            raise

    def _restore_files(self) -> None:
        root = self._data_dir.path
        for folder, names in ((FILES, self._archive.names), (DATABASES, self._archive.names)):
            for name in names:
                if name.startswith(f"{folder}/"):
                    self._archive.extract(name, root / name.removeprefix(f"{folder}/"))
                    self._counter.count((root / name.removeprefix(f"{folder}/")).stat().st_size)
        for place, target in self._manifest.links.items():
            link = root / place
            link.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            link.symlink_to(target)
        restore_postgres(self._archive, root)
        if REDIS_MEMBER in self._archive.names:
            (root / places.REDIS).mkdir(mode=0o700)
            self._archive.extract(REDIS_MEMBER, redis_copy.place(root / places.REDIS))

    async def _restore_streams(self, stores: Stores) -> None:
        async with connected(stores.nats_url) as broker:
            for stream in self._manifest.streams:
                self._counter.begin(f"stream {stream.name}")
                try:
                    state = await broker.restore(stream, self._archive.read(stream.member))
                    if int(state["last_seq"]) < stream.last_sequence:
                        raise BrokerRefused(
                            f"it ends at {state['last_seq']}, and ended at {stream.last_sequence}"
                        )
                    await broker.restore_consumers(stream)
                except BrokerRefused as error:
                    raise RestoreFailed(f"stream {stream.name}", str(error)) from error
                self._counter.count(int(state["bytes"]))

    async def _restore_what_came_late(self, stores: Stores) -> int:
        """What belongs to the log as it was saved, and what retention did meanwhile."""
        self._counter.begin("charges")
        async with await Bus.connect(stores.nats_url, name="restore") as bus:
            partitions = await partition_store.look_up(bus)
            if EXPIRED in self._archive.names:
                await expired_tasks.repeat(bus, self._lines(EXPIRED), partitions.all)
            log = JetStreamLog(bus, partitions)
            await log.horizons()
            referee = LogReferee(log)
            charges = 0
            if LATE_CHARGES in self._archive.names:
                charges = await late_charges.restore(bus, self._lines(LATE_CHARGES), referee)
            folder = self._data_dir.path / places.SETTLEMENTS
            for path in sorted(folder.glob(f"*{places.SETTLEMENT_SUFFIX}")):
                lines = path.read_bytes().splitlines(keepends=True)
                path.write_bytes(b"".join(await late_charges.waiting_lines(lines, referee)))
        return charges

    async def _agree(self, stores: Stores) -> Sequence[str]:
        """Has Redis agree with what else there is."""
        self._counter.begin("Redis and documents")
        redis: Any = redis_store.connect(stores.redis_url)
        try:
            names: list[bytes] = []
            async for name in redis.scan_iter(match=_COUNTERS, count=_AT_ONCE):
                names.append(name)
                if len(names) == _AT_ONCE:
                    await redis.unlink(*names)
                    names.clear()
            if names:
                await redis.unlink(*names)
            if not (self._data_dir.path / places.VECTORS).is_dir():
                # They are in a server of their own, or there are none.
                return ()
            return await documents.agree(redis, self._data_dir.path)
        finally:
            await redis.aclose()

    def _lines(self, member: str) -> Iterator[bytes]:
        held = b""
        for chunk in self._archive.read(member):
            *lines, held = (held + chunk).split(b"\n")
            yield from lines
        if held:
            yield held
