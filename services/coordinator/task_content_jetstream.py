"""What a task has on JetStream besides the one event that stays."""

from meshkit.bus import Bus
from tasklog import subjects
from tasklog.partitions import Partitions


class JetStreamTaskContent:
    """TaskContent on JetStream. Every removal may be repeated."""

    def __init__(self, bus: Bus, partitions: Partitions) -> None:
        self._bus = bus
        self._partitions = partitions

    async def prepare(self) -> None:
        """Creates the stream of snapshots, or brings it up to date."""
        await self._bus.ensure_stream(subjects.snapshot_stream_spec())

    async def remove_snapshot(self, tenant: str, task_id: str) -> None:
        """Removes what executors resume long tasks from."""
        await self._bus.purge(subjects.SNAPSHOTS, subjects.snapshot(tenant, task_id))

    async def remove_blobs(self, tenant: str, task_id: str) -> None:
        """Removes the task's large content."""
        await self._bus.delete_blobs(subjects.owner(tenant, task_id))

    async def remove_events(self, tenant: str, task_id: str, *, before: int) -> None:
        """Removes the task's events before a sequence of the stream."""
        partition = self._partitions.of(tenant)
        await self._bus.purge(
            partition.stream, partition.scope(tenant, task_id), before_sequence=before
        )
