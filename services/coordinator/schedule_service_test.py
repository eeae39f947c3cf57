"""How schedules are created, shown, changed and removed, and that they run."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2, task_pb2
from agentmesh.coordinator.v1 import schedule_service_pb2 as pb
from agentmesh.coordinator.v1.schedule_service_pb2 import Schedule
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from meshkit import identity
from meshkit.errors import (
    AgentNotFound,
    AlreadyExists,
    Conflict,
    Forbidden,
    InvalidField,
    InvalidPageToken,
    RequestIdReused,
    ScheduleNotFound,
    TooLarge,
)
from meshkit.identity import Identity
from meshtest.clock import RunningClock
from meshtest.eventually import eventually
from services.coordinator import schedules
from services.coordinator.coordinator_mesh import PARENT, Mesh, coordinator

pytest_plugins = ["meshtest.fixtures", "services.coordinator.coordinator_mesh"]

NAME = "tenants/acme/schedules/nightly"


def nightly(**fields: object) -> Schedule:
    """Every night at three, unless `fields` say otherwise."""
    made = Schedule(cron="0 3 * * *", task=Task(input=TaskInput(text="tidy up")))
    made.MergeFrom(Schedule(**fields))  # type: ignore[arg-type]
    return made


async def create(
    mesh: Mesh, schedule: Schedule, schedule_id: str = "nightly", request_id: str = ""
) -> Schedule:
    """The schedule as created."""
    request = pb.CreateScheduleRequest(
        parent=PARENT, schedule_id=schedule_id, schedule=schedule, request_id=request_id
    )
    return (await mesh.schedules.CreateSchedule(request, timeout=60)).schedule


async def get(mesh: Mesh, name: str = NAME) -> Schedule:
    """The schedule as it stands."""
    return (await mesh.schedules.GetSchedule(pb.GetScheduleRequest(name=name), timeout=60)).schedule


async def update(mesh: Mesh, schedule: Schedule) -> Schedule:
    """The schedule as updated."""
    request = pb.UpdateScheduleRequest(schedule=schedule)
    return (await mesh.schedules.UpdateSchedule(request, timeout=60)).schedule


async def test_a_schedule_is_shown_as_it_was_created(mesh: Mesh) -> None:
    """With its name, its next time, and nothing that only the mesh may say."""
    wanted = nightly(
        time_zone="Europe/Berlin",
        missed_runs=pb.MISSED_RUN_POLICY_SKIP,
        overlap=pb.OVERLAP_POLICY_SKIP,
        last_task="tenants/acme/tasks/t1",
        task=Task(name="tenants/acme/tasks/t1", depth=3, priority=4, labels={"team": "a"}),
    )
    created = await create(mesh, wanted)
    assert created.name == NAME
    assert created.etag
    assert created.last_task == created.task.name == ""
    assert (created.task.depth, created.task.priority) == (0, 4)
    assert created.time_zone == "Europe/Berlin"
    assert timedelta() < created.next_run_time.ToDatetime(tzinfo=UTC) - datetime.now(UTC)
    assert created.next_run_time.ToDatetime() - created.create_time.ToDatetime() < timedelta(days=2)
    assert await get(mesh) == created


async def test_a_schedule_runs(nats_url: str, tmp_path: Path) -> None:
    """With the real broker as its timer: a second before a full hour one waits for a second."""
    clock = RunningClock(datetime(2026, 1, 1, tzinfo=UTC))
    async with coordinator(nats_url, tmp_path, clock=clock) as mesh:
        clock.move_to(datetime(2026, 1, 1, 8, 59, 59, tzinfo=UTC))
        await create(mesh, nightly(cron="0 9 * * *"))

        async def ran() -> Schedule | None:
            schedule = await get(mesh)
            return schedule if schedule.last_task else None

        schedule = await eventually(ran)
        assert schedule is not None
        assert schedule.last_run.time.ToDatetime() == datetime(2026, 1, 1, 9)
        assert schedule.next_run_time.ToDatetime() == datetime(2026, 1, 2, 9)
        request = coordinator_service_pb2.GetTaskRequest(name=schedule.last_task)
        task = (await mesh.tasks.GetTask(request, timeout=60)).task
        assert task.state == task_pb2.TASK_STATE_QUEUED
        assert task.schedule == NAME
        assert task.input.text == "tidy up"
        assert task.create_time.ToDatetime() >= datetime(2026, 1, 1, 9)


async def test_the_same_request_id_is_the_same_schedule(mesh: Mesh) -> None:
    """Even after it was changed; other content, or none, is refused."""
    created = await create(mesh, nightly(), request_id="r1")
    changed = await update(mesh, nightly(name=NAME, cron="0 4 * * *"))
    assert await create(mesh, nightly(), request_id="r1") == changed
    assert changed.create_time == created.create_time
    with pytest.raises(RequestIdReused) as reused:
        await create(mesh, nightly(cron="0 5 * * *"), request_id="r1")
    assert reused.value.message == f"request_id 'r1' created '{NAME}' with other content."
    for request_id in ("", "r2"):
        with pytest.raises(AlreadyExists) as taken:
            await create(mesh, nightly(), request_id=request_id)
        assert taken.value.message == (
            f"The schedule '{NAME}' exists. Update it, or choose another id."
        )


async def test_one_of_many_creations_at_once_wins(mesh: Mesh) -> None:
    """And repeats of the one that won are answered."""
    outcomes = await asyncio.gather(
        *(create(mesh, nightly(), request_id=f"r{number % 4}") for number in range(12)),
        return_exceptions=True,
    )
    created = [each for each in outcomes if isinstance(each, Schedule)]
    assert len(created) == 3
    assert len({each.etag for each in created}) == 1
    assert sum(isinstance(each, AlreadyExists) for each in outcomes) == 9


async def test_an_update_with_a_stale_etag_is_refused(mesh: Mesh) -> None:
    """Without one the last write wins."""
    created = await create(mesh, nightly())
    first = await update(mesh, created)
    assert first.etag != created.etag
    with pytest.raises(Conflict) as stale:
        await update(mesh, created)
    assert stale.value.message == (
        "The schedule 'nightly' has changed since it was read. Read it again, and apply your"
        " change to that."
    )
    first.etag = ""
    first.paused = True
    paused = await update(mesh, first)
    assert not paused.HasField("next_run_time")
    assert await get(mesh) == paused


async def test_a_deleted_schedule_is_gone(mesh: Mesh) -> None:
    """For every call."""
    await create(mesh, nightly())
    request = pb.DeleteScheduleRequest(name=NAME)
    await mesh.schedules.DeleteSchedule(request, timeout=60)
    message = (
        "Tenant 'acme' has no schedule 'nightly'. `agentmesh schedule list` shows which exist."
    )
    for call in (
        get(mesh),
        update(mesh, nightly(name=NAME)),
        mesh.schedules.DeleteSchedule(request, timeout=60),
    ):
        with pytest.raises(ScheduleNotFound) as gone:
            await call
        assert gone.value.message == message


async def test_schedules_are_listed_in_order_page_by_page(mesh: Mesh) -> None:
    """A token belongs to its request."""
    for schedule_id in ("c", "a", "b"):
        await create(mesh, nightly(), schedule_id)
    request = pb.ListSchedulesRequest(parent=PARENT, page_size=2)
    first = await mesh.schedules.ListSchedules(request, timeout=60)
    request.page_token = first.next_page_token
    second = await mesh.schedules.ListSchedules(request, timeout=60)
    names = [each.name.rpartition("/")[2] for each in [*first.schedules, *second.schedules]]
    assert names == ["a", "b", "c"]
    assert not second.next_page_token
    request.page_token = "nonsense"
    with pytest.raises(InvalidPageToken):
        await mesh.schedules.ListSchedules(request, timeout=60)


async def test_a_schedule_of_another_tenant_is_out_of_reach(mesh: Mesh) -> None:
    """For every call."""
    await create(mesh, nightly())
    with identity.use(Identity("other", "user:test")):
        for call in (
            create(mesh, nightly()),
            get(mesh),
            update(mesh, nightly(name=NAME)),
            mesh.schedules.DeleteSchedule(pb.DeleteScheduleRequest(name=NAME), timeout=60),
            mesh.schedules.ListSchedules(pb.ListSchedulesRequest(parent=PARENT), timeout=60),
        ):
            with pytest.raises(Forbidden):
                await call


async def test_every_field_that_is_wrong_is_named(mesh: Mesh) -> None:
    """All at once, with paths in the request."""
    wrong = Schedule(cron="0 0 30 2 *", time_zone="Mars", missed_runs=9, overlap=9)  # type: ignore[arg-type]
    wrong.task.priority = -1
    wrong.task.parent_task = "tenants/acme/tasks/t1"
    with pytest.raises(InvalidField) as refused:
        await create(mesh, wrong)
    assert [each.field for each in refused.value.violations] == [
        "schedule.task.parent_task",
        "schedule.task.input",
        "schedule.task.priority",
        "schedule.cron",
        "schedule.time_zone",
        "schedule.missed_runs",
        "schedule.overlap",
    ]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            nightly(cron="0 0 30 2 *"),
            "schedule.cron: is not a time that ever comes: bad day-of-month",
        ),
        (nightly(task=Task(agent="Not An Agent")), "schedule.task.agent: must look like"),
        (nightly(task=Task(parent_task="x")), "schedule.task.parent_task: must be empty"),
    ],
)
async def test_what_cannot_run_is_not_created(mesh: Mesh, schedule: Schedule, message: str) -> None:
    """Nor is a schedule changed to it."""
    with pytest.raises(InvalidField) as refused:
        await create(mesh, schedule)
    assert refused.value.message.startswith(message)
    created = await create(mesh, nightly())
    schedule.name = NAME
    with pytest.raises(InvalidField) as refused:
        await update(mesh, schedule)
    assert refused.value.message.startswith(message)
    assert await get(mesh) == created


async def test_ids_agents_and_sizes_are_checked(mesh: Mesh) -> None:
    """Before anything is stored."""
    for schedule_id in ("", "Nightly", "x" * 64, "a.b", "*"):
        with pytest.raises(InvalidField) as refused:
            await create(mesh, nightly(), schedule_id)
        assert refused.value.violations[0].field == "schedule_id"
    with pytest.raises(AgentNotFound):
        await create(mesh, nightly(task=Task(agent="nobody")))
    with pytest.raises(TooLarge) as large:
        await create(mesh, nightly(task=Task(input=TaskInput(text="x" * 66_000))))
    assert large.value.message == (
        "schedule.task.input is 66,004 bytes; the limit is 65,536."
        " Put large texts into documents instead."
    )
    answer = await mesh.schedules.ListSchedules(pb.ListSchedulesRequest(parent=PARENT), timeout=60)
    assert not answer.schedules
    await create(mesh, nightly(task=Task(input=TaskInput(text="x" * 65_000))))


async def test_a_tenant_has_at_most_a_thousand_schedules(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more is refused, and a repeat of an accepted one is not. (Here ten are a thousand.)"""
    assert schedules.MAX_SCHEDULES == 1000
    monkeypatch.setattr(schedules, "MAX_SCHEDULES", 10)
    await asyncio.gather(*(create(mesh, nightly(), f"s{n}", f"r{n}") for n in range(10)))
    with pytest.raises(InvalidField) as refused:
        await create(mesh, nightly())
    assert refused.value.message == (
        "parent: must be a tenant with fewer than 10 schedules. Delete one first"
    )
    assert (await create(mesh, nightly(), "s7", "r7")).name == f"{PARENT}/schedules/s7"
