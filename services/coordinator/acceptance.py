"""How a task is accepted: once, under one agent version, and durably."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from google.protobuf.message import Message as Proto

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import (
    AgentSpec,
    TaskEvent,
    TaskStatus,
    TaskWorker,
)
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit.clock import Clock
from meshkit.errors import (
    Conflict,
    DependencyUnavailable,
    MeshError,
    RequestIdReused,
    TaskNotFound,
)
from meshkit.frozen import frozen
from tasklog import fold, lifecycle, subjects
from tasklog.policy import Policy
from tasklog.subjects import Queue
from tasklog.task_log import Entry


class Log(Protocol):
    """The event log of every task."""

    async def append(self, tenant: str, task_id: str, event: TaskEvent, *, after: int) -> Entry: ...
    async def last(self, tenant: str, task_id: str) -> Entry | None: ...
    async def task(self, tenant: str, task_id: str) -> Task: ...
    def read(self, tenant: str, task_id: str) -> AsyncIterator[Entry]: ...


class Queues(Protocol):
    """Where runnable tasks stand in line."""

    async def ensure(self, queue: Queue) -> None:
        """Makes the queue if nobody has yet."""
        ...


class Policies(Protocol):
    """Knows the policy in force."""

    @property
    def current(self) -> Policy: ...


class AgentResolver(Protocol):
    """Knows which version of an agent a task runs."""

    async def resolve(self, tenant: str, wanted: str) -> AgentSpec: ...
    async def workers(self, tenant: str, agent: AgentSpec) -> Sequence[TaskWorker]: ...


class Gate(Protocol):
    """One condition that a new task must meet."""

    async def check(self, task: Task) -> None:
        """Returns if `task` may be accepted; raises what its submitter shall read otherwise.

        `task` has its name, tenant, agent version and lane. A gate may fill in
        what only it knows: that of the parent sets `depth`.
        """
        ...


@frozen
class Accepted:
    """A task that is stored."""

    task: Task
    # Its first event, where this call stored it; None where an earlier one had.
    first: Entry | None


class Acceptance:
    """Accepts the tasks of clients, parents and schedules alike."""

    def __init__(
        self,
        *,
        log: Log,
        queues: Queues,
        policies: Policies,
        agents: AgentResolver,
        clock: Clock,
        writer: str,
    ) -> None:
        self._log = log
        self._queues = queues
        self._policies = policies
        self._agents = agents
        self._clock = clock
        self._writer = writer

    async def accept(
        self,
        tenant: str,
        requested: Task,
        *,
        task_id: str,
        gates: Sequence[Gate],
        request_id: str = "",
        is_new: bool = False,
    ) -> Accepted:
        """Accepts a task durably, once for each `task_id`.

        A task's log can begin only once: a repeat finds it begun, however late
        it comes, and answers the task as it stands. No gate keeps a repeat out.

        Args:
            tenant: Whose task it is.
            requested: What to do, as `convert.task` leaves it; `schedule`, and
                `depth` of a child, as the task shall have them.
            task_id: The task's id, the same for every repeat.
            gates: Asked in this order; the first one that refuses decides.
            request_id: What the caller knows the repeat by, for errors.
            is_new: Whether nobody can have used `task_id` before.

        Raises:
            AgentNotFound: There is no such agent.
            RequestIdReused: `task_id` was accepted with other content.
            DependencyUnavailable: The broker cannot be reached, or does not show yet what
                was accepted.
            MeshError: What a gate raises.
        """
        digest = _digest(requested)
        try:
            agent = await self._agents.resolve(tenant, requested.agent)
            workers = await self._agents.workers(tenant, agent) if agent.workers else ()
            now = self._clock.now()
            task = self._task(tenant, task_id, requested, agent, now)
            for gate in gates:
                await gate.check(task)
        except MeshError:
            # What was accepted once stays accepted, whatever holds now.
            if not is_new and await self._log.last(tenant, task_id) is not None:
                return Accepted(await self._repeat(tenant, task_id, request_id, digest), None)
            raise
        # No runnable event is ever without a consumer that knows of it.
        await self._queues.ensure(Queue(tenant, task.lane, task.priority))
        event = self._submission(task, agent, workers, digest, now)
        try:
            entry = await self._log.append(tenant, task_id, event, after=0)
        except Conflict:
            return Accepted(await self._repeat(tenant, task_id, request_id, digest), None)
        return Accepted(fold.task_of(entry.event, entry.event), entry)

    def _task(
        self, tenant: str, task_id: str, requested: Task, agent: AgentSpec, now: datetime
    ) -> Task:
        task = Task()
        task.CopyFrom(requested)
        task.name = subjects.task_name(tenant, task_id)
        task.tenant = tenant
        task.agent = agent.name
        task.lane = requested.lane or agent.lane or tier_pb2.LANE_STANDARD
        # The smaller one, where there are two.
        caps = (requested.budget_micros, agent.limits.max_cost_micros)
        task.budget_micros = min((cap for cap in caps if cap), default=0)
        task.state = task_pb2.TASK_STATE_QUEUED
        lifecycle.set_time(task.create_time, now)
        lifecycle.set_time(task.deadline, now + self._time_limit(task))
        return task

    def _time_limit(self, task: Task) -> timedelta:
        if task.HasField("time_limit"):
            return task.time_limit.ToTimedelta()
        return self._policies.current.lane(task.lane).time_limit.ToTimedelta()

    def _submission(
        self,
        task: Task,
        agent: AgentSpec,
        workers: Sequence[TaskWorker],
        digest: str,
        now: datetime,
    ) -> TaskEvent:
        status = TaskStatus(lane=task.lane, priority=task.priority, parent_task=task.parent_task)
        status.time_limit.FromMicroseconds(
            task.deadline.ToMicroseconds() - task.create_time.ToMicroseconds()
        )
        status.create_time.CopyFrom(task.create_time)
        status.deadline.CopyFrom(task.deadline)
        event = lifecycle.new_event(task.name, self._writer)
        event.submitted.task.CopyFrom(task)
        event.submitted.agent.CopyFrom(agent)
        event.submitted.agent.workers[:] = [worker.name for worker in workers]
        event.submitted.workers.extend(workers)
        event.submitted.request_digest = digest
        return lifecycle.advance(status, event, sequence=1, time=now)

    async def _repeat(self, tenant: str, task_id: str, request_id: str, digest: str) -> Task:
        async for first in self._log.read(tenant, task_id):
            event = first.event
            kept = event.expired if event.HasField("expired") else event.submitted
            if kept.request_digest != digest:
                raise RequestIdReused(
                    f"request_id {request_id!r} submitted {event.task!r} with other content."
                    " Use a new request_id for a new task."
                )
            break
        try:
            return await self._log.task(tenant, task_id)
        except TaskNotFound as error:
            # Its log has begun: a replica answered that has not heard of it yet.
            raise DependencyUnavailable(
                f"The broker does not show {subjects.task_name(tenant, task_id)!r} yet.",
                metadata={"dependency": "nats"},
            ) from error


def _digest(request: Proto) -> str:
    return hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
