"""Faults, as data: what is changed in a copy of a real mesh's stores, and what must be found."""

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from agentmesh.common.v1.usage_pb2 import Usage
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.governor.v1.usage_record_pb2 import UsageRecord
from audit.finding import Invariant
from meshkit.bus import Bus, StoredMessage
from meshkit.bus_blobs import STREAM as BLOBS
from tasklog import subjects
from tasklog.partitions import WHOLE
from tests.audit import real_mesh
from tests.audit.store_copy import Change, append

Sequences = tuple[int, ...]
# What becomes of the journal of usage on its way into the copy.
Settled = Callable[[list[UsageRecord]], list[UsageRecord]]


class Log:
    """The log that is copied, by the names that the real mesh gives to its tasks."""

    def __init__(self, messages: Sequence[StoredMessage], ids: Mapping[str, str]) -> None:
        self._messages = messages
        # Task ids by name.
        self.ids = ids
        self.end = messages[-1].sequence

    def message(self, name: str, kind: str, nth: int = 0) -> StoredMessage:
        """The nth event of its kind of the task."""
        found = [
            message
            for message in self.of(name)
            if TaskEvent.FromString(message.payload).WhichOneof("kind") == kind
        ]
        return found[nth]

    def at(self, name: str, kind: str, nth: int = 0) -> int:
        """The stream sequence of the nth event of its kind of the task."""
        return self.message(name, kind, nth).sequence

    def of(self, name: str) -> list[StoredMessage]:
        """All messages of the task."""
        return [
            each for each in self._messages if subjects.parse(each.subject)[1] == self.ids[name]
        ]


