"""The task log as the broker keeps it; only read."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Final

from audit import placement
from audit.entry import Entry, entry_of
from audit.finding import Finding, Invariant, TaskKey, finding
from audit.queue_standing import ConsumerKey, Standing
from meshkit.bus import Bus, StoredMessage
from tasklog import partition_store, subjects
from tasklog.partitions import Partition, Partitions

# Messages a request: more make it no quicker, fewer do slow it down.
_BATCH: Final = 2048


class JetStreamLog:
    """Reads events and how queues stand."""

    def __init__(self, bus: Bus, partitions: Partitions) -> None:
        self._bus: Final = bus
        self._partitions: Final = partitions
        # A mesh that never ran has none, and cannot be asked for it.
        self._there: tuple[Partition, ...] = ()
        self._passed = 0

    @classmethod
    async def open(cls, bus: Bus) -> "JetStreamLog":
        """With as many partitions as the log has."""
        return cls(bus, await partition_store.look_up(bus))

    @property
    def passed(self) -> int:
        """How far `read` has come, on the way to the sum of the horizons."""
        return self._passed

    def stream_of(self, tenant: str) -> str:
        """Where the events of the tenant's tasks belong."""
        return self._partitions.of(tenant).stream

    async def horizons(self) -> Mapping[str, int]:
        """The last sequence of each stream that is there. To be asked first."""
        found: dict[Partition, int] = {}
        for each in self._partitions.all:
            info = await self._bus.stream_info(each.stream)
            if info is not None:
                found[each] = int(info["state"]["last_seq"])
        self._there = tuple(found)
        return {each.stream: last for each, last in found.items()}

    async def read(
        self, tenant: str, horizons: Mapping[str, int]
    ) -> AsyncGenerator[Entry | Finding]:
        """Events up to `horizons`, of one tenant unless that is empty; stream after stream.

        What is no event, or one that nobody looks for where it stands, is given as
        what is wrong with it; so is a stream that is not there beside others.
        """
        done = 0
        for partition in self._partitions.all if self._there else ():
            if partition not in self._there:
                yield _missing(partition)
        for partition in self._there:
            horizon = horizons[partition.stream]
            scope = partition.of_tenant(tenant) if tenant else partition.all_events
            async with aclosing(self._bus.read(partition.stream, scope, batch=_BATCH)) as messages:
                async for message in messages:
                    if message.sequence > horizon:
                        break
                    self._passed = done + message.sequence
                    yield self._seen(partition, message)
            done += horizon

    def _seen(self, partition: Partition, message: StoredMessage) -> Entry | Finding:
        entry = entry_of(message)
        if entry is None:
            return finding(
                Invariant.REPLAY,
                TaskKey("", ""),
                f"Message {message.sequence} of {partition.stream} holds no event.",
                message.sequence,
                stream=partition.stream,
            )
        home = self._partitions.of(entry.task.tenant)
        return entry if home == partition else placement.stray(entry, partition.stream, home.stream)

    async def of_task(self, task: TaskKey, *, after: int = 0) -> list[Entry]:
        """A task's events as they stand now, from after that stream sequence on."""
        partition = self._partitions.of(task.tenant)
        if partition not in self._there:
            return []
        scope = partition.scope(task.tenant, task.task_id)
        async with aclosing(
            self._bus.read(partition.stream, scope, start_sequence=after + 1)
        ) as messages:
            found = [entry_of(message) async for message in messages]
        return [entry for entry in found if entry is not None]

    async def owners(self, task_id: str) -> Sequence[TaskKey]:
        """The tasks of any tenant that have this id."""
        found = [
            subject
            for each in self._there
            for subject in await self._bus.subjects(each.stream, each.of_task_id(task_id))
        ]
        return sorted({TaskKey(*subjects.parse(each)) for each in found})

    async def standings(self) -> Mapping[ConsumerKey, Standing]:
        """Every consumer of the log."""
        return {
            ConsumerKey(each.stream, info["name"]): Standing(
                delivered=int(info["delivered"]["stream_seq"]),
                acknowledged=int(info["ack_floor"]["stream_seq"]),
                unacknowledged=int(info["num_ack_pending"]),
            )
            for each in self._there
            async for info in self._bus.consumers(each.stream)
        }


def _missing(partition: Partition) -> Finding:
    return finding(
        Invariant.LOST,
        TaskKey("", ""),
        f"There is no stream {partition.stream}: the tasks of its tenants are gone.",
        stream=partition.stream,
    )
