"""What becomes of a schedule's times: submitted once each, whoever looks, and however often."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from agentmesh.coordinator.v1 import schedule_service_pb2 as pb
from agentmesh.coordinator.v1.schedule_service_pb2 import Schedule
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit.errors import AgentNotFound, BudgetExhausted, QueueFull, from_status
from meshtest.eventually import eventually
from services.coordinator.schedule_store_jetstream import TICKS
from services.coordinator.schedule_world import World
from services.coordinator.schedules import Stored

pytest_plugins = ["meshtest.fixtures", "services.coordinator.schedule_world"]

SKIP, RUN_LAST, RUN_ALL = (
    pb.MISSED_RUN_POLICY_SKIP,
    pb.MISSED_RUN_POLICY_RUN_LAST,
    pb.MISSED_RUN_POLICY_RUN_ALL,
)
OVERLAP_SKIP = pb.OVERLAP_POLICY_SKIP


def at(schedule: Schedule) -> str:
    """When it runs next, in UTC."""
    return f"{schedule.next_run_time.ToDatetime():%Y-%m-%d %H:%M}"


def times(tasks: Sequence[Task]) -> list[str]:
    """When they were submitted."""
    return [f"{task.create_time.ToDatetime():%H:%M}" for task in tasks]


async def test_a_task_is_submitted_at_each_time(world: World) -> None:
    """Not before, and with everything the schedule says."""
    created = await world.create()
    assert at(created) == "2026-01-01 01:00"
    await world.pass_to("2026-01-01 00:59:59")
    assert await world.look() == datetime(2026, 1, 1, 1, tzinfo=UTC)
    assert await world.runs() == []
    first = await world.pass_to("2026-01-01 01:00")
    second = await world.pass_to("2026-01-01 02:00")
    runs = await world.runs()
    assert times(runs) == ["01:00", "02:00"]
    assert runs[0].input.text == "run"
    assert runs[0].schedule == "tenants/acme/schedules/nightly"
    assert first.last_run.task == first.last_task == runs[0].name
    assert second.last_task == runs[1].name
    assert second.last_run.time.ToDatetime() == datetime(2026, 1, 1, 2)
    assert second.etag == created.etag
    assert at(second) == "2026-01-01 03:00"


async def test_many_who_look_at_once_submit_one_task(world: World) -> None:
    """Several coordinators, and repeated deliveries."""
    await world.create()
    await world.clock.advance(3600)
    await asyncio.gather(*(world.look(world.make_ticks()) for _ in range(8)))
    await world.settle()
    assert times(await world.runs()) == ["01:00"]


async def test_a_coordinator_that_dies_after_the_submission_leaves_no_second_task(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one finds the task, and sets the next time, even if it comes much later."""

    class Killed(BaseException):
        pass

    async def die(*_: object) -> None:
        raise Killed

    await world.create(overlap=OVERLAP_SKIP)
    with monkeypatch.context() as patched:
        patched.setattr(world.store, "write", die)
        with pytest.raises(Killed):
            await world.pass_to("2026-01-01 01:00")
    assert times(await world.runs()) == ["01:00"]
    after = await world.pass_to("2026-01-01 02:30")
    (run,) = await world.runs()
    assert after.last_task == run.name
    assert after.last_run.skipped
    assert after.last_run.time.ToDatetime() == datetime(2026, 1, 1, 2)
    assert after.last_run.missed == 0


@pytest.mark.parametrize(
    ("policy", "runs", "missed"),
    [(SKIP, [], 4), (RUN_LAST, ["05:30"], 4), (RUN_ALL, ["05:30"] * 5, 0)],
    ids=["skip", "run last", "run all"],
)
async def test_missed_times_are_treated_as_the_schedule_says(
    world: World, policy: pb.MissedRunPolicy, runs: list[str], missed: int
) -> None:
    """After four and a half hours in which no coordinator ran."""
    await world.create(missed_runs=policy)
    after = await world.pass_to("2026-01-01 05:30")
    assert times(await world.runs()) == runs
    assert after.last_run.time.ToDatetime() == datetime(2026, 1, 1, 5)
    assert after.last_run.missed == missed
    assert not after.last_run.HasField("error")
    assert not after.last_run.skipped
    assert at(after) == "2026-01-01 06:00"
    await world.pass_to("2026-01-01 06:00")
    assert times(await world.runs()) == [*runs, "06:00"]


