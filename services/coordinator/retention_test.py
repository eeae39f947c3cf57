"""What is kept of tasks, for how long, and what is left of them after that."""

import asyncio

import pytest
from google.protobuf.duration_pb2 import Duration

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from meshkit.errors import RequestIdReused, TaskStateError
from meshtest.eventually import eventually
from services.coordinator.coordinator_mesh import PARENT
from services.coordinator.read_model import TaskFilter
from services.coordinator.retention_bench import DAY, LARGE, Bench, id_of
from tasklog import lifecycle

pytest_plugins = [
    "meshtest.fixtures",
    "services.coordinator.coordinator_mesh",
    "services.coordinator.retention_bench",
]


async def test_of_a_task_past_its_age_one_event_is_left(bench: Bench) -> None:
    """Its events, large content and snapshot go; its name, state, times and usage stay."""
    task = await bench.ended(LARGE, labels={"team": "a"})
    await bench.snapshot(task)
    before = await bench.get(task)
    keeper = await bench.retention()
    await bench.clock.advance(30 * DAY - 60)
    await keeper.remove_due()
    assert await bench.kinds(task) == ["submitted", "started", "completed"]
    await bench.clock.advance(120)
    await keeper.remove_due()
    assert await bench.kinds(task) == ["expired"]
    assert not await bench.blobs(task)
    assert not await bench.has_snapshot(task)
    after = await bench.get(task)
    for field in ("name", "state", "agent", "create_time", "start_time", "end_time", "usage"):
        assert getattr(after, field) == getattr(before, field)
    assert not after.HasField("input")
    assert not after.HasField("output")
    assert [note.code for note in after.notes] == ["CONTENT_EXPIRED"]
    assert after.last_sequence == 4


async def test_what_is_left_is_listed_and_can_be_followed(bench: Bench) -> None:
    """ListTasks shows it; WatchTask and ListTaskEvents answer the one event, and end."""
    task = await bench.ended()
    keeper = await bench.retention()
    await bench.clock.advance(31 * DAY)
    await keeper.remove_due()
    request = pb.WatchTaskRequest(name=task.name, after_sequence=1)
    watched = [answer.event async for answer in bench.mesh.tasks.WatchTask(request, timeout=60)]
    listed = await bench.mesh.tasks.ListTaskEvents(
        pb.ListTaskEventsRequest(name=task.name), timeout=60
    )
    assert [event.WhichOneof("kind") for event in watched] == ["expired"]
    assert list(listed.events) == watched
    built_anew = await bench.retention()
    await built_anew.caught_up()
    for model in (keeper.model, built_anew.model):
        page = await model.list(TaskFilter("acme"), position=None, limit=5)
        (shown,) = page.tasks
        assert shown == await bench.get(task)


async def test_a_request_id_answers_its_task_for_ever(bench: Bench) -> None:
    """A repeat finds what is left and starts nothing; other content is refused."""
    task = await bench.mesh.submit("hello", "r1")
    await bench.mesh.execute(task, "started", "completed")
    keeper = await bench.retention()
    await bench.clock.advance(31 * DAY)
    await keeper.remove_due()
    again = await bench.mesh.submit("hello", "r1")
    assert (again.name, again.state) == (task.name, task_pb2.TASK_STATE_SUCCEEDED)
    with pytest.raises(RequestIdReused):
        await bench.mesh.submit("other", "r1")
    assert await bench.kinds(task) == ["expired"]


async def test_a_task_that_has_not_ended_is_never_touched(bench: Bench) -> None:
    """Queued, running or waiting; neither its age nor its size counts."""
    await bench.tier(retention=Duration(seconds=1), retention_bytes=1)
    queued, running, waiting = [await bench.mesh.submit(LARGE) for _ in range(3)]
    await bench.mesh.execute(running, "started")
    await bench.mesh.execute(waiting, "started", "waiting")
    keeper = await bench.retention()
    await bench.clock.advance(1000 * DAY)
    await keeper.remove_due()
    for task, count in ((queued, 1), (running, 2), (waiting, 3)):
        assert len(await bench.events(task)) == count
        assert (await bench.get(task)).input.text == LARGE


async def test_a_child_stays_while_its_parent_is_open(bench: Bench) -> None:
    """The parent may still read its result; once the parent has ended, the child goes."""
    parent = await bench.mesh.submit("parent")
    await bench.mesh.execute(parent, "started")
    child = await bench.ended("child", parent_task=parent.name)
    keeper = await bench.retention()
    await bench.clock.advance(31 * DAY)
    await keeper.remove_due()
    assert len(await bench.events(child)) == 3
    await bench.mesh.execute(parent, "completed")
    await keeper.remove_due()
    assert await bench.kinds(child) == ["expired"]


