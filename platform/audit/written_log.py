"""Logs that a test writes event by event; only for tests."""

from datetime import UTC, datetime

from agentmesh.common.v1 import tier_pb2
from agentmesh.common.v1.usage_pb2 import Usage
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskStatus
from audit.entry import Entry
from audit.random_log import stored
from tasklog import lifecycle

_NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def written(*kinds: str, cost_micros: int = 7) -> list[Entry]:
    """A log of these events; each model call costs the same.

    They stand in the stream one after another, from 1 on.
    """
    events: list[TaskEvent] = []
    status = TaskStatus(lane=tier_pb2.LANE_STANDARD)
    for number, kind in enumerate(kinds, start=1):
        event = lifecycle.new_event("tenants/acme/tasks/t1", "executor/e1")
        getattr(event, kind).SetInParent()
        if kind == "submitted":
            event.submitted.task.name, event.submitted.task.tenant = event.task, "acme"
            event.submitted.task.lane = status.lane
        if kind == "model_called":
            event.model_called.step = status.steps + 1
        lifecycle.advance(
            status,
            event,
            sequence=number,
            time=_NOW,
            state=task_pb2.TASK_STATE_SUCCEEDED if kind == "completed" else None,
            usage=Usage(cost_micros=cost_micros) if kind == "model_called" else None,
        )
        events.append(event)
        status = event.status
    return stored(events)
