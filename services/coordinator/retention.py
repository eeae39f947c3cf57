"""Removes the content of tasks that ended long ago, and leaves one event of each.

The event `expired` is appended first: from then on it is the task. The log is
cut last: as long as there are events before it, something may be left to
remove, and whoever sees that removes it. So a crash anywhere leaves a task
that can be asked for, and a removal that is finished later.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskStatus
from meshkit import names
from meshkit.clock import Clock
from meshkit.errors import Conflict, CorruptData, DependencyUnavailable, MeshError
from meshkit.log import Log as Journal
from tasklog import lifecycle
from tasklog.policy import Policy
from tasklog.task_log import Entry

# Whoever waits for a task has so long to read its end.
_GRACE: Final = timedelta(minutes=1)
# Writes are looked at together, and a fault is tried again, after so long.
_PAUSE: Final = timedelta(minutes=1)
# The longest rest.
_REST: Final = timedelta(hours=1)
_PAGE: Final = 100
# Other coordinators and operators write to an ended task, nobody else.
_TURNS: Final = 5
_NOTE: Final = task_pb2.TaskNote(
    code="CONTENT_EXPIRED",
    text="What the task was given and what it answered was removed after the time or the"
    " space that its tenant has.",
)


@dataclass(frozen=True, slots=True)
class EndedTask:
    """A task that has ended, as far as the read model knows."""

    tenant: str
    task_id: str
    ended: datetime
    # Of its log and its large content.
    size_bytes: int


@dataclass(frozen=True, slots=True)
class TenantUse:
    """What a tenant's tasks take."""

    tenant: str
    size_bytes: int
    # When the first of those that can be removed ended; None without one.
    oldest_ended: datetime | None


class EndedTasks(Protocol):
    """Finds the tasks that have ended; it may lag behind the logs."""

    async def tenants(self) -> Sequence[TenantUse]: ...
    async def oldest(
        self, tenant: str, *, before: datetime, letters: bool, after: EndedTask | None, limit: int
    ) -> Sequence[EndedTask]:
        """The next tasks that ended before a time, the first to end first; after `after`.

        None whose parent is open; dead letters nobody discarded only with `letters`.
        """
        ...

    async def half_removed(
        self, *, after: tuple[str, str] | None, limit: int
    ) -> Sequence[tuple[str, str]]:
        """Tenant and id of the next tasks that are marked, and may have content still."""
        ...

    async def removed(self, tenant: str, task_id: str) -> None:
        """Takes note that a task has no content any more."""
        ...


class Log(Protocol):
    """The event log of every task."""

    async def ends(self, tenant: str, task_id: str) -> tuple[Entry, Entry] | None: ...
    async def append(self, tenant: str, task_id: str, event: TaskEvent, *, after: int) -> Entry: ...


class TaskContent(Protocol):
    """Everything that a task has besides the event that stays."""

    async def remove_snapshot(self, tenant: str, task_id: str) -> None: ...
    async def remove_blobs(self, tenant: str, task_id: str) -> None: ...
    async def remove_events(self, tenant: str, task_id: str, *, before: int) -> None: ...


class Policies(Protocol):
    """Knows the policy in force."""

    @property
    def current(self) -> Policy: ...


