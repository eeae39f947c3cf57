"""Schedules at the wire, checked: every field that is wrong is named."""

from agentmesh.coordinator.v1 import schedule_service_pb2 as pb
from agentmesh.coordinator.v1.schedule_service_pb2 import Schedule
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit import identity, names
from meshkit.constants import CLAIM_CHECK_BYTES
from meshkit.errors import InvalidField, TooLarge, Violation
from services.coordinator import convert
from services.coordinator.cron_times import CronTimes


def schedule_name(name: str, *, field: str = "name") -> tuple[str, str]:
    """Tenant and schedule id of a schedule's name, which must be of the caller's own tenant."""
    tenant, schedule_id = names.SCHEDULE.parse(name, field=field)
    identity.require_tenant(name)
    return tenant, schedule_id


def schedule(requested: Schedule) -> Schedule:
    """What the caller asked for, with output-only fields and the name dropped.

    Raises:
        InvalidField: With every violation found.
        TooLarge: The task's input is beyond 64 KiB.
    """
    found: list[Violation] = []
    task = _task(requested.task, found)
    try:
        CronTimes(requested.cron, requested.time_zone)
    except InvalidField as error:
        found += error.violations
    if requested.missed_runs not in pb.MissedRunPolicy.values():
        found.append(Violation("schedule.missed_runs", "must be a MissedRunPolicy"))
    if requested.overlap not in pb.OverlapPolicy.values():
        found.append(Violation("schedule.overlap", "must be an OverlapPolicy"))
    if found:
        raise InvalidField.many(found)
    return Schedule(
        cron=requested.cron,
        time_zone=requested.time_zone,
        task=task,
        missed_runs=requested.missed_runs,
        overlap=requested.overlap,
        paused=requested.paused,
        etag=requested.etag,
    )


def _task(requested: Task, found: list[Violation]) -> Task:
    """The task to be submitted; adds what is wrong with it to `found`."""
    if requested.parent_task:
        found.append(
            Violation("schedule.task.parent_task", "must be empty: a schedule's task has no parent")
        )
    try:
        return convert.task(requested, max_input_bytes=CLAIM_CHECK_BYTES)
    except InvalidField as error:
        found += [
            Violation(f"schedule.{each.field}", each.description) for each in error.violations
        ]
        return Task()
    except TooLarge as error:
        raise TooLarge(
            f"schedule.{error.message}",
            metadata=error.metadata,
            violations=[
                Violation(f"schedule.{each.field}", each.description) for each in error.violations
            ],
        ) from error
