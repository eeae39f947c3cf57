"""How tasks are accepted, shown and stopped."""

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final, Protocol

from google.protobuf.message import Message as Proto

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_event_pb2, task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec, TaskEvent, TaskStatus
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit.clock import Clock
from meshkit.errors import Conflict, MeshError, RequestIdReused, TaskNotFound
from meshkit.ids import Ids
from services.coordinator.settings import CoordinatorSettings
from tasklog import fold, lifecycle, subjects
from tasklog.task_log import Entry

# A cancel meets a busy executor's appends: each turn loses to at most one of them.
_CANCEL_TURNS: Final = 20


class Log(Protocol):
    """The event log of every task."""

    async def append(self, tenant: str, task_id: str, event: TaskEvent, *, after: int) -> Entry: ...
    async def last(self, tenant: str, task_id: str) -> Entry | None: ...
    async def task(self, tenant: str, task_id: str) -> Task: ...
    def read(
        self, tenant: str, task_id: str, *, from_stream_sequence: int = 1
    ) -> AsyncIterator[Entry]: ...
    def follow(
        self, tenant: str, task_id: str, *, after_sequence: int
    ) -> AsyncIterator[TaskEvent]: ...


class Admission(Protocol):
    """Decides whether a tenant may submit now."""

    async def check(self, tenant: str) -> None:
        """Returns if so; BudgetExhausted otherwise."""
        ...


class AgentResolver(Protocol):
    """Knows which version of an agent a task runs."""

    async def resolve(self, tenant: str, wanted: str) -> AgentSpec: ...


class CancelSignal(Protocol):
    """Tells executors at once that a task should stop."""

    async def send(self, tenant: str, task_id: str) -> None: ...


class Coordinator:
    """The rules of CoordinatorService, over a log and a few helpers."""

    def __init__(
        self,
        *,
        log: Log,
        agents: AgentResolver,
        admission: Admission,
        cancel_signal: CancelSignal,
        clock: Clock,
        ids: Ids,
        writer: str,
        settings: CoordinatorSettings,
    ) -> None:
        self._log = log
        self._agents = agents
        self._admission = admission
        self._cancel_signal = cancel_signal
        self._clock = clock
        self._ids = ids
        self._writer = writer
        self._settings = settings

    async def submit(self, tenant: str, requested: Task, request_id: str) -> Task:
        """Accepts a task durably.

        The task's id follows from `request_id`, and its log can begin only
        once: a repeat finds the log begun, however late it comes.

        Raises:
            AgentNotFound: There is no such agent.
            BudgetExhausted: The tenant may not spend more.
            RequestIdReused: `request_id` submitted another task.
        """
        digest = _digest(requested)
        task_id = self._ids.stable(tenant, request_id) if request_id else self._ids.new()
        try:
            agent = await self._agents.resolve(tenant, requested.agent)
            await self._admission.check(tenant)
        except MeshError:
            # What was accepted once stays accepted, whatever holds now.
            if request_id and await self._log.last(tenant, task_id) is not None:
                return await self._repeat(tenant, task_id, request_id, digest)
            raise
        event = self._submission(tenant, task_id, requested, agent, digest)
        try:
            entry = await self._log.append(tenant, task_id, event, after=0)
        except Conflict:
            return await self._repeat(tenant, task_id, request_id, digest)
        return fold.task_of(entry.event, entry.event)

    def _submission(
        self, tenant: str, task_id: str, requested: Task, agent: AgentSpec, digest: str
    ) -> TaskEvent:
        now = self._clock.now()
        task = Task()
        task.CopyFrom(requested)
        task.name = subjects.task_name(tenant, task_id)
        task.tenant = tenant
        task.agent = agent.name
        task.lane = requested.lane or agent.lane or tier_pb2.LANE_STANDARD
        task.state = task_pb2.TASK_STATE_QUEUED
        task.create_time.FromDatetime(now)
        limit_seconds = (
            requested.time_limit.ToTimedelta().total_seconds()
            if requested.HasField("time_limit")
            else self._settings.time_limit_seconds(task.lane)
        )
        task.deadline.FromDatetime(now + timedelta(seconds=limit_seconds))
        task.depth = 0
        status = TaskStatus(lane=task.lane, priority=task.priority, parent_task=task.parent_task)
        status.time_limit.FromTimedelta(timedelta(seconds=limit_seconds))
        status.create_time.CopyFrom(task.create_time)
        status.deadline.CopyFrom(task.deadline)
        event = lifecycle.new_event(task.name, self._writer)
        event.submitted.task.CopyFrom(task)
        event.submitted.agent.CopyFrom(agent)
        event.submitted.request_digest = digest
        return lifecycle.advance(status, event, sequence=1, time=now)

    async def _repeat(self, tenant: str, task_id: str, request_id: str, digest: str) -> Task:
        async for first in self._log.read(tenant, task_id):
            if first.event.submitted.request_digest != digest:
                raise RequestIdReused(
                    f"request_id {request_id!r} submitted {first.event.task!r} with other content."
                    " Use a new request_id for a new task."
                )
            break
        return await self._log.task(tenant, task_id)

    async def get(self, tenant: str, task_id: str) -> Task:
        """The task as its log stands; TaskNotFound where there is none."""
        return await self._log.task(tenant, task_id)

    def follow(self, tenant: str, task_id: str, *, after_sequence: int) -> AsyncIterator[TaskEvent]:
        """Every event after `after_sequence`, until the task has ended."""
        return self._log.follow(tenant, task_id, after_sequence=after_sequence)

    async def events(
        self, tenant: str, task_id: str, *, from_stream_sequence: int, limit: int
    ) -> list[Entry]:
        """At most `limit` events as they stand, oldest first; TaskNotFound without a task."""
        found: list[Entry] = []
        async for entry in self._log.read(
            tenant, task_id, from_stream_sequence=from_stream_sequence
        ):
            found.append(entry)
            if len(found) == limit:
                break
        if not found and await self._log.last(tenant, task_id) is None:
            raise _not_found(tenant, task_id)
        return found

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
        return await self._log.task(tenant, task_id)


def _digest(request: Proto) -> str:
    return hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()


def _not_found(tenant: str, task_id: str) -> TaskNotFound:
    return TaskNotFound(f"There is no task {subjects.task_name(tenant, task_id)!r}.")
