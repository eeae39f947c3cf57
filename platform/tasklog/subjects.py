"""Where a task's events stand in the broker.

All events of a task lie under one prefix, `task.<tenant>.<task>`, and are
appended by compare-and-set over that prefix. The last token says who must
notice. An event that makes the task runnable carries its queue (lane and
priority), and so is itself the message that an executor pulls. An event on
which a coordinator must act carries `control`. Else an event that ends the
task carries `end`, so that who waits for that alone hears of nothing else.
Every other carries `log`.

In a log that is cut into partitions the first token names the tenant's, such
as `task-3`: see `partitions`. What is here holds for all of them.
"""

from typing import Final, NamedTuple

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_event_pb2
from meshkit import names
from meshkit.bus import StreamSpec
from tasklog.lifecycle import TERMINAL

SNAPSHOTS: Final = "SNAPSHOTS"
# Stored events are published again here, so that watchers need no consumer each.
LIVE_PREFIX: Final = "live"
_LIVE: Final = f"{LIVE_PREFIX}."
# Runnable at once, or at the time the event names.
RUNNABLE_KINDS: Final = frozenset({"submitted", "resumed", "retried", "redriven"})
# A coordinator sets timers and submits children; it stops children too.
_CONTROL_KINDS: Final = frozenset({"waiting", "cancel_requested", "cancelled"})
LANES: Final = {
    tier_pb2.LANE_INTERACTIVE: "interactive",
    tier_pb2.LANE_STANDARD: "standard",
    tier_pb2.LANE_BATCH: "batch",
}
_LANES_BY_NAME: Final = {name: lane for lane, name in LANES.items()}
# What is written about a task that has ended tells its parent nothing new.
_AFTER_THE_END: Final = frozenset({"discarded", "expired"})
# The last token of events on which a coordinator must act, of those that end a task,
# and of all others.
CONTROL: Final = "control"
_END: Final = "end"
_LOG: Final = "log"
# Those that an event may carry with which a task ends.
ENDS: Final = (_END, CONTROL)


class Queue(NamedTuple):
    """Where the runnable tasks of one tenant, lane and priority stand in line."""

    tenant: str
    lane: tier_pb2.Lane
    priority: int

    @property
    def token(self) -> str:
        """The last token of its events, such as `standard-0`."""
        return _queue_token(self.lane, self.priority)

    @property
    def durable(self) -> str:
        """The name of its consumer."""
        return durable_of(self.tenant, self.token)

    @property
    def wake(self) -> str:
        """Where executors hear that it may have a task."""
        return f"wake.{self.token}.{self.tenant}"


def _queue_token(lane: tier_pb2.Lane, priority: int) -> str:
    return f"{LANES[lane]}-{priority}"


def durable_of(tenant: str, token: str) -> str:
    """The name of the consumer of the tenant's queue whose events have this last token."""
    return f"queue-{token}-{tenant}"


def queue_of_durable(durable: str) -> Queue | None:
    """The queue whose consumer is called `durable`; None if it is no queue's."""
    kind, lane_name, priority, tenant = [*durable.split("-", 3), "", "", ""][:4]
    lane = _LANES_BY_NAME.get(lane_name)
    if kind != "queue" or lane is None or not priority.isdecimal():
        return None
    return Queue(tenant, lane, int(priority))


def queue_of_wake(subject: str) -> Queue:
    """The queue that a wake is about."""
    _, token, tenant = subject.split(".")
    lane_name, _, priority = token.partition("-")
    return Queue(tenant, _LANES_BY_NAME[lane_name], int(priority))


def snapshot_stream_spec() -> StreamSpec:
    """The stream that holds where each long task's events stand a second time."""
    return StreamSpec(
        name=SNAPSHOTS,
        subjects=("snapshot.*.*",),
        max_messages_per_subject=1,
        duplicate_window_seconds=10,
        description="One TaskSnapshot per long task. Derived from its log; may be deleted.",
    )


def token_of(event: task_event_pb2.TaskEvent) -> str:
    """The last token of the subject that `event` is stored under."""
    kind, status = event.WhichOneof("kind"), event.status
    if kind in RUNNABLE_KINDS:
        return _queue_token(status.lane, status.priority)
    ends = status.state in TERMINAL and kind not in _AFTER_THE_END
    if kind in _CONTROL_KINDS or (ends and status.parent_task):
        return CONTROL
    return _END if ends else _LOG


def queue_of(tenant: str, event: task_event_pb2.TaskEvent) -> Queue | None:
    """The queue in which `event` puts its task; None for an event that does not."""
    if event.WhichOneof("kind") not in RUNNABLE_KINDS:
        return None
    return Queue(tenant, event.status.lane, event.status.priority)


def snapshot(tenant: str, task_id: str) -> str:
    """Where the snapshot of a task stands, in the stream SNAPSHOTS."""
    return f"snapshot.{tenant}.{task_id}"


def deltas(tenant: str, task_id: str) -> str:
    """Where the text of a model that still speaks is published; never stored."""
    return f"delta.{tenant}.{task_id}"


def cancels(tenant: str, task_id: str) -> str:
    """Where an executor hears at once that a task should stop."""
    return f"cancel.{tenant}.{task_id}"


def owner(tenant: str, task_id: str) -> str:
    """Under which a task's large content is kept: see Bus.put_blob."""
    return f"{tenant}.{task_id}"


ALL_CANCELS: Final = "cancel.>"
ALL_WAKES: Final = "wake.>"


def parse(subject: str) -> tuple[str, str]:
    """Tenant and task id of an event's or a cancel's subject."""
    parts = subject.removeprefix(_LIVE).split(".")
    return parts[1], parts[2]


def task_name(tenant: str, task_id: str) -> str:
    """The resource name of a task."""
    return names.TASK.format(tenant=tenant, task=task_id)
