"""Schedules: which there are, and how they change."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Protocol

from agentmesh.coordinator.v1.schedule_service_pb2 import Schedule
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec
from meshkit import names
from meshkit.clock import Clock
from meshkit.errors import (
    AlreadyExists,
    Conflict,
    InvalidField,
    RequestIdReused,
    ScheduleNotFound,
    Violation,
)
from meshkit.ids import Ids
from services.coordinator.cron_times import CronTimes

MAX_SCHEDULES: Final = 1000
# A run changes a schedule too, but not often.
_TURNS: Final = 10


@dataclass(frozen=True, slots=True)
class Stored:
    """A schedule as it is kept."""

    schedule: Schedule
    # The call that created it, to tell a repeat from a name that is taken.
    request_id: str
    request_digest: str
    # The broker's sequence, which the next change must name; 0 before the first.
    sequence: int = 0


class Store(Protocol):
    """Keeps schedules; whatever is written is delivered to Ticks."""

    async def read(self, tenant: str, schedule_id: str) -> Stored | None: ...

    async def write(self, tenant: str, schedule_id: str, stored: Stored) -> None:
        """Replaces what has `stored.sequence`; Conflict if that is not there any more."""
        ...

    def list(self, tenant: str) -> AsyncIterator[Stored]:
        """All of a tenant's, in no order."""
        ...

    async def count(self, tenant: str) -> int:
        """How many a tenant has."""
        ...

    async def remove(self, tenant: str, schedule_id: str) -> None:
        """Removes it, if it is there."""
        ...


class AgentResolver(Protocol):
    """Knows which version of an agent a task runs."""

    async def resolve(self, tenant: str, wanted: str) -> AgentSpec: ...


class Schedules:
    """The rules of ScheduleService."""

    def __init__(self, store: Store, agents: AgentResolver, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._agents = agents
        self._clock = clock
        self._ids = ids

    async def create(
        self, tenant: str, schedule_id: str, requested: Schedule, request_id: str
    ) -> Schedule:
        """Creates a schedule, once for each `request_id`.

        Raises:
            InvalidField: The id is malformed, the times never come, or the tenant has too
                many schedules.
            AgentNotFound: There is no such agent.
            AlreadyExists: The tenant has a schedule of that id.
            RequestIdReused: `request_id` created the schedule with other content.
        """
        names.check("schedule", schedule_id, field="schedule_id")
        content = requested.SerializeToString(deterministic=True)
        digest = hashlib.sha256(content).hexdigest()
        existing = await self._store.read(tenant, schedule_id)
        if existing is not None:
            return _repeat(existing, request_id, digest)
        await self._check_agent(tenant, requested)
        schedule = Schedule()
        schedule.CopyFrom(requested)
        schedule.name = names.SCHEDULE.format(tenant=tenant, schedule=schedule_id)
        schedule.etag = self._ids.new()
        schedule.create_time.FromDatetime(self._clock.now())
        self._plan(schedule)
        if await self._store.count(tenant) >= MAX_SCHEDULES:
            raise InvalidField(
                "parent",
                f"must be a tenant with fewer than {MAX_SCHEDULES:,} schedules. Delete one first",
            )
        try:
            await self._store.write(tenant, schedule_id, Stored(schedule, request_id, digest))
        except Conflict:
            existing = await self._store.read(tenant, schedule_id)
            if existing is None:
                raise
            return _repeat(existing, request_id, digest)
        return schedule

    async def get(self, tenant: str, schedule_id: str) -> Schedule:
        """The schedule as it stands; ScheduleNotFound where there is none."""
        return (await self._stored(tenant, schedule_id)).schedule

    async def list(self, tenant: str) -> Sequence[Schedule]:
        """All schedules of a tenant in order of their ids."""
        found = [stored.schedule async for stored in self._store.list(tenant)]
        return sorted(found, key=lambda schedule: schedule.name)

    async def update(self, tenant: str, schedule_id: str, requested: Schedule) -> Schedule:
        """Replaces what a schedule does.

        Raises:
            InvalidField: Its times never come.
            ScheduleNotFound: There is no such schedule.
            AgentNotFound: There is no such agent.
            Conflict: It was changed since `requested.etag`.
        """
        await self._check_agent(tenant, requested)
        for _ in range(_TURNS):
            stored = await self._stored(tenant, schedule_id)
            before = stored.schedule
            if requested.etag not in ("", before.etag):
                break
            schedule = Schedule()
            schedule.CopyFrom(requested)
            schedule.name = before.name
            schedule.etag = self._ids.new()
            schedule.create_time.CopyFrom(before.create_time)
            schedule.last_task = before.last_task
            if before.HasField("last_run"):
                schedule.last_run.CopyFrom(before.last_run)
            self._plan(schedule)
            if before.HasField("next_run_time") and _same_times(before, schedule):
                # A time that has come, and was not handled yet, is not left out.
                schedule.next_run_time.CopyFrom(before.next_run_time)
            try:
                await self._store.write(tenant, schedule_id, replace(stored, schedule=schedule))
            except Conflict:
                continue
            return schedule
        raise Conflict(
            f"The schedule {schedule_id!r} has changed since it was read. Read it again, and"
            " apply your change to that."
        )

    async def delete(self, tenant: str, schedule_id: str) -> None:
        """Removes a schedule; ScheduleNotFound where there is none."""
        await self._stored(tenant, schedule_id)
        await self._store.remove(tenant, schedule_id)

    async def _stored(self, tenant: str, schedule_id: str) -> Stored:
        stored = await self._store.read(tenant, schedule_id)
        if stored is None:
            raise ScheduleNotFound(
                f"Tenant {tenant!r} has no schedule {schedule_id!r}."
                " `agentmesh schedule list` shows which exist."
            )
        return stored

    async def _check_agent(self, tenant: str, requested: Schedule) -> None:
        try:
            await self._agents.resolve(tenant, requested.task.agent)
        except InvalidField as error:
            raise InvalidField.many(
                [Violation(f"schedule.{v.field}", v.description) for v in error.violations]
            ) from error

    def _plan(self, schedule: Schedule) -> None:
        """Sets when `schedule` runs next."""
        first = next_run(schedule, self._clock.now())
        if first is None:
            raise InvalidField("schedule.cron", "names no time in the next 50 years")
        if not schedule.paused:
            schedule.next_run_time.FromDatetime(first)


def next_run(schedule: Schedule, after: datetime) -> datetime | None:
    """The first time of the schedule after `after`; None if there is none."""
    return CronTimes(schedule.cron, schedule.time_zone).after(after.astimezone(UTC))


def _same_times(before: Schedule, after: Schedule) -> bool:
    return (before.cron, before.time_zone, before.paused) == (
        after.cron,
        after.time_zone,
        after.paused,
    )


def _repeat(existing: Stored, request_id: str, digest: str) -> Schedule:
    name = existing.schedule.name
    if not request_id or existing.request_id != request_id:
        raise AlreadyExists(f"The schedule {name!r} exists. Update it, or choose another id.")
    if existing.request_digest != digest:
        raise RequestIdReused(f"request_id {request_id!r} created {name!r} with other content.")
    return existing.schedule
