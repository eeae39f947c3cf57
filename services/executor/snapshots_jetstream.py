"""Snapshots on JetStream: a message per task, and segments in the object store."""

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from agentmesh.common.v1.conversation_pb2 import BlobRef
from agentmesh.coordinator.v1.snapshot_pb2 import SnapshotEvents, TaskSnapshot
from meshkit.bus import Bus
from meshkit.errors import CorruptData
from tasklog import claim_check, subjects
from tasklog.formats import EVENTS
from tasklog.task_log import Entry

_MEDIA_TYPE = f"application/x-protobuf; type={SnapshotEvents.DESCRIPTOR.full_name}"


class JetStreamSnapshots:
    """Keeps segments with the task's other large content, so that they go when it goes."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def prepare(self) -> None:
        """Creates the stream, or brings it up to date."""
        await self._bus.ensure_stream(subjects.snapshot_stream_spec())

    async def load(self, tenant: str, task_id: str) -> tuple[TaskSnapshot, int]:
        """The task's snapshot and its revision."""
        message = await self._bus.last(subjects.SNAPSHOTS, subjects.snapshot(tenant, task_id))
        if message is None:
            return TaskSnapshot(), 0
        try:
            return TaskSnapshot.FromString(message.payload), message.sequence
        except DecodeError as error:
            raise CorruptData(f"The snapshot of task {task_id} cannot be read.") from error

    async def save(self, tenant: str, task_id: str, snapshot: TaskSnapshot, *, after: int) -> int:
        """Replaces the snapshot of revision `after`; its own revision."""
        return await self._bus.append(
            subjects.snapshot(tenant, task_id), snapshot.SerializeToString(), expected_last=after
        )

    async def put(self, tenant: str, task_id: str, entries: Sequence[Entry]) -> BlobRef:
        """Stores the content of a segment; large content stays where the log has it."""
        owner = subjects.owner(tenant, task_id)
        events = SnapshotEvents()
        for entry in entries:
            stored = await claim_check.check_in(entry.event, self._bus, owner)
            events.events.add(event=stored, stream_sequence=entry.stream_sequence)
        content = events.SerializeToString(deterministic=True)
        return await self._bus.put_blob(owner, content, _MEDIA_TYPE)

    async def get(self, tenant: str, task_id: str, reference: BlobRef) -> list[Entry]:
        """The content of a segment, large content brought back."""
        owner = subjects.owner(tenant, task_id)
        content = await self._bus.get_blob(owner, reference)
        try:
            events = SnapshotEvents.FromString(content)
        except DecodeError as error:
            raise CorruptData(f"A segment of task {task_id} cannot be read.") from error
        for each in events.events:
            EVENTS.upcast(each.event)
            await claim_check.check_out(each.event, self._bus, owner)
        return [Entry(each.event, each.stream_sequence) for each in events.events]

    async def drop(self, tenant: str, task_id: str, reference: BlobRef) -> None:
        """Removes the content of a segment."""
        await self._bus.delete_blob(subjects.owner(tenant, task_id), reference.digest)
