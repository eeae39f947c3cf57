"""What is stored and sent on keeps what a later version put into it, and breaks nobody."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import json_format

from agentmesh.access.v1.stored_api_key_pb2 import StoredApiKey
from agentmesh.common.v1 import tier_pb2
from agentmesh.common.v1.conversation_pb2 import BlobRef
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.agent_service_pb2 import Agent
from agentmesh.coordinator.v1.schedule_service_pb2 import Schedule
from agentmesh.coordinator.v1.snapshot_pb2 import SnapshotEvents
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.governor.v1.usage_record_pb2 import UsageRecords
from cli.event_line import event_line
from meshkit.constants import CLAIM_CHECK_BYTES
from services.coordinator.task_row import Recorded, take
from services.governor.ledger_charge import charges_of_records
from tasklog import claim_check, fold
from tasklog.formats import EVENTS
from tests.upgrade.later_messages import UNKNOWN, count, fill, grown


class _Shelf:
    """A BlobStore in memory."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}

    async def put_blob(self, owner: str, content: bytes, media_type: str) -> BlobRef:
        digest = str(len(self.content))
        self.content[digest] = content
        return BlobRef(digest=digest, size_bytes=len(content), media_type=media_type)

    async def get_blob(self, owner: str, reference: BlobRef) -> bytes:
        return self.content[reference.digest]


def _events() -> Iterator[TaskEvent]:
    """One of each kind, with everything in it that may be there."""
    (kinds,) = TaskEvent.DESCRIPTOR.oneofs
    for kind in kinds.fields:
        event = TaskEvent(task="tenants/acme/tasks/t1", sequence=2, writer="executor/later")
        event.status.lane = tier_pb2.LANE_STANDARD
        event.status.state = task_pb2.TASK_STATE_RUNNING
        event.status.create_time.GetCurrentTime()
        content: Any = getattr(event, kind.name)
        content.SetInParent()
        fill(content)
        yield event


@pytest.mark.parametrize("event", list(_events()), ids=lambda event: event.WhichOneof("kind"))
async def test_an_event_of_any_kind_is_kept_whole_and_shown(event: TaskEvent) -> None:
    """In a snapshot, beside the log, in the list, on a terminal and as JSON."""
    later = grown(event)
    assert count(later) >= 3
    read = EVENTS.decode(later.SerializeToString())
    assert count(read) == count(later)
    stored = SnapshotEvents.FromString(
        SnapshotEvents(events=[{"event": read, "stream_sequence": 7}]).SerializeToString()  # type: ignore[list-item]
    )
    assert stored.events[0].event == read
    assert count(stored) == count(later)
    assert event_line(read).label
    assert json_format.MessageToDict(read)["task"] == "tenants/acme/tasks/t1"
    row = take(None, [Recorded(read, 7, 100)])
    assert row.sequence == 2
    first = TaskEvent(task=event.task, sequence=1)
    first.submitted.task.name = event.task
    assert fold.task_of(first, read).name == event.task


@pytest.mark.parametrize("kind", ["submitted", "model_called", "tool_called", "resumed"])
async def test_large_content_keeps_it_too(kind: str) -> None:
    """It goes out of the event and comes back as it was."""
    (event,) = (each for each in _events() if each.WhichOneof("kind") == kind)
    for reference in claim_check.references(event):
        reference.Clear()
    large = "x" * CLAIM_CHECK_BYTES
    match kind:
        case "submitted":
            event.submitted.ClearField("input_blob")
            event.submitted.task.input.text = large
        case "model_called":
            event.model_called.ClearField("message_blob")
            event.model_called.message.parts.add(text=large)
        case "tool_called":
            event.tool_called.ClearField("result_blob")
            event.tool_called.result.text = large
        case _:
            event.resumed.ClearField("children_blob")
            event.resumed.children[0].output.text = large
    later, shelf = grown(event), _Shelf()
    small = await claim_check.check_in(later, shelf, "acme.t1")
    assert any(UNKNOWN in each for each in shelf.content.values())
    read = EVENTS.decode(small.SerializeToString())
    await claim_check.check_out(read, shelf, "acme.t1")
    (reference,) = claim_check.references(read)
    reference.Clear()
    assert count(read) == count(later)


@pytest.mark.parametrize("stored", [Agent, Schedule, StoredApiKey], ids=lambda kind: kind.__name__)
def test_what_is_copied_and_changed_keeps_it(stored: type[Any]) -> None:
    """As whoever rewrites an agent's version, a schedule after its time, or a key does."""
    message = stored()
    fill(message)
    later = grown(message)
    rewritten = stored()
    rewritten.CopyFrom(stored.FromString(later.SerializeToString()))
    assert count(rewritten) == count(later) >= 2


def test_charges_of_a_later_version_are_counted() -> None:
    """What they say that is known; the journal keeps the rest."""
    records = UsageRecords()
    fill(records)
    records.records[0].tenant, records.records[0].key = "acme", "t1/1"
    records.records[0].usage.cost_micros = 7
    (charge,) = charges_of_records(
        UsageRecords.FromString(grown(records).SerializeToString()).records, 1, 1_000_000
    )
    assert (charge.tenant, charge.key, charge.figures.cost_micros) == ("acme", "t1/1", 7)
