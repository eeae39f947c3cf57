"""What must be true after any fault."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from redis.asyncio import Redis

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task
from audit import api as audit
from audit.api import Invariant
from meshkit import identity, names, redis_store
from meshkit.bus import Bus
from meshkit.client import Channels
from meshkit.clock import SystemClock
from meshkit.identity import Identity
from meshtest.eventually import eventually
from meshtest.everywhere import Everywhere
from tasklog import fold, lifecycle, partition_store
from tasklog.task_log import TaskLog
from tests.faults.load import Load
from tests.faults.outside import Outside
from tests.faults.question import Question

# By then whatever was accepted has ended.
_ENDED_WITHIN_SECONDS: Final = 90.0
_SETTLED_WITHIN_SECONDS: Final = 60.0
_LISTED_WITHIN_SECONDS: Final = 30.0
_STEPS: Final = lifecycle.STEP_KINDS | {"completed"}
# What a child's answer says, in its parent's; the note on it stays with the child.
_COULD_NOT: Final = re.compile(r"I could not calculate|I was offered no calculator")
_WITHOUT_TOOLS: Final = frozenset({"TOOL_SKIPPED", "TOOLS_SKIPPED"})
# How tasks end unless a test knows better.
EXPECTED: Final = frozenset({task_pb2.TASK_STATE_SUCCEEDED})


class Judged(Protocol):
    """A mesh of separate processes."""

    @property
    def address(self) -> str:
        """Of the gateway."""
        ...

    @property
    def nats_url(self) -> str:
        """Of the broker."""
        ...

    @property
    def redis_url(self) -> str:
        """Of the store."""
        ...

    @property
    def counters_url(self) -> str:
        """Of the store of the counters of budgets."""
        ...

    @property
    def deaths(self) -> Sequence[str]:
        """Who died though no fault said so, and how."""
        ...

    @property
    def outside(self) -> Outside | None:
        """What its tools change; None where that is nothing."""
        ...


class _Later(SystemClock):
    """An audit is patient with what may still be on its way; nothing is, minutes later."""

    def now(self) -> datetime:
        """Minutes from now."""
        return super().now() + timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Ended:
    """A task that has ended, and how it came to that."""

    task: Task
    events: tuple[TaskEvent, ...]

    @property
    def id(self) -> str:
        """The last part of its name."""
        return names.TASK.parse(self.task.name, field="name")[1]

    @property
    def degraded(self) -> bool:
        """Whether it, or a child task, had to do without something that its answer needs."""
        without = any(note.code in _WITHOUT_TOOLS for note in self.task.notes)
        parts = [child for event in self.events for child in event.resumed.children]
        failed = any(child.state != task_pb2.TASK_STATE_SUCCEEDED for child in parts)
        could_not = parts and _COULD_NOT.search(self.task.output.text)
        return without or failed or bool(could_not)

    def kinds(self) -> list[str]:
        """What happened, in order."""
        return [event.WhichOneof("kind") or "" for event in self.events]


async def after_the_fault(
    mesh: Judged,
    load: Load,
    *,
    may_end: frozenset[task_pb2.TaskState] = EXPECTED,
    overlooked: frozenset[Invariant] = frozenset(),
) -> Mapping[str, Ended]:
    """Every accepted task, by name, after all promises were found kept.

    Args:
        mesh: Everything in it runs again.
        load: All its questions were accepted.
        may_end: How tasks may have ended.
        overlooked: What the audit may find broken.
    """
    async with (
        await Bus.connect(mesh.nats_url, name="verdict") as bus,
        aclosing(redis_store.connect(mesh.redis_url)) as redis,
        aclosing(redis_store.connect(mesh.counters_url)) as counters,
    ):
        log = TaskLog(bus, await partition_store.look_up(bus))
        ended = {name: await _ended(log, name) for name in load.accepted}
        print(f"{len(ended)} tasks: {_count(ended)}; {len(load.first_errors)} calls repeated")
        for each in ended.values():
            if each.task.state != task_pb2.TASK_STATE_SUCCEEDED or each.degraded:
                print(_told(each))
        for name, each in ended.items():
            assert each.task.state in may_end, _told(each)
            # A task that had to do without its tool says so.
            if each.task.state == task_pb2.TASK_STATE_SUCCEEDED and not each.degraded:
                _has_its_answer(each, load.accepted[name])
            if mesh.outside is not None:
                _has_its_effects(each, mesh.outside)
        await _nothing_found(bus, redis, counters, overlooked=overlooked)
    await _lists_are_right(mesh.address, load.accepted.keys(), ended)
    for name, sequences in load.watched.items():
        # The watcher saw what the log holds: no gap, no repeat.
        assert sequences == [event.sequence for event in ended[name].events], name
    # Nobody dies of what happens to others.
    assert not mesh.deaths, mesh.deaths
    return ended


async def _ended(log: TaskLog, name: str) -> Ended:
    tenant, task_id = names.TASK.parse(name, field="name")

    async def over() -> bool:
        last = await log.last(tenant, task_id)
        assert last is not None, f"{name} was accepted and is lost"
        state = last.event.status.state
        assert state in lifecycle.TERMINAL, f"{name} is {lifecycle.state_name(state)}"
        return True

    await eventually(over, _ENDED_WITHIN_SECONDS)
    events = [entry.event async for entry in log.read(tenant, task_id)]
    # No step missing, none doubled, none where it must not be.
    last = fold.replay(events)
    ends = [event for event in events if event.status.state in lifecycle.TERMINAL]
    assert len(ends) == 1, f"{name} ended {len(ends)} times"
    return Ended(fold.task_of(events[0], last), tuple(events))


def _has_its_answer(ended: Ended, question: Question) -> None:
    """Each question has its own answer, and each step of it was made once."""
    said = ended.task.output.text.replace(",", "")
    assert all(f" is {answer}." in said for answer in question.answers), _told(ended)
    steps = tuple(kind for kind in ended.kinds() if kind in _STEPS)
    assert steps == question.steps, _told(ended)


def _has_its_effects(ended: Ended, outside: Outside) -> None:
    """What the log says was done outside was done, under one key a call."""
    recorded = {
        event.tool_called.idempotency_key
        for event in ended.events
        if event.tool_called.result.tool == "calculator" and not event.tool_called.result.is_error
    }
    done = set(outside.of_task(ended.id))
    assert recorded <= done, _told(ended)
    # A task may have died before it could record its only call, but it never made another
    # unless a person told it to.
    assert len(done) <= 1 + ended.kinds().count("resumed"), _told(ended)


async def _lists_are_right(
    address: str, accepted: Collection[str], ended: Mapping[str, Ended]
) -> None:
    """Each question made one task, whichever try it was, and lists show it as it ended."""
    async with Channels(Everywhere(address), caller="user:verdict") as channels:
        tasks = CoordinatorServiceStub(channels.get("gateway"))

        async def right() -> bool:
            tenants = {name.split("/")[1] for name in accepted}
            listed = [task for tenant in tenants for task in await _listed(tasks, tenant)]
            asked_for = {task.name: task.state for task in listed if not task.parent_task}
            assert asked_for.keys() == set(accepted), asked_for.keys() ^ set(accepted)
            wrong = [name for name in accepted if asked_for[name] != ended[name].task.state]
            assert not wrong, wrong
            return True

        await eventually(right, _SETTLED_WITHIN_SECONDS)


async def _listed(tasks: CoordinatorServiceStub, tenant: str) -> list[Task]:
    """All tasks of a tenant, by its lists."""
    found: list[Task] = []
    request = pb.ListTasksRequest(parent=f"tenants/{tenant}", page_size=1_000)
    with identity.use(Identity(tenant, "user:verdict")):
        while True:
            page = await tasks.ListTasks(request, timeout=_LISTED_WITHIN_SECONDS)
            found += page.tasks
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token


async def _nothing_found(
    bus: Bus, redis: Redis, counters: Redis, *, overlooked: frozenset[Invariant]
) -> None:
    """The audit finds nothing, once what is settled later has been."""

    async def clean() -> bool:
        report = await audit.run(bus, redis, counters=counters, clock=_Later())
        found = [each for each in report.findings if each.invariant not in overlooked]
        assert not found, "\n".join(f"{each.invariant}: {each.sentence}" for each in found)
        return True

    await eventually(clean, _SETTLED_WITHIN_SECONDS)


def _count(ended: Mapping[str, Ended]) -> dict[str, int]:
    return dict(Counter(lifecycle.state_name(each.task.state) for each in ended.values()))


def _told(ended: Ended) -> str:
    """The task's story, for who reads a failed test."""
    begun = ended.events[0].time.ToNanoseconds()
    story = ", ".join(
        f"{event.WhichOneof('kind')} by {event.writer.partition('/')[2][:8]}"
        f" at {(event.time.ToNanoseconds() - begun) / 1e9:.2f} s"
        for event in ended.events
    )
    return f"{ended.task.name}: {story}; {ended.task.error.message} {ended.task.output.text!r}"