async def test_at_most_a_hundred_missed_times_are_made_up_for(world: World) -> None:
    """The last ones; each is a task of its own."""
    await world.create(missed_runs=RUN_ALL)
    after = await world.pass_to("2026-01-08 00:30")
    runs = await world.runs()
    assert len(runs) == len({task.name for task in runs}) == 100
    assert at(after) == "2026-01-08 01:00"


async def test_a_time_is_left_out_while_the_task_before_is_open(world: World) -> None:
    """Until it has ended, however many times that takes."""
    await world.create(overlap=OVERLAP_SKIP)
    first = await world.pass_to("2026-01-01 01:00")
    for hour in (2, 3):
        skipped = await world.pass_to(f"2026-01-01 0{hour}:00")
        assert skipped.last_run.skipped
        assert skipped.last_run.task == ""
        assert skipped.last_task == first.last_task
    await world.end(first.last_task)
    after = await world.pass_to("2026-01-01 04:00")
    assert not after.last_run.skipped
    assert times(await world.runs()) == ["01:00", "04:00"]


async def test_tasks_may_overlap(world: World) -> None:
    """Unless the schedule says otherwise."""
    await world.create()
    await world.pass_to("2026-01-01 01:00")
    await world.pass_to("2026-01-01 02:00")
    assert times(await world.runs()) == ["01:00", "02:00"]


async def test_a_paused_schedule_submits_nothing_and_makes_up_for_nothing(world: World) -> None:
    """It goes on with the next time after it is resumed."""
    created = await world.create(paused=True, missed_runs=RUN_ALL)
    assert not created.HasField("next_run_time")
    await world.pass_to("2026-01-01 05:30")
    assert await world.look() is None
    resumed = Schedule()
    resumed.CopyFrom(created)
    resumed.paused = False
    assert at(await world.schedules.update("acme", world.id, resumed)) == "2026-01-01 06:00"
    await world.pass_to("2026-01-01 06:00")
    assert times(await world.runs()) == ["06:00"]


async def test_an_update_moves_the_next_run(world: World) -> None:
    """The former time passes without a task, and its delivery is settled."""
    created = await world.create()
    former = (await world.stored()).sequence
    created.cron, created.time_zone = "30 9 * * *", "Europe/Berlin"
    assert at(await world.schedules.update("acme", world.id, created)) == "2026-01-01 08:30"
    await world.pass_to("2026-01-01 02:00")
    assert await world.ticks.attend("acme", world.id, former) is None
    assert await world.runs() == []
    await world.pass_to("2026-01-01 08:30")
    assert times(await world.runs()) == ["08:30"]


async def test_an_update_that_keeps_the_times_leaves_none_out(world: World) -> None:
    """A time that has come, and was not handled yet, runs with the new task."""
    created = await world.create()
    await world.clock.advance(3600.5)
    created.task.input.text = "run better"
    updated = await world.schedules.update("acme", world.id, created)
    assert at(updated) == "2026-01-01 01:00"
    await world.settle()
    assert [task.input.text for task in await world.runs()] == ["run better"]


@pytest.mark.parametrize("empty", [True, False], ids=["no schedule", "an earlier state"])
async def test_a_replica_that_is_behind_does_not_end_a_schedule(
    world: World, monkeypatch: pytest.MonkeyPatch, empty: bool
) -> None:
    """What it does not have yet is looked at again a second later."""
    created = await world.create()
    before = await world.stored()
    created.overlap = OVERLAP_SKIP
    await world.schedules.update("acme", world.id, created)
    sequence = (await world.stored()).sequence
    read = world.store.read

    async def stale(tenant: str, schedule_id: str) -> Stored | None:
        monkeypatch.setattr(world.store, "read", read)
        return None if empty else before

    monkeypatch.setattr(world.store, "read", stale)
    again = await world.ticks.attend("acme", world.id, sequence)
    assert again == world.clock.now() + timedelta(seconds=1)
    assert await world.ticks.attend("acme", world.id, sequence) == datetime(
        2026, 1, 1, 1, tzinfo=UTC
    )


async def test_a_deleted_schedule_is_not_delivered_again(world: World) -> None:
    """Although it was told to come back: nobody looks for it for ever."""
    await world.create()
    await world.bus.ensure_consumer(TICKS)
    async with aclosing(world.bus.consume(TICKS, max_in_flight=1)) as deliveries:
        delivery = await anext(deliveries)
        await world.schedules.delete("acme", world.id)
        await delivery.not_now(0.01)

        async def gone() -> bool:
            info = await world.bus.consumer_info(TICKS.stream, TICKS.durable)
            return not info["num_ack_pending"] and not info["num_pending"]

        await eventually(gone)


