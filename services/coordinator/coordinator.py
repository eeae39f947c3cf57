"""How tasks are accepted, shown and stopped."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final, Protocol

from agentmesh.coordinator.v1 import task_event_pb2, task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit.clock import Clock
from meshkit.errors import Conflict, TaskNotFound
from meshkit.ids import Ids
from services.coordinator.acceptance import Acceptance, Accepted, Gate
from tasklog import lifecycle, subjects
from tasklog.following import Following
from tasklog.task_log import Entry, TaskLog

# A cancel meets a busy executor's appends: each turn loses to at most one of them.
_CANCEL_TURNS: Final = 20
# What a page of events may take, one that is larger by itself excepted: a
# message of 8 MiB has room for it.
_PAGE_BYTES: Final = 4 * 1024 * 1024
# Stored events on their way; large content is read one by one.
_READ_AHEAD: Final = 64


class Parents(Protocol):
    """Knows how the parents of tasks stand."""

    async def was_cancelled(self, parent_task: str) -> bool: ...


class CancelSignal(Protocol):
    """Tells executors at once that a task should stop."""

    async def send(self, tenant: str, task_id: str) -> None: ...


class Coordinator:
    """The rules of CoordinatorService, over a log and a few helpers."""

    def __init__(
        self,
        *,
        log: TaskLog,
        acceptance: Acceptance,
        gates: Sequence[Gate],
        parents: Parents,
        cancel_signal: CancelSignal,
        clock: Clock,
        ids: Ids,
        writer: str,
    ) -> None:
        """`gates` are those that the tasks of clients must pass."""
        self._log = log
        self._acceptance = acceptance
        self._gates = gates
        self._parents = parents
        self._cancel_signal = cancel_signal
        self._clock = clock
        self._ids = ids
        self._writer = writer

    def task_id(self, tenant: str, request_id: str) -> str:
        """The id of the task that `request_id` submits: a new one where that is empty."""
        return self._ids.stable(tenant, request_id) if request_id else self._ids.new()

    async def submit(
        self, tenant: str, requested: Task, request_id: str, *, task_id: str = ""
    ) -> Accepted:
        """Accepts a client's task durably, once for each `request_id`.

        Args:
            tenant: Whose task it is.
            requested: What to do.
            request_id: Makes the call repeatable; empty where it is not.
            task_id: What `task_id` answered, where the caller asked already.

        Raises:
            AgentNotFound: There is no such agent.
            BudgetExhausted: The tenant may not spend more.
            RateLimited: The tenant submits too fast.
            QueueFull: The tenant has too many tasks queued in the lane.
            RequestIdReused: `request_id` submitted another task.
            InvalidField: The parent cannot have this child.
            TaskStateError: The parent has ended.
        """
        task_id = task_id or self.task_id(tenant, request_id)
        accepted = await self._acceptance.accept(
            tenant,
            requested,
            task_id=task_id,
            gates=self._gates,
            request_id=request_id,
            is_new=not request_id,
        )
        parent = accepted.task.parent_task
        if parent and await self._parents.was_cancelled(parent):
            # The cancel came between the look at the parent and now, and missed this child.
            task = await self.cancel(tenant, task_id, f"Its parent {parent} was cancelled.")
            return Accepted(task, accepted.first)
        return accepted

    async def get(self, tenant: str, task_id: str) -> Task:
        """The task as its log stands; TaskNotFound where there is none.

        Content that is lost is missing from it, and a note says so.
        """
        return await self._log.shown(tenant, task_id)

    async def follow(
        self, tenant: str, task_id: str, *, after_sequence: int
    ) -> AsyncGenerator[TaskEvent]:
        """Every event after `after_sequence`, until the task has ended."""
        async with (
            Following(self._log, tenant, task_id) as following,
            aclosing(following.events(after_sequence=after_sequence)) as events,
        ):
            async for event in events:
                yield event

    async def events(
        self, tenant: str, task_id: str, *, from_stream_sequence: int, limit: int
    ) -> tuple[list[Entry], int]:
        """A page of events as they stand, oldest first, and where the next one begins.

        At most `limit` events, and about 4 MiB of them, but at least one. An event
        whose large content is lost has the reference alone. The next page
        begins at a stream sequence; 0 where there is none.

        Raises:
            TaskNotFound: There is no such task.
        """
        found: list[Entry] = []
        size_bytes = 0
        async with aclosing(
            self._log.read(
                tenant,
                task_id,
                from_stream_sequence=from_stream_sequence,
                batch=min(limit + 1, _READ_AHEAD),
                lenient=True,
            )
        ) as entries:
            async for entry in entries:
                size_bytes += entry.event.ByteSize()
                if found and (len(found) == limit or size_bytes > _PAGE_BYTES):
                    return found, entry.stream_sequence
                found.append(entry)
        if not found and await self._log.last(tenant, task_id) is None:
            raise _not_found(tenant, task_id)
        return found, 0

    async def cancel(self, tenant: str, task_id: str, reason: str) -> Task:
        """Asks a task to stop; one that has ended stays as it is.

        Raises:
            TaskNotFound: There is no such task.
            Conflict: The task moved on so often that the cancel found no gap.
        """
        for turn in range(_CANCEL_TURNS):
            last = await self._log.last(tenant, task_id)
            if last is None:
                raise _not_found(tenant, task_id)
            status = last.event.status
            if status.state in lifecycle.TERMINAL:
                break
            if status.cancel_requested:
                await self._cancel_signal.send(tenant, task_id)
                break
            event = lifecycle.new_event(last.event.task, self._writer)
            if status.state == task_pb2.TASK_STATE_RUNNING:
                event.cancel_requested.reason = reason
                event.cancel_requested.SetInParent()
            else:
                event.cancelled.CopyFrom(task_event_pb2.TaskCancelled(reason=reason))
            lifecycle.advance(
                status, event, sequence=last.event.sequence + 1, time=self._clock.now()
            )
            try:
                await self._log.append(tenant, task_id, event, after=last.stream_sequence)
            except Conflict:
                if turn + 1 == _CANCEL_TURNS:
                    raise
                continue
            await self._cancel_signal.send(tenant, task_id)
            break
        return await self._log.shown(tenant, task_id)


def _not_found(tenant: str, task_id: str) -> TaskNotFound:
    return TaskNotFound(f"There is no task {subjects.task_name(tenant, task_id)!r}.")
