"""What coordinators do when a schedule is due: its task, once, then its next time."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import grpc

from agentmesh.coordinator.v1 import schedule_service_pb2 as pb
from agentmesh.coordinator.v1.schedule_service_pb2 import Schedule, ScheduledRun
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit import identity, names
from meshkit.bus import Delivery
from meshkit.clock import Clock
from meshkit.errors import Conflict, MeshError, to_status
from meshkit.identity import Identity
from meshkit.ids import Ids
from services.coordinator.acceptance import Accepted, Gate
from services.coordinator.cron_times import CronTimes
from services.coordinator.schedule_turn import Turn, turn
from services.coordinator.schedules import Store, Stored
from tasklog import lifecycle
from tasklog.task_log import Entry

# On whose behalf the checks of admission are made.
_CALLER: Final = "service:coordinator"
# These pass by themselves; the time is tried again until the next one has come.
_PASSING: Final = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE})
# Nothing but a change of the schedule, or of the mesh, helps against these.
_LASTING: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.ALREADY_EXISTS,
    }
)
# By then a replica that was behind has caught up.
_LOOK_AGAIN: Final = timedelta(seconds=1)
# Where a refusal does not say when to come back.
_RETRY_SECONDS: Final = 30.0


class Log(Protocol):
    """The event log of every task."""

    async def last(self, tenant: str, task_id: str) -> Entry | None: ...


class Acceptance(Protocol):
    """Accepts tasks durably, once for each id."""

    async def accept(
        self, tenant: str, requested: Task, *, task_id: str, gates: Sequence[Gate]
    ) -> Accepted: ...


class Ticks:
    """Attends to the schedules of all tenants.

    The id of a run's task follows from the schedule and the time, and the next
    time is set by compare-and-set: it does not matter who does it, or how often.
    """

    def __init__(
        self,
        *,
        store: Store,
        log: Log,
        acceptance: Acceptance,
        gates: Sequence[Gate],
        clock: Clock,
        ids: Ids,
    ) -> None:
        """`gates` are those that the tasks of schedules must pass."""
        self._store = store
        self._log = log
        self._acceptance = acceptance
        self._gates = gates
        self._clock = clock
        self._ids = ids

    async def on_delivery(self, delivery: Delivery) -> datetime | None:
        """As `attend`, for a delivery of the store's stream."""
        _, tenant, schedule_id = delivery.subject.split(".")
        return await self.attend(tenant, schedule_id, delivery.sequence)

    async def attend(self, tenant: str, schedule_id: str, sequence: int) -> datetime | None:
        """Does what is due now; when to look again, or None where this is settled.

        Args:
            tenant: Whose schedule it is.
            schedule_id: The schedule.
            sequence: The broker's, of the state of the schedule that was delivered.
        """
        stored = await self._store.read(tenant, schedule_id)
        if stored is None or stored.sequence < sequence:
            # A replica answered that is behind. What was deleted is not delivered again.
            return self._clock.now() + _LOOK_AGAIN
        if stored.sequence > sequence:
            return None  # changed, and delivered again for that
        schedule = stored.schedule
        if not schedule.HasField("next_run_time"):
            return None
        now, due = self._clock.now(), schedule.next_run_time.ToDatetime(tzinfo=UTC)
        if due > now:
            return due
        with identity.use(Identity(tenant, _CALLER)):
            return await self._run(tenant, schedule_id, stored, due, now)

    async def _run(
        self, tenant: str, schedule_id: str, stored: Stored, due: datetime, now: datetime
    ) -> datetime | None:
        schedule = stored.schedule
        times = CronTimes(schedule.cron, schedule.time_zone)
        this = turn(times, due, now, schedule.missed_runs, refused=_refused(schedule))
        if await self._is_submitted(tenant, schedule, due):
            # Whoever did it did not come to set the next time.
            this = Turn(due, runs=True, missed=0)
        run = ScheduledRun(missed=this.missed)
        run.time.FromDatetime(this.time)
        following = times.after(this.time)
        if this.runs:
            try:
                await self._submit(tenant, schedule, run)
            except MeshError as error:
                if error.code not in _PASSING | _LASTING:
                    raise
                run.error.CopyFrom(to_status(error))
                if error.code in _PASSING:
                    if _refused(schedule) == this.time:
                        return _soon(error, now, following)
                    # It is tried again; but first, whoever looks shall see why it waits.
                    following = due
        try:
            await self._store.write(tenant, schedule_id, _after(stored, run, following))
        except Conflict:
            return now  # somebody changed it meanwhile: it is delivered again for that
        return None

    async def _submit(self, tenant: str, schedule: Schedule, run: ScheduledRun) -> None:
        """Submits the task of `run`, and fills in what became of it."""
        time = run.time.ToDatetime(tzinfo=UTC)
        task_id = self._task_id(schedule, time)
        if not await self._is_submitted(tenant, schedule, time):
            if schedule.overlap == pb.OVERLAP_POLICY_SKIP and await self._is_open(
                schedule.last_task
            ):
                run.skipped = True
                return
            requested = Task()
            requested.CopyFrom(schedule.task)
            requested.schedule = schedule.name
            await self._acceptance.accept(tenant, requested, task_id=task_id, gates=self._gates)
        run.task = names.TASK.format(tenant=tenant, task=task_id)

    async def _is_submitted(self, tenant: str, schedule: Schedule, time: datetime) -> bool:
        return await self._log.last(tenant, self._task_id(schedule, time)) is not None

    async def _is_open(self, task: str) -> bool:
        if not task:
            return False
        last = await self._log.last(*names.TASK.parse(task, field="last_task"))
        return last is not None and last.event.status.state not in lifecycle.TERMINAL

    def _task_id(self, schedule: Schedule, time: datetime) -> str:
        # The time of creation tells a schedule from a former one of the same name.
        created = schedule.create_time.ToJsonString()
        return self._ids.stable("schedule", schedule.name, created, time.isoformat())


def _refused(schedule: Schedule) -> datetime | None:
    """The last time, if its task was refused."""
    last = schedule.last_run
    return last.time.ToDatetime(tzinfo=UTC) if last.HasField("error") else None


def _soon(error: MeshError, now: datetime, following: datetime | None) -> datetime:
    """When to try again what `error` refused; not after the next time has come."""
    again = now + timedelta(seconds=error.retry_after_seconds or _RETRY_SECONDS)
    return again if following is None else min(again, following)


def _after(stored: Stored, run: ScheduledRun, next_time: datetime | None) -> Stored:
    """The schedule after `run`."""
    schedule = Schedule()
    schedule.CopyFrom(stored.schedule)
    schedule.last_run.CopyFrom(run)
    schedule.last_task = run.task or schedule.last_task
    if next_time is None:
        schedule.ClearField("next_run_time")
    else:
        schedule.next_run_time.FromDatetime(next_time)
    return replace(stored, schedule=schedule)