class Retention:
    """Keeps every tenant within the age and the bytes of its tier.

    Any number of coordinators may do so at once: the log decides who marks a
    task as expired, and every removal may be repeated.
    """

    def __init__(
        self,
        *,
        ended: EndedTasks,
        log: Log,
        content: TaskContent,
        policies: Policies,
        clock: Clock,
        writer: str,
        journal: Journal,
    ) -> None:
        self._ended = ended
        self._log = log
        self._content = content
        self._policies = policies
        self._clock = clock
        self._writer = writer
        self._journal = journal
        self._news = asyncio.Event()

    def look(self) -> None:
        """Has a resting `run` look again soon: tasks were written, or the policy has changed."""
        self._news.set()

    async def run(self) -> None:
        """Runs until cancelled; rests until the next task is due, or there is news."""
        while True:
            self._news.clear()
            try:
                await self.remove_due()
                rest = await self._until_due()
            except MeshError as error:
                self._journal.warning("retention.failed", error=str(error))
                rest = _PAUSE
            await self._clock.sleep(_PAUSE.total_seconds())
            await self._rest((rest - _PAUSE).total_seconds())

    async def remove_due(self) -> None:
        """Removes what may not be kept any longer.

        Raises:
            DependencyUnavailable: The broker or the read model is away; do it again later.
        """
        await self._finish()
        for use in await self._ended.tenants():
            await self._remove_old(use.tenant)
        for use in await self._ended.tenants():
            await self._remove_excess(use)

    async def _finish(self) -> None:
        """Removes what others left half removed, or finds that they did not."""
        last: tuple[str, str] | None = None
        while tasks := await self._ended.half_removed(after=last, limit=_PAGE):
            for tenant, task_id in tasks:
                await self._remove(tenant, task_id, before=self._clock.now(), letters=True)
            last = tasks[-1]

    async def _remove_old(self, tenant: str) -> None:
        age, removed = self._age(tenant), 0
        if age is None:
            return
        before = self._clock.now() - age
        async for task in self._oldest(tenant, before=before, letters=True):
            removed += await self._remove(tenant, task.task_id, before=before, letters=True)
        self._tell(tenant, removed, why="age")

    async def _remove_excess(self, use: TenantUse) -> None:
        # A dead letter that nobody has discarded stays for its whole time: it is
        # work that was accepted and is not done.
        limit = self._policies.current.tenant(use.tenant).retention_bytes
        excess, removed = use.size_bytes - limit, 0
        if not limit or excess <= 0:
            return
        before = self._clock.now() - _GRACE
        async for task in self._oldest(use.tenant, before=before, letters=False):
            if await self._remove(use.tenant, task.task_id, before=before, letters=False):
                removed += 1
                excess -= task.size_bytes
            if excess <= 0:
                break
        self._tell(use.tenant, removed, why="bytes")

    async def _oldest(
        self, tenant: str, *, before: datetime, letters: bool
    ) -> AsyncGenerator[EndedTask]:
        last: EndedTask | None = None
        while page := await self._ended.oldest(
            tenant, before=before, letters=letters, after=last, limit=_PAGE
        ):
            for last in page:
                yield last

    async def _remove(self, tenant: str, task_id: str, *, before: datetime, letters: bool) -> bool:
        """Removes a task's content, unless its log says that it has to stay."""
        try:
            kept = await self._expire(tenant, task_id, before=before, letters=letters)
            if kept is None:
                return False
            await self._content.remove_snapshot(tenant, task_id)
            await self._content.remove_blobs(tenant, task_id)
            await self._content.remove_events(tenant, task_id, before=kept)
        except DependencyUnavailable:
            raise
        except MeshError as error:
            self._journal.error("retention.task_failed", task=task_id, error=str(error))
            return False
        await self._ended.removed(tenant, task_id)
        return True

    async def _expire(
        self, tenant: str, task_id: str, *, before: datetime, letters: bool
    ) -> int | None:
        """The stream sequence of the task's event `expired`, appended if need be.

        None where the task has to stay.
        """
        for _ in range(_TURNS):
            ends = await self._log.ends(tenant, task_id)
            if ends is None:
                return None
            first, last = ends
            if last.event.HasField("expired"):
                return last.stream_sequence
            if not await self._may_go(last.event.status, before=before, letters=letters):
                return None
            event = self._remainder(first.event, last.event)
            with contextlib.suppress(Conflict):
                entry = await self._log.append(tenant, task_id, event, after=last.stream_sequence)
                return entry.stream_sequence
        return None

    async def _may_go(self, status: TaskStatus, *, before: datetime, letters: bool) -> bool:
        """Whether the log agrees with the read model, which may lag."""
        if status.state not in lifecycle.TERMINAL:
            return False
        if status.end_time.ToDatetime(tzinfo=UTC) >= before:
            return False
        if status.state == task_pb2.TASK_STATE_DEAD_LETTERED and not (letters or status.discarded):
            return False
        if not status.parent_task:
            return True
        parent = await self._log.ends(*names.TASK.parse(status.parent_task, field="parent_task"))
        return parent is None or parent[1].event.status.state in lifecycle.TERMINAL

    def _remainder(self, first: TaskEvent, last: TaskEvent) -> TaskEvent:
        if not first.HasField("submitted"):
            raise CorruptData(f"The log of {first.task} does not begin with its submission.")
        event = lifecycle.new_event(last.task, self._writer)
        event.expired.request_digest = first.submitted.request_digest
        event.expired.agent = first.submitted.task.agent
        return lifecycle.advance(
            last.status,
            event,
            sequence=last.sequence + 1,
            time=self._clock.now(),
            notes=[_NOTE],
        )

    def _age(self, tenant: str) -> timedelta | None:
        tier = self._policies.current.tenant(tenant)
        return max(tier.retention.ToTimedelta(), _GRACE) if tier.HasField("retention") else None

    def _tell(self, tenant: str, removed: int, *, why: str) -> None:
        if removed:
            self._journal.info("retention.removed", tenant=tenant, tasks=removed, why=why)

    async def _until_due(self) -> timedelta:
        """How long nothing is due, if nothing is written meanwhile."""
        rest, now = _REST, self._clock.now()
        for use in await self._ended.tenants():
            age = self._age(use.tenant)
            if age is not None and use.oldest_ended is not None:
                rest = min(rest, use.oldest_ended + age - now)
        return max(rest, _PAUSE)

    async def _rest(self, seconds: float) -> None:
        """Returns after that time, or when there is news."""
        waits = (
            asyncio.ensure_future(self._clock.sleep(seconds)),
            asyncio.ensure_future(self._news.wait()),
        )
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
