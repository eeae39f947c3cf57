"""Tests of what the audit makes of a stored message."""

from datetime import UTC, datetime

import pytest

from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from audit.entry import entry_of
from meshkit.bus import StoredMessage
from meshkit.errors import NewerFormat


def _stored(payload: bytes) -> StoredMessage:
    return StoredMessage("task.acme.t1.log", 7, payload, {}, datetime.now(UTC))


def test_an_event_of_a_later_version_ends_the_audit() -> None:
    """It would have to be judged by rules that nobody knows here."""
    event = TaskEvent(task="tenants/acme/tasks/t1", sequence=3, format=9)
    event.started.attempt = 1
    with pytest.raises(NewerFormat) as caught:
        entry_of(_stored(event.SerializeToString()))
    assert caught.value.message == (
        "Event 3 of tenants/acme/tasks/t1 is of format 9; this version of Agentmesh reads"
        " formats up to 1. A later version can read it."
    )


def test_what_is_no_event_is_a_finding() -> None:
    """And ends nothing."""
    assert entry_of(_stored(b"\xff")) is None
    assert entry_of(_stored(b"")) is None