async def test_a_deleted_schedule_submits_nothing(world: World) -> None:
    """And one of the same name that comes after it begins anew."""
    await world.create()
    former = (await world.stored()).sequence
    await world.schedules.delete("acme", world.id)
    await world.clock.advance(7200)
    assert await world.ticks.attend("acme", world.id, former) == world.clock.now() + timedelta(
        seconds=1
    )
    assert await world.runs() == []
    await world.create()
    await world.pass_to("2026-01-01 03:00")
    assert times(await world.runs()) == ["03:00"]


async def test_a_deletion_during_a_run_stays_a_deletion(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever submitted the task does not bring the schedule back."""
    await world.create()
    write = world.store.write

    async def delete_first(tenant: str, schedule_id: str, stored: Stored) -> None:
        await world.schedules.delete(tenant, schedule_id)
        await write(tenant, schedule_id, stored)

    await world.clock.advance(3600)
    monkeypatch.setattr(world.store, "write", delete_first)
    await world.look()
    assert await world.store.read("acme", world.id) is None


async def test_what_cannot_be_accepted_is_told_and_not_tried_again(world: World) -> None:
    """The next time is tried as any other."""
    await world.create()
    world.barrier.error = AgentNotFound("The agent is gone.")
    after = await world.pass_to("2026-01-01 01:00")
    error = from_status(after.last_run.error)
    assert isinstance(error, AgentNotFound)
    assert error.message == "The agent is gone."
    assert after.last_run.task == after.last_task == ""
    assert at(after) == "2026-01-01 02:00"
    assert world.barrier.asked == 1
    world.barrier.error = None
    after = await world.pass_to("2026-01-01 02:00")
    assert not after.last_run.HasField("error")
    assert times(await world.runs()) == ["02:00"]


@pytest.mark.parametrize("policy", [SKIP, RUN_LAST, RUN_ALL])
async def test_what_is_refused_for_a_while_is_tried_again(
    world: World, policy: pb.MissedRunPolicy
) -> None:
    """When the refusal says so, and one sees why it waits."""
    await world.create(missed_runs=policy)
    world.barrier.error = QueueFull("The queue is full.", retry_after_seconds=40)
    after = await world.pass_to("2026-01-01 01:00")
    assert from_status(after.last_run.error).message == "The queue is full."
    assert await world.look() == world.clock.now() + timedelta(seconds=40)
    await world.pass_to("2026-01-01 01:20")
    world.barrier.error = None
    after = await world.pass_to("2026-01-01 01:21")
    assert times(await world.runs()) == ["01:21"]
    assert after.last_run.time.ToDatetime() == datetime(2026, 1, 1, 1)
    assert not after.last_run.HasField("error")
    assert at(after) == "2026-01-01 02:00"


async def test_it_is_tried_until_the_next_time_has_come(world: World) -> None:
    """Then that one is tried, and the former one counts as missed."""
    await world.create()
    world.barrier.error = BudgetExhausted("The budget is spent.")
    await world.pass_to("2026-01-01 01:59:50")
    assert await world.look() == datetime(2026, 1, 1, 2, tzinfo=UTC)
    await world.pass_to("2026-01-01 02:00")
    world.barrier.error = None
    after = await world.pass_to("2026-01-01 02:00:30")
    (run,) = await world.runs()
    assert after.last_run.task == run.name
    assert after.last_run.time.ToDatetime() == datetime(2026, 1, 1, 2)
    assert after.last_run.missed == 1


async def test_clocks_that_change_lose_no_night(world: World) -> None:
    """03:00 in Berlin stands for the 02:30 that is skipped; the repeated one runs once."""
    await world.create("30 2 * * *", time_zone="Europe/Berlin")
    for day, expected in (("03-28", "01:30"), ("03-29", "01:00"), ("03-30", "00:30")):
        await world.pass_to(f"2026-{day} {expected}")
        assert times(await world.runs())[-1] == expected
    before = len(await world.runs())
    await world.pass_to("2026-10-25 00:30")
    after = await world.pass_to("2026-10-25 01:30")
    assert len(await world.runs()) == before + 1
    assert at(after) == "2026-10-26 01:30"