async def test_the_oldest_go_while_a_tenant_is_over_its_bytes(bench: Bench) -> None:
    """As many as needed and no more; what ended a moment ago can still be read."""
    tasks = [await bench.ended(LARGE) for _ in range(5)]
    keeper = await bench.retention()
    await keeper.caught_up()
    (use,) = await keeper.ended.tenants()
    assert 5 * 70_000 < use.size_bytes < 5 * 75_000
    await bench.tier(retention_bytes=use.size_bytes * 3 // 5 + 2_000)
    await keeper.remove_due()
    assert [len(await bench.events(task)) for task in tasks] == [3] * 5
    await bench.clock.advance(61)
    await keeper.remove_due()
    await keeper.remove_due()
    assert [len(await bench.events(task)) for task in tasks] == [1, 1, 3, 3, 3]
    (use,) = await keeper.ended.tenants()
    assert 3 * 70_000 < use.size_bytes < 3 * 75_000


async def test_a_dead_letter_stays_until_it_is_discarded_or_old(bench: Bench) -> None:
    """For its size it goes only after somebody has discarded it."""
    await bench.tier(retention_bytes=1)
    kept, discarded = [await bench.ended(LARGE, "dead_lettered") for _ in range(2)]
    await bench.mesh.tasks.DiscardDeadLetter(
        pb.DiscardDeadLetterRequest(name=discarded.name), timeout=60
    )
    keeper = await bench.retention()
    await bench.clock.advance(120)
    await keeper.remove_due()
    assert await bench.kinds(kept) == ["submitted", "started", "dead_lettered"]
    assert await bench.kinds(discarded) == ["expired"]
    await bench.clock.advance(31 * DAY)
    await keeper.remove_due()
    assert await bench.kinds(kept) == ["expired"]
    letters = await bench.mesh.tasks.ListDeadLetters(
        pb.ListDeadLettersRequest(parent=PARENT), timeout=60
    )
    assert not letters.dead_letters
    with pytest.raises(TaskStateError, match=r"^Retention removed the content of '.*': nothing"):
        await bench.mesh.tasks.RedriveDeadLetter(
            pb.RedriveDeadLetterRequest(name=kept.name), timeout=60
        )


async def test_the_log_decides_where_the_read_model_lags(bench: Bench) -> None:
    """A dead letter that was redriven a moment ago is open, whatever the list says."""
    task = await bench.ended(kind="dead_lettered")
    keeper = await bench.retention()
    await keeper.caught_up()
    await bench.clock.advance(31 * DAY)
    await keeper.lag()
    last = await bench.mesh.log.last("acme", id_of(task))
    assert last is not None
    event = lifecycle.new_event(task.name, "test")
    event.redriven.SetInParent()
    lifecycle.advance(last.event.status, event, sequence=4, time=bench.clock.now())
    await bench.mesh.log.append("acme", id_of(task), event, after=last.stream_sequence)
    await keeper.retention.remove_due()
    assert await bench.kinds(task) == ["submitted", "started", "dead_lettered", "redriven"]


async def test_each_tenant_is_kept_by_its_own_tier(bench: Bench) -> None:
    """A shorter retention counts as soon as it is set; without one nothing goes."""
    task = await bench.ended()
    keeper = await bench.retention()
    await bench.clock.advance(2 * DAY)
    await keeper.remove_due()
    assert len(await bench.events(task)) == 3
    await bench.tier(retention=Duration(seconds=86_400))
    await keeper.remove_due()
    assert await bench.kinds(task) == ["expired"]


async def test_at_rest_it_looks_hourly_and_when_a_task_is_due(bench: Bench) -> None:
    """Nothing asks in between; a write is looked at within two minutes."""
    await bench.tier(retention=Duration(seconds=10 * 3600))
    keeper = await bench.retention()
    await keeper.caught_up()
    looks, tenants, clock = 0, keeper.ended.tenants, bench.clock

    async def counted() -> object:
        nonlocal looks
        looks += 1
        return await tenants()

    keeper.ended.tenants = counted  # type: ignore[method-assign,assignment]
    run = asyncio.create_task(keeper.retention.run())

    async def rest(seconds: float) -> float:
        """In how many rounds it has looked when that time is over; a round asks three times."""
        for _ in range(round(seconds / 30)):
            await clock.advance(30)
            await eventually(lambda: clock.sleeping >= 1)
        return looks / 3

    await eventually(lambda: clock.sleeping == 1)
    begun = await rest(120)
    idle = await rest(3 * 3600)
    assert idle - begun == 3
    task = await bench.ended()
    await keeper.caught_up()
    busy = await rest(300)
    # Its events may come in two portions.
    assert 1 <= busy - idle <= 2
    idle_again = await rest(6 * 3600)
    assert 5 <= idle_again - busy <= 6
    assert len(await bench.events(task)) == 3
    await rest(3600)
    assert await bench.kinds(task) == ["expired"]
    run.cancel()
