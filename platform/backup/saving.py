"""Saves all that a mesh keeps, while it runs or not."""

import asyncio
import contextlib
import json
import sqlite3
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from redis.exceptions import RedisError

from backup import documents, expired_tasks, late_charges, order, places, redis_copy, sqlite_copy
from backup.archive import ArchiveWriter
from backup.failures import NothingThere, SaveFailed
from backup.manifest import Manifest, Stream
from backup.postgres_copy import save_postgres
from backup.progress import Counter, Progress
from backup.redis_copy import RedisRefused
from backup.servers import Stores, own_servers
from backup.streams import Broker, BrokerRefused, connected
from meshkit import redis_store
from meshkit.bus import Bus
from meshkit.clock import Clock
from meshkit.mesh_error import MeshError
from tasklog import partition_store
from tier.data_dir import DataDir
from tier.ports import HOST
from tier.state import MeshState, read_state
from tier.version import VERSION

REDIS_MEMBER: Final = "redis/dump.rdb"
LATE_CHARGES: Final = "late/charges.jsonl"
EXPIRED: Final = "late/expired.jsonl"
STREAMS: Final = "streams"
DATABASES: Final = "databases"
FILES: Final = "files"
SUFFIX: Final = ".backup"
# How often documents are saved anew because some were replaced meanwhile.
_ROUNDS: Final = 5
_PAUSE_SECONDS: Final = 0.5
_READING_AGAIN: Final = "reading it again"


@dataclass(frozen=True, slots=True)
class Saved:
    """A backup that was made."""

    path: Path
    size_bytes: int
    manifest: Manifest


async def save(data_dir: Path, target: Path, *, clock: Clock, progress: Progress) -> Saved:
    """Writes a backup to `target`, or under a name with the time where that is a folder.

    Raises:
        BackupError: There is nothing to save, or it cannot be; no file is left then.
        MeshStartError: Somebody starts or ends a mesh there at this moment.
        OSError: The file cannot be written.
    """
    whole = DataDir(data_dir)
    if not (whole.path / places.NATS).is_dir():
        raise NothingThere(whole.path)
    began = clock.now()
    path = _path(target, began)
    counter = Counter(progress, 0)
    writer = ArchiveWriter(path, counter.count)
    try:
        async with _stores(whole) as (stores, state):
            with tempfile.TemporaryDirectory(prefix=".backup-", dir=path.parent) as folder:
                saving = _Saving(whole.path, stores, state, writer, counter, Path(folder))
                await saving.everything()
            manifest = saving.manifest(began, clock.now())
        counter.begin(_READING_AGAIN)
        await asyncio.to_thread(writer.finish, manifest, counter.count)
    except BaseException:
        writer.abandon()
        raise
    return Saved(path, path.stat().st_size, manifest)


def _path(target: Path, began: datetime) -> Path:
    if target.is_dir():
        return target / f"agentmesh-{began:%Y%m%dT%H%M%SZ}{SUFFIX}"
    return target


@asynccontextmanager
async def _stores(data_dir: DataDir) -> AsyncGenerator[tuple[Stores, MeshState | None]]:
    """The servers of the mesh that runs; where none does, servers that are run for the backup."""
    state = read_state(data_dir.path)
    if state is not None:
        ports = {each.name: each.ports[0] for each in state.processes if each.ports}
        yield Stores(f"nats://{HOST}:{ports['nats']}", f"redis://{HOST}:{ports['redis']}"), state
        return
    data_dir.prepare()
    data_dir.lock()
    try:
        async with own_servers(data_dir) as stores:
            yield stores, None
    finally:
        data_dir.unlock()


