"""Where a task's events stand in the broker.

All events of a task lie under one prefix, `task.<tenant>.<task>`, and are
appended by compare-and-set over that prefix. The last token says who must
notice: an event that makes the task runnable carries its lane, and so is
itself the message that an executor pulls; every other event carries `log`.
"""

from typing import Final

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_event_pb2
from meshkit import names
from meshkit.bus import StreamSpec

STREAM: Final = "TASKS"
# Stored events are published again here, so that watchers need no consumer each.
LIVE_PREFIX: Final = "live"
# Runnable at once, or at the time the event names.
RUNNABLE_KINDS: Final = frozenset({"submitted", "resumed", "retried", "redriven"})
LANES: Final = {
    tier_pb2.LANE_INTERACTIVE: "interactive",
    tier_pb2.LANE_STANDARD: "standard",
    tier_pb2.LANE_BATCH: "batch",
}
_LOG: Final = "log"


def stream_spec() -> StreamSpec:
    """The stream that holds every task's log."""
    return StreamSpec(
        name=STREAM,
        subjects=("task.*.*.*",),
        max_age_seconds=None,
        max_bytes=None,
        # Appends recognise their own repeats in the log itself: see Bus.append.
        duplicate_window_seconds=10,
        republish=("task.>", f"{LIVE_PREFIX}.task.>"),
        description="One log per task: the truth about it. Append with compare-and-set only.",
    )


def of_event(tenant: str, task_id: str, event: task_event_pb2.TaskEvent) -> str:
    """The subject that `event` is stored under."""
    runnable = event.WhichOneof("kind") in RUNNABLE_KINDS
    return f"task.{tenant}.{task_id}.{LANES[event.status.lane] if runnable else _LOG}"


def scope(tenant: str, task_id: str) -> str:
    """A filter for all events of one task: what compare-and-set compares over."""
    return f"task.{tenant}.{task_id}.*"


def live(tenant: str, task_id: str) -> str:
    """Where the events of one task are published again once they are stored."""
    return f"{LIVE_PREFIX}.task.{tenant}.{task_id}.*"


def runnable(lane: tier_pb2.Lane) -> str:
    """A filter for the events that make a task of `lane` runnable."""
    return f"task.*.*.{LANES[lane]}"


def deltas(tenant: str, task_id: str) -> str:
    """Where the text of a model that still speaks is published; never stored."""
    return f"delta.{tenant}.{task_id}"


def cancels(tenant: str, task_id: str) -> str:
    """Where an executor hears at once that a task should stop."""
    return f"cancel.{tenant}.{task_id}"


ALL_EVENTS: Final = "task.>"
ALL_CANCELS: Final = "cancel.>"


def parse(subject: str) -> tuple[str, str]:
    """Tenant and task id of an event's or a cancel's subject."""
    parts = subject.removeprefix(f"{LIVE_PREFIX}.").split(".")
    return parts[1], parts[2]


def task_name(tenant: str, task_id: str) -> str:
    """The resource name of a task."""
    return names.TASK.format(tenant=tenant, task=task_id)
