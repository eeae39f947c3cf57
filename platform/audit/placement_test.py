"""Tests of where events must stand."""

from datetime import UTC, datetime

import pytest

from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from audit import placement
from audit.entry import entry_of
from meshkit.bus import StoredMessage


@pytest.mark.parametrize(
    ("token", "problems"),
    [
        ("end", []),
        # Where a version before this one stored it.
        ("log", []),
        (
            "control",
            ["Event 5 (completed) stands under 'control', not under 'end': nobody will act on it."],
        ),
    ],
)
def test_the_end_of_a_task_stands_where_ends_are_looked_for(
    token: str, problems: list[str]
) -> None:
    """Or where all other events of ended tasks once stood."""
    event = TaskEvent(task="tenants/acme/tasks/t1", sequence=5)
    event.completed.output.text = "done"
    event.status.state = task_pb2.TASK_STATE_SUCCEEDED
    message = StoredMessage(
        subject=f"task.acme.t1.{token}",
        sequence=5,
        payload=event.SerializeToString(),
        headers={},
        time=datetime.now(UTC),
    )
    entry = entry_of(message)
    assert entry is not None
    assert [each.sentence for each in placement.check(entry)] == problems