class _Saving:
    """The parts, in their order: `order` and each part say why."""

    def __init__(
        self,
        data_dir: Path,
        stores: Stores,
        state: MeshState | None,
        writer: ArchiveWriter,
        counter: Counter,
        folder: Path,
    ) -> None:
        """`folder`: for copies on their way into the file."""
        self._data_dir: Final = data_dir
        self._stores: Final = stores
        self._state: Final = state
        self._writer: Final = writer
        self._counter: Final = counter
        self._folder: Final = folder
        self._streams: list[Stream] = []
        self._databases: list[str] = []
        self._links: dict[str, str] = {}
        self._notes: list[str] = []
        self._versions: dict[str, str] = {}

    async def everything(self) -> None:
        """Saves it. Raises BackupError and OSError."""
        async with _broker(self._stores.nats_url) as broker:
            self._versions["nats"] = broker.version
            names = await broker.stream_names()
            before, log, after = order.in_order(names)
            self._counter.expect(len(names) + 5)
            # Copies of the log first: they are brought up to it, and never behind it.
            await self._save_databases()
            for name in (*before, *log):
                await self._save_stream(broker, name)
            # What tasks do is recorded there before the log has it.
            await self._save_redis()
            await self._save_late_charges()
            for name in after:
                await self._save_stream(broker, name)
            for name in sorted({*await broker.stream_names()} - {*names}):
                self._counter.expect(1)
                await self._save_stream(broker, name)
            await self._save_expired()
            await asyncio.to_thread(self._save_files)

    def manifest(self, began: datetime, ended: datetime) -> Manifest:
        """What was saved."""
        return Manifest(
            made_by=VERSION,
            versions=self._versions,
            tier=str(self._state.tier) if self._state else "",
            began=began,
            ended=ended,
            members=self._writer.members,
            streams=self._streams,
            databases=self._databases,
            links=self._links,
            notes=self._notes,
        )

    async def _save_databases(self) -> None:
        self._counter.begin("databases")
        version = await save_postgres(self._data_dir, self._state, self._writer, self._notes.append)
        if version:
            self._versions["postgres"] = version
        for place in places.databases(self._data_dir):
            await self._save_database(place)

    async def _save_database(self, place: str) -> None:
        await self._add_database(place, await self._copied(place))

    async def _copied(self, place: str) -> Path:
        copy = self._folder / place.replace("/", "+")
        copy.unlink(missing_ok=True)
        try:
            await asyncio.to_thread(sqlite_copy.copy, self._data_dir / place, copy)
        except sqlite3.Error as error:
            raise SaveFailed(place, str(error)) from error
        return copy

    async def _add_database(self, place: str, copy: Path) -> None:
        await asyncio.to_thread(self._move, f"{DATABASES}/{place}", copy)
        self._databases.append(place)

    def _move(self, member: str, copy: Path) -> None:
        self._writer.add(member, copy)
        copy.unlink()

    async def _save_stream(self, broker: Broker, name: str) -> None:
        self._counter.begin(f"stream {name}")
        member = f"{STREAMS}/{name}"
        try:
            # The broker's own format is compressed.
            with self._writer.member(member, compress=False) as into:
                self._streams.append(await broker.save(name, member, into))
        except BrokerRefused as error:
            raise SaveFailed(f"stream {name}", str(error)) from error

    async def _save_redis(self) -> None:
        """Redis, and then the vectors that belong to its documents."""
        self._counter.begin("Redis and documents")
        redis: Any = redis_store.connect(self._stores.redis_url)
        saved = self._folder / "redis"
        before: set[documents.Standing] = set()
        copies: dict[str, Path] = {}
        try:
            self._versions["redis"] = str((await redis.info("server"))["redis_version"])
            for number in range(1, _ROUNDS + 1):
                before = await documents.counting(redis)
                await self._receive_redis(saved)
                copies = {each: await self._copied(each) for each in places.vectors(self._data_dir)}
                # New ones are no matter: they were there before they counted.
                if not before - await documents.counting(redis):
                    break
                await asyncio.sleep(_PAUSE_SECONDS * number)
        except (RedisRefused, RedisError) as error:
            raise SaveFailed("Redis", str(error)) from error
        finally:
            await redis.aclose()
        await asyncio.to_thread(self._move, REDIS_MEMBER, saved)
        for place, copy in copies.items():
            await self._add_database(place, copy)
        # After what it lists.
        listed = self._data_dir / places.VECTORS / "meta.json"
        if listed.exists():
            self._writer.add(f"{FILES}/{places.VECTORS}/meta.json", listed)
        elif before:
            self._notes.append(
                "Passages and vectors are in a Qdrant server, and are not part of this backup."
            )

    async def _receive_redis(self, to: Path) -> None:
        with to.open("wb") as into:

            def write(data: bytes) -> None:
                into.write(data)

            await redis_copy.save(self._stores.redis_url, write)

    async def _save_late_charges(self) -> None:
        """Settlements that wait, and then those that arrived since the journal was saved.

        A step is recorded when its settlement is in a file at least; so it is in one of these.
        """
        self._counter.begin("charges")
        for place, content in places.settlements(self._data_dir).items():
            with self._writer.member(f"{FILES}/{place}") as into:
                into.write(content)
        (journal,) = [each for each in self._streams if each.name == order.JOURNAL] or (None,)
        if journal is None:
            return
        async with _bus(self._stores.nats_url) as bus:
            with self._writer.member(LATE_CHARGES) as into:
                async for line in late_charges.collect(bus, journal.last_sequence):
                    into.write(line)

    async def _save_expired(self) -> None:
        log = {each.name: each for each in self._streams if order.is_log(each.name)}
        async with _bus(self._stores.nats_url) as bus:
            partitions = (await partition_store.look_up(bus)).all
            with self._writer.member(EXPIRED) as into:
                for partition in partitions:
                    if partition.stream in log:
                        began = log[partition.stream].last_sequence
                        async for line in expired_tasks.collect(bus, partition, began):
                            into.write(line)

    def _save_files(self) -> None:
        self._counter.begin("files")
        for place in places.files(self._data_dir):
            # What goes meanwhile belongs to something that is over.
            with contextlib.suppress(FileNotFoundError):
                self._writer.add(f"{FILES}/{place}", self._data_dir / place)
        self._links = places.links(self._data_dir)


@asynccontextmanager
async def _broker(url: str) -> AsyncGenerator[Broker]:
    try:
        async with connected(url) as broker:
            yield broker
    except BrokerRefused as error:
        raise SaveFailed("streams", str(error)) from error


@asynccontextmanager
async def _bus(url: str) -> AsyncGenerator[Bus]:
    try:
        async with await Bus.connect(url, name="backup") as bus:
            yield bus
    except MeshError as error:
        raise SaveFailed("what came meanwhile", str(error)) from error


def as_json(saved: Saved) -> dict[str, Any]:
    """For scripts."""
    manifest = json.loads(json.dumps(saved.manifest.to_json()))
    return {"path": str(saved.path), "size_bytes": saved.size_bytes, **manifest}
