"""How the log of tasks is cut into streams: all tasks of a tenant lie in one of them.

A stream is written by one server at a time. A log that has to take more than
that server can is cut into several, by a hash of the tenant. Parents, children
and schedules are of one tenant, so what belongs together stays in one stream,
and the sequences of its events can be compared. Those of two streams cannot.
"""

from dataclasses import dataclass
from typing import Final

from agentmesh.coordinator.v1 import task_event_pb2
from meshkit.bus import StreamSpec
from tasklog import subjects
from tasklog.subjects import Queue

# More streams than that are more than the servers of one cluster hold well.
MAX_PARTITIONS: Final = 1024
# One for each tenant, lane and priority that ever had a task.
_MAX_QUEUES: Final = 100_000
# Of tenants whose partition is remembered: a few megabytes.
_MAX_KNOWN: Final = 65_536
_FNV_OFFSET: Final = 0x811C9DC5
_FNV_PRIME: Final = 0x01000193


@dataclass(frozen=True, slots=True)
class Partition:
    """One stream of the log, and the subjects of the events in it."""

    stream: str
    # The first token of its subjects.
    prefix: str

    @property
    def all_events(self) -> str:
        """A filter for every event."""
        return f"{self.prefix}.>"

    @property
    def all_control(self) -> str:
        """A filter for every event on which a coordinator must act."""
        return f"{self.prefix}.*.*.{subjects.CONTROL}"

    def of_tenant(self, tenant: str) -> str:
        """A filter for every event of one tenant."""
        return f"{self.prefix}.{tenant}.>"

    def of_task_id(self, task_id: str) -> str:
        """A filter for the events of every tenant's task of that id."""
        return f"{self.prefix}.*.{task_id}.*"

    def of_queue(self, queue: Queue) -> str:
        """A filter for the events that put a task into that queue."""
        return f"{self.prefix}.{queue.tenant}.*.{queue.token}"

    def of_event(self, tenant: str, task_id: str, event: task_event_pb2.TaskEvent) -> str:
        """The subject that `event` is stored under."""
        return f"{self.prefix}.{tenant}.{task_id}.{subjects.token_of(event)}"

    def scope(self, tenant: str, task_id: str) -> str:
        """A filter for all events of one task: what compare-and-set compares over."""
        return f"{self.prefix}.{tenant}.{task_id}.*"

    def live(self, tenant: str, task_id: str, token: str = "*") -> str:
        """Where events of one task, by their last token, are published again once stored."""
        return f"{subjects.LIVE_PREFIX}.{self.prefix}.{tenant}.{task_id}.{token}"

    def stream_spec(self) -> StreamSpec:
        """The stream."""
        return StreamSpec(
            name=self.stream,
            subjects=(f"{self.prefix}.*.*.*",),
            max_age_seconds=None,
            max_bytes=None,
            # Appends recognise their own repeats in the log itself: see Bus.append.
            duplicate_window_seconds=10,
            max_consumers=_MAX_QUEUES,
            republish=(self.all_events, f"{subjects.LIVE_PREFIX}.{self.all_events}"),
            description="One log per task: the truth about it. Append with compare-and-set only.",
        )


# The log of a mesh that does not cut it.
WHOLE: Final = Partition("TASKS", "task")


class Partitions:
    """All streams of a log, and which tenant has which. Cheap to ask."""

    def __init__(self, count: int = 1) -> None:
        """`count`: of streams, for as long as the log lives."""
        if not 1 <= count <= MAX_PARTITIONS:
            raise ValueError(f"a log has 1 to {MAX_PARTITIONS} partitions, not {count}")
        self.all: Final[tuple[Partition, ...]] = (
            (WHOLE,)
            if count == 1
            else tuple(Partition(f"TASKS-{each}", f"task-{each}") for each in range(count))
        )
        self._known: dict[str, Partition] = {}

    def of(self, tenant: str) -> Partition:
        """Where the tasks of a tenant are.

        It is what the function `{{partition(COUNT,TOKEN)}}` in a subject mapping of a
        NATS server gives for the tenant: FNV-1a of 32 bits modulo the count
        (`getHashPartition` in its `subject_transform.go`). So what is mapped there
        agrees with what is computed here.
        """
        if len(self.all) == 1:
            return self.all[0]
        found = self._known.get(tenant)
        if found is None:
            if len(self._known) == _MAX_KNOWN:
                self._known.clear()
            found = self._known[tenant] = self.all[_hash(tenant.encode()) % len(self.all)]
        return found


def _hash(key: bytes) -> int:
    """FNV-1a, 32 bits."""
    value = _FNV_OFFSET
    for byte in key:
        value = (value ^ byte) * _FNV_PRIME & 0xFFFFFFFF
    return value
