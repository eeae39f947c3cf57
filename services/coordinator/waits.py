"""How the wait of a task ends by itself: at its time, or with its children."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from agentmesh.common.v1 import usage_pb2
from agentmesh.coordinator.v1.task_event_pb2 import ChildResult, TaskEvent, TaskWaiting
from agentmesh.coordinator.v1.task_pb2 import TaskWait
from meshkit.clock import Clock
from meshkit.errors import Conflict
from tasklog import lifecycle
from tasklog.task_log import Entry

# Any replica answers reads, and one may be behind: by then it has caught up.
_LOOK_AGAIN: Final = timedelta(seconds=1)


class Log(Protocol):
    """The event log of every task."""

    async def append(self, tenant: str, task_id: str, event: TaskEvent, *, after: int) -> Entry: ...
    async def last(self, tenant: str, task_id: str) -> Entry | None: ...
    def read(
        self, tenant: str, task_id: str, *, from_stream_sequence: int
    ) -> AsyncIterator[Entry]: ...


class Family(Protocol):
    """Knows how the children of a task stand."""

    async def results(self, tenant: str, waiting: TaskWaiting) -> Sequence[ChildResult]:
        """How each child stands, in their order; those that are not there yet are submitted."""
        ...

    async def any_open(self, tenant: str, waiting: TaskWaiting) -> bool:
        """Whether a child is there that has not ended. Quicker than `results`."""
        ...

    async def cancel(self, tenant: str, waiting: TaskWaiting, reason: str) -> None:
        """Asks every child that has not ended to stop."""
        ...


class Waits:
    """Attends to the waits of all tasks. What it does may be done again, and by several at once."""

    def __init__(self, log: Log, family: Family, clock: Clock, *, writer: str) -> None:
        self._log = log
        self._family = family
        self._clock = clock
        self._writer = writer

    async def attend(self, tenant: str, task_id: str, wait: Entry) -> datetime | None:
        """Does what is to be done about a wait now; when to look again, None for never."""
        last = await self._log.last(tenant, task_id)
        if last is None or last.stream_sequence < wait.stream_sequence:
            return self._soon()  # a replica answered that does not have the wait yet
        if last.stream_sequence > wait.stream_sequence:
            return await self._let_go(tenant, task_id, wait)
        waiting = wait.event.waiting
        results: Sequence[ChildResult] = ()
        if waiting.wait.HasField("children"):
            results = await self._family.results(tenant, waiting)
            if all(map(_has_ended, results)):
                return await self._resume(tenant, task_id, wait, results, expired=False)
        due = _due(waiting.wait)
        if due is not None and due <= self._clock.now():
            expired = not waiting.wait.HasField("until")
            return await self._resume(tenant, task_id, wait, results, expired=expired)
        if results and not await self._still_waits(tenant, task_id, wait):
            # It was cancelled while its children were submitted.
            return self._clock.now()
        return due

    async def child_ended(
        self, tenant: str, parent_id: str, child: str, *, first: bool
    ) -> datetime | None:
        """Has the parent go on if `child` was the last one that it waited for.

        Returns when to look again, None for never. At the `first` look a replica that is
        behind may show a parent that does not wait yet, or, of two children that
        end at once, to each the other as open: nobody would tell the parent then.
        """
        again = self._soon() if first else None
        wait = await self._log.last(tenant, parent_id)
        if wait is None or child not in wait.event.waiting.wait.children.tasks:
            return again
        if await self._family.any_open(tenant, wait.event.waiting):
            return again
        results = await self._family.results(tenant, wait.event.waiting)
        if not all(map(_has_ended, results)):
            return again
        return await self._resume(tenant, parent_id, wait, results, expired=False)

    async def _still_waits(self, tenant: str, task_id: str, wait: Entry) -> bool:
        last = await self._log.last(tenant, task_id)
        return last is not None and last.stream_sequence == wait.stream_sequence

    async def _resume(
        self,
        tenant: str,
        task_id: str,
        wait: Entry,
        results: Sequence[ChildResult],
        *,
        expired: bool,
    ) -> datetime | None:
        event = lifecycle.new_event(wait.event.task, self._writer)
        event.resumed.expired = expired
        event.resumed.children.extend(results)
        usage = usage_pb2.Usage()
        for result in results:
            lifecycle.add_usage(usage, result.usage)
        now = self._clock.now()
        lifecycle.advance(
            wait.event.status, event, sequence=wait.event.sequence + 1, time=now, usage=usage
        )
        try:
            await self._log.append(tenant, task_id, event, after=wait.stream_sequence)
        except Conflict:
            # Somebody else was quicker: a signal, a cancel, another coordinator.
            return now
        return await self._let_go(tenant, task_id, wait)

    async def _let_go(self, tenant: str, task_id: str, wait: Entry) -> datetime | None:
        """Stops the children that nobody waits for any more."""
        if not wait.event.waiting.children:
            return None
        async for entry in self._log.read(
            tenant, task_id, from_stream_sequence=wait.stream_sequence + 1
        ):
            # A wait that ended with all of its children leaves none to be stopped;
            # one of them may have been redriven since.
            if entry.event.HasField("cancelled") or entry.event.resumed.expired:
                reason = f"{wait.event.task} no longer waits for it."
                await self._family.cancel(tenant, wait.event.waiting, reason)
            return None
        return self._soon()  # a replica answered that does not know the end of the wait yet

    def _soon(self) -> datetime:
        return self._clock.now() + _LOOK_AGAIN


def _due(wait: TaskWait) -> datetime | None:
    times = [
        getattr(wait, field).ToDatetime(tzinfo=UTC)
        for field in ("until", "expire_time")
        if wait.HasField(field)
    ]
    return min(times, default=None)


def _has_ended(child: ChildResult) -> bool:
    # One that was never accepted has ended too.
    return not child.task or child.state in lifecycle.TERMINAL
