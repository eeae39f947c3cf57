"""What is done with tasks whose every attempt failed: they are put back, or discarded."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Protocol

from agentmesh.coordinator.v1 import task_event_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit import names
from meshkit.clock import Clock
from meshkit.errors import Conflict, DeadLetterNotFound, MeshError, TaskStateError
from services.coordinator.read_model import DeadLetterFilter, LetterPage
from tasklog import lifecycle, subjects
from tasklog.subjects import Queue
from tasklog.task_log import Entry

# Only other operators and retention write to a dead letter.
_TURNS: Final = 5
# How many dead letters are looked up at once.
_PAGE: Final = 100


class Log(Protocol):
    """The event log of every task."""

    async def append(self, tenant: str, task_id: str, event: TaskEvent, *, after: int) -> Entry: ...
    async def last(self, tenant: str, task_id: str) -> Entry | None: ...
    async def shown(self, tenant: str, task_id: str) -> Task: ...
    def read_stored(self, tenant: str, task_id: str) -> AsyncGenerator[Entry]: ...


class Queues(Protocol):
    """Where runnable tasks stand in line."""

    async def ensure(self, queue: Queue) -> None:
        """Makes the queue if nobody has yet."""
        ...


class Letters(Protocol):
    """The list of dead letters; it may lag behind the logs."""

    async def dead_letters(
        self, wanted: DeadLetterFilter, *, position: str | None, limit: int
    ) -> LetterPage: ...


@dataclass(frozen=True, slots=True)
class Redriven:
    """One of many dead letters was put back, or could not be."""

    # Its name.
    task: str
    # Why it could not be put back.
    error: MeshError | None
    # How many were put back so far.
    count: int


class DeadLetters:
    """Puts dead letters back, or discards them. The log decides between two who do so at once."""

    def __init__(
        self, *, log: Log, queues: Queues, letters: Letters, clock: Clock, writer: str
    ) -> None:
        self._log = log
        self._queues = queues
        self._letters = letters
        self._clock = clock
        self._writer = writer

    async def list(
        self, wanted: DeadLetterFilter, *, min_age: timedelta, position: str | None, limit: int
    ) -> LetterPage:
        """One page of the dead letters that are wanted and at least so old, last first."""
        return await self._letters.dead_letters(
            self._aged(wanted, min_age), position=position, limit=limit
        )

    async def redrive(self, tenant: str, task_id: str, *, comment: str, request_id: str) -> Task:
        """Puts a dead letter back into its queue, with its whole time and all attempts again.

        Raises:
            DeadLetterNotFound: There is no such task.
            TaskStateError: It is no dead letter (any more), or was discarded.
        """
        redriven = task_event_pb2.TaskRedriven(comment=comment, request_id=request_id)
        await self._once(tenant, task_id, TaskEvent(redriven=redriven), request_id)
        return await self._log.shown(tenant, task_id)

    async def discard(self, tenant: str, task_id: str, *, comment: str, request_id: str) -> None:
        """Takes a dead letter off the list for good.

        Raises:
            DeadLetterNotFound: There is no such task.
            TaskStateError: It is no dead letter (any more), or was discarded before.
        """
        discarded = task_event_pb2.TaskDiscarded(comment=comment, request_id=request_id)
        await self._once(tenant, task_id, TaskEvent(discarded=discarded), request_id)

    async def redrive_all(
        self,
        wanted: DeadLetterFilter,
        *,
        min_age: timedelta,
        limit: int,
        max_per_second: int,
        comment: str,
    ) -> AsyncGenerator[Redriven]:
        """Puts what is wanted back, the last to come first, and tells of each.

        It ends with the caller. What is no dead letter any more is passed over,
        and what becomes one again meanwhile is not taken a second time.

        Args:
            wanted: Which dead letters.
            min_age: How old they are at least when this begins.
            limit: How many to put back at most; 0 for all.
            max_per_second: How many to try in a second at most.
            comment: A remark for the logs.
        """
        wanted = self._aged(wanted, min_age)
        pause_seconds = 1 / max_per_second
        count, position, due = 0, None, self._clock.monotonic_seconds()
        while position != "":
            page = await self._letters.dead_letters(wanted, position=position, limit=_PAGE)
            for letter in page.letters:
                if limit and count >= limit:
                    return
                await self._clock.sleep(due - self._clock.monotonic_seconds())
                due = max(due, self._clock.monotonic_seconds()) + pause_seconds
                task, error = letter.task.name, None
                redriven = task_event_pb2.TaskRedriven(comment=comment)
                try:
                    tenant, task_id = names.TASK.parse(task, field="task")
                    await self._append(tenant, task_id, TaskEvent(redriven=redriven))
                    count += 1
                except (TaskStateError, DeadLetterNotFound):
                    continue
                except MeshError as failure:
                    error = failure
                yield Redriven(task, error, count)
            position = page.next_position

    def _aged(self, wanted: DeadLetterFilter, min_age: timedelta) -> DeadLetterFilter:
        return replace(wanted, before=self._clock.now() - min_age) if min_age else wanted

    async def _once(self, tenant: str, task_id: str, event: TaskEvent, request_id: str) -> None:
        """Appends `event` unless the log holds that this request was carried out."""
        kind = event.WhichOneof("kind") or ""
        if await self._is_repeat(tenant, task_id, kind, request_id):
            return
        try:
            await self._append(tenant, task_id, event)
        except TaskStateError:
            # The same request, sent twice at once, may have been quicker.
            if not await self._is_repeat(tenant, task_id, kind, request_id):
                raise

    async def _append(self, tenant: str, task_id: str, event: TaskEvent) -> None:
        """Appends `event`, which has its content only, unless the task is no dead letter."""
        for turn in range(_TURNS):
            last = await self._log.last(tenant, task_id)
            if last is None:
                raise _not_found(tenant, task_id)
            status = last.event.status
            if last.event.HasField("expired"):
                raise TaskStateError(
                    f"Retention removed the content of {last.event.task!r}: nothing can be done"
                    " with it any more.",
                    metadata={"state": lifecycle.state_name(status.state)},
                )
            next_event = self._after(last, event)
            queue = subjects.queue_of(tenant, next_event)
            if queue is not None:
                await self._queues.ensure(queue)
            try:
                await self._log.append(tenant, task_id, next_event, after=last.stream_sequence)
            except Conflict:
                if turn + 1 == _TURNS:
                    raise
                continue
            return

    def _after(self, last: Entry, event: TaskEvent) -> TaskEvent:
        following = lifecycle.new_event(last.event.task, self._writer)
        following.MergeFrom(event)
        if following.HasField("discarded"):
            following.discarded.error.CopyFrom(last.event.dead_lettered.error)
        return lifecycle.advance(
            last.event.status,
            following,
            sequence=last.event.sequence + 1,
            time=self._clock.now(),
        )

    async def _is_repeat(self, tenant: str, task_id: str, kind: str, request_id: str) -> bool:
        if not request_id:
            return False
        async with aclosing(self._log.read_stored(tenant, task_id)) as entries:
            async for entry in entries:
                event = entry.event
                if event.HasField(kind) and getattr(event, kind).request_id == request_id:
                    return True
        return False


def _not_found(tenant: str, task_id: str) -> DeadLetterNotFound:
    return DeadLetterNotFound(f"There is no dead letter {subjects.task_name(tenant, task_id)!r}.")
