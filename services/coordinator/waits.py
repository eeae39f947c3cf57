"""How the wait of a task ends by itself: at its time, or with its children."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from agentmesh.common.v1 import usage_pb2
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import ChildResult, TaskEvent, TaskWaiting
from agentmesh.coordinator.v1.task_pb2 import TaskWait
from meshkit.clock import Clock
from meshkit.errors import Conflict
from tasklog import lifecycle
from tasklog.task_log import Entry

# Any replica answers reads, and one may be behind: by then it has caught up.
_LOOK_AGAIN: Final = timedelta(seconds=1)
# How long a wait that ran out waits for its children to stop.
_STOPPING: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Standing:
    """How the children of a wait stand."""

    # In the order they were asked for.
    results: Sequence[ChildResult] = ()
    # When to submit those again that found a full queue; None where there are none.
    retry_seconds: float | None = None

    @property
    def have_ended(self) -> bool:
        """Whether nothing more can come of any of them."""
        return self.retry_seconds is None and all(map(_has_ended, self.results))


class Log(Protocol):
    """The event log of every task."""

    async def append(self, tenant: str, task_id: str, event: TaskEvent, *, after: int) -> Entry: ...
    async def last(self, tenant: str, task_id: str) -> Entry | None: ...
    def read(
        self, tenant: str, task_id: str, *, from_stream_sequence: int
    ) -> AsyncIterator[Entry]: ...


class Family(Protocol):
    """Knows how the children of a task stand."""

    async def standing(self, tenant: str, waiting: TaskWaiting, *, submit: bool) -> Standing:
        """How each child stands; with `submit`, those that are not there yet are submitted."""
        ...

    async def any_open(self, tenant: str, waiting: TaskWaiting) -> bool:
        """Whether a child is there that has not ended. Quicker than `standing`."""
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
        if waiting.wait.HasField("children"):
            return await self._attend_family(tenant, task_id, wait)
        due = _due(waiting.wait)
        if due is not None and due <= self._clock.now():
            expired = not waiting.wait.HasField("until")
            return await self._resume(tenant, task_id, wait, (), expired=expired)
        return due

    async def _attend_family(self, tenant: str, task_id: str, wait: Entry) -> datetime | None:
        waiting = wait.event.waiting
        due = _due(waiting.wait)
        is_over = due is not None and due <= self._clock.now()
        standing = await self._family.standing(tenant, waiting, submit=not is_over)
        if is_over and not standing.have_ended:
            # Stopped first, so that what they used is known when the parent goes on.
            await self._family.cancel(tenant, waiting, _no_longer(wait))
            standing = await self._family.standing(tenant, waiting, submit=False)
        if standing.have_ended:
            return await self._go_on(tenant, task_id, wait, standing)
        now = self._clock.now()
        if due is not None and due + _STOPPING <= now:
            return await self._resume(tenant, task_id, wait, standing.results, expired=True)
        if is_over:
            return self._soon()
        if not await self._still_waits(tenant, task_id, wait):
            # It was cancelled while its children were submitted.
            return now
        if standing.retry_seconds is None:
            return due
        retry = now + timedelta(seconds=standing.retry_seconds)
        return retry if due is None else min(due, retry)

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
        due = _due(wait.event.waiting.wait)
        submit = due is None or self._clock.now() < due
        standing = await self._family.standing(tenant, wait.event.waiting, submit=submit)
        if not standing.have_ended:
            if not await self._still_waits(tenant, parent_id, wait):
                # It was cancelled while others of its children were submitted.
                return await self._let_go(tenant, parent_id, wait)
            return again
        return await self._go_on(tenant, parent_id, wait, standing)

    async def _go_on(
        self, tenant: str, task_id: str, wait: Entry, standing: Standing
    ) -> datetime | None:
        """Has the task go on, now that all of its children have ended."""
        due = _due(wait.event.waiting.wait)
        # Those that did all they were asked for just came late.
        expired = (
            due is not None and due <= self._clock.now() and any(map(_is_cut, standing.results))
        )
        return await self._resume(tenant, task_id, wait, standing.results, expired=expired)

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
                await self._family.cancel(tenant, wait.event.waiting, _no_longer(wait))
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


def _no_longer(wait: Entry) -> str:
    return f"{wait.event.task} no longer waits for it."


def _is_cut(child: ChildResult) -> bool:
    """Whether the end of the wait may have been its end, too."""
    return not child.task or child.state == task_pb2.TASK_STATE_CANCELLED


def _has_ended(child: ChildResult) -> bool:
    # One that was never accepted has ended too.
    return not child.task or child.state in lifecycle.TERMINAL