@dataclass(frozen=True, slots=True)
class Copy:
    """The stores into which faults are planted after the copy."""

    bus: Bus
    redis: Any
    log: Log

    async def add(self, message: StoredMessage, **fields: Any) -> None:
        """Appends a message, as somebody would who does not compare and set."""
        await append(self.bus, dataclasses.replace(message, **fields))

    async def count(self, field: str, micros: int, window: str = "*") -> None:
        """Has the tenant's counters say so much more, or less."""
        pattern = f"governor:{{spend}}:tenant:{real_mesh.TENANT}::{window}:*"
        async for key in self.redis.scan_iter(pattern):
            await self.redis.hincrby(key, field, micros)

    def call(self, name: str, key: str, tenant: str = real_mesh.TENANT) -> str:
        """The key in Redis of a call's record."""
        return f"tool:{{{tenant}}}:call:{self.log.ids[name]}/{key}"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault."""

    name: str
    # What must be found, and nothing else: the findings' sequences, in any order.
    invariant: Invariant
    found: Callable[[Log], list[Sequences]]
    # What happens to messages on their way into the copy.
    change: Callable[[Log], Change] | None = None
    # What happens to the journal of usage; the counters follow.
    settled: Callable[[Log], Settled] | None = None
    # What happens to the copy.
    plant: Callable[[Copy], Awaitable[Any]] | None = None
    # Queues that had acknowledged everything, by durable name.
    acknowledged: Sequence[str] = ()
    # Queues that are not there.
    gone: Sequence[str] = ()
    read_blobs: bool = False


def altered(
    name: str, kind: str, alter: Callable[[TaskEvent], object], nth: int = 0
) -> Callable[[Log], Change]:
    """One event says something else."""
    return lambda log: _altered({log.at(name, kind, nth)}, alter)


def altered_all(name: str, alter: Callable[[TaskEvent], object]) -> Callable[[Log], Change]:
    """All events of a task say something else."""
    return lambda log: _altered({message.sequence for message in log.of(name)}, alter)


def _altered(sequences: set[int], alter: Callable[[TaskEvent], object]) -> Change:
    def change(message: StoredMessage) -> StoredMessage:
        if message.sequence not in sequences:
            return message
        event = TaskEvent.FromString(message.payload)
        alter(event)
        # It stands where what it says now belongs.
        subject = WHOLE.of_event(*subjects.parse(message.subject), event)
        return dataclasses.replace(message, subject=subject, payload=event.SerializeToString())

    return change


def replaced(name: str, kind: str, **fields: Any) -> Callable[[Log], Change]:
    """One message is another one."""

    def make(log: Log) -> Change:
        sequence = log.at(name, kind)
        return lambda message: (
            dataclasses.replace(message, **fields) if message.sequence == sequence else message
        )

    return make


def removed(name: str, kind: str) -> Callable[[Log], Change]:
    """One message is gone."""

    def make(log: Log) -> Change:
        sequence = log.at(name, kind)
        return lambda message: None if message.sequence == sequence else message

    return make


def charge_key(log: Log, name: str, step: int, start: int) -> str:
    """Under which a step of a task is charged."""
    return f"{log.ids.get(name, name)}/{step}/{start}"


def uncharged(name: str, step: int, start: int) -> Callable[[Log], Settled]:
    """A step was never settled."""
    return lambda log: (
        lambda records: [
            record for record in records if record.key != charge_key(log, name, step, start)
        ]
    )


def charged(
    name: str, step: int, start: int, micros: int, *, tenant: str = real_mesh.TENANT, call: str = ""
) -> Callable[[Log], Settled]:
    """A step was settled at this cost, whatever it was before."""

    def make(log: Log) -> Settled:
        key = charge_key(log, name, step, start) + call

        def change(records: list[UsageRecord]) -> list[UsageRecord]:
            record = UsageRecord()
            record.CopyFrom(records[-1])
            record.tenant, record.key, record.usage.cost_micros = tenant, key, micros
            others = [each for each in records if (each.tenant, each.key) != (tenant, key)]
            return [*others, record]

        return change

    return make


def one(name: str, *kinds: str) -> Callable[[Log], list[Sequences]]:
    """One finding, at these events of one task."""
    return lambda log: [tuple(log.at(name, kind) for kind in kinds)]


def each(name: str, *kinds: str) -> Callable[[Log], list[Sequences]]:
    """A finding at each of these events of one task."""
    return lambda log: [(log.at(name, kind),) for kind in kinds]


def at_end(log: Log) -> list[Sequences]:
    """One finding, at what was appended to the log."""
    return [(log.end + 1,)]


def nowhere(log: Log) -> list[Sequences]:
    """One finding that no event stands for."""
    return [()]


def set_parent(event: TaskEvent, parent: str, depth: int) -> None:
    """Makes the task of the event a child of `parent`."""
    event.status.parent_task = parent
    if event.HasField("submitted"):
        event.submitted.task.parent_task, event.submitted.task.depth = parent, depth


def task_name(task_id: str, tenant: str = real_mesh.TENANT) -> str:
    """The resource name of a task."""
    return subjects.task_name(tenant, task_id)


def ended_again(message: StoredMessage, end: str) -> bytes:
    """The event in `message`, followed by another end."""
    event = TaskEvent.FromString(message.payload)
    event.sequence += 1
    event.ClearField("completed")
    event.ClearField("usage")
    getattr(event, end).SetInParent()
    if end == "cancelled":
        event.status.state = task_pb2.TASK_STATE_CANCELLED
    return event.SerializeToString()


def spend(usage: Usage) -> None:
    """A token more."""
    usage.input_tokens += 1


async def drop_blob(copy: Copy, part: str) -> None:
    """Removes the chunks (C) or the description (M) of all large content."""
    await copy.bus.purge(BLOBS, f"$O.blobs.{part}.>")


async def reserve(copy: Copy, key: str, *, seconds: int) -> None:
    """Has the governor reserve a micro-dollar that expires by the clock of Redis then."""
    expires = round((datetime.now(UTC) + timedelta(seconds=seconds)).timestamp() * 1000)
    prefix, call = "governor:{spend}:", f"{real_mesh.TENANT}/{key}"
    names = [name.decode() async for name in copy.redis.scan_iter(f"{prefix}tenant:*")]
    counters = " ".join(name.removeprefix(prefix) for name in names)
    await copy.redis.set(f"{prefix}call:{call}", f"reserved 1 1 {expires} 0 - {counters}")
    await copy.redis.zadd(f"{prefix}expiry", {call: expires})
    await copy.count("reserved", 1)
