"""How a task is followed and stopped."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from meshkit.errors import InvalidField, Violation
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from services.coordinator.coordinator_mesh import PARENT, Mesh, coordinator
from tasklog import following, lifecycle, subjects
from tasklog.partitions import WHOLE
from tasklog.task_log import Entry

pytest_plugins = ["meshtest.fixtures", "services.coordinator.coordinator_mesh"]


async def test_a_watcher_sees_every_event_once_and_in_order(mesh: Mesh) -> None:
    """From the past and from the present, with no gap between the two."""
    task = await mesh.submit()
    await mesh.execute(task, "started")
    seen: list[int] = []

    async def watch(after: int) -> list[int]:
        updates = mesh.tasks.WatchTask(
            pb.WatchTaskRequest(name=task.name, after_sequence=after), timeout=60
        )
        found: list[int] = []
        async for update in updates:
            found.append(update.event.sequence)
            seen.append(update.event.sequence)
        return found

    watching = [asyncio.create_task(watch(after)) for after in (0, 1)]
    await eventually(lambda: len(seen) == 3)
    await mesh.execute(task, "model_called", "tool_called", "completed")
    assert await asyncio.gather(*watching) == [[1, 2, 3, 4, 5], [2, 3, 4, 5]]
    assert await watch(4) == [5]
    assert await watch(5) == []


async def test_running_a_task_streams_it_to_its_end(mesh: Mesh) -> None:
    """First the task, then its events and the model's words, last the task again."""
    updates: list[pb.RunTaskResponse] = []

    async def run() -> None:
        asked = Task(input=TaskInput(text="x"), lane=tier_pb2.LANE_INTERACTIVE)
        request = pb.RunTaskRequest(parent=PARENT, task=asked)
        async for update in mesh.tasks.RunTask(request, timeout=60):
            updates.append(update)  # noqa: PERF401 - read while it grows

    running = asyncio.create_task(run())
    task = (await eventually(lambda: updates[0])).task
    await mesh.execute(task, "started")
    words = pb.TextDelta(step=1, attempt=1, text="Hel")

    async def words_arrive() -> bool:
        await mesh.bus.signal(
            subjects.deltas("acme", task.name.rpartition("/")[2]), words.SerializeToString()
        )
        return any(update.HasField("delta") for update in updates)

    await eventually(words_arrive)
    await mesh.execute(task, "completed")
    await running
    events = [update.event for update in updates if update.HasField("event")]
    assert [event.sequence for event in events] == [1, 2, 3]
    assert next(update.delta for update in updates if update.HasField("delta")) == words
    assert updates[-1].task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert updates[-1].task.output.text == "done"


async def test_a_run_goes_on_where_an_earlier_call_ended(mesh: Mesh) -> None:
    """With the same request_id, after the last event seen: no gap, no repeat, one task."""

    async def run(after: int, *, until: int = 0) -> tuple[Task, list[int]]:
        request = pb.RunTaskRequest(
            parent=PARENT,
            task=Task(input=TaskInput(text="x")),
            request_id="r1",
            after_sequence=after,
        )
        call = mesh.tasks.RunTask(request, timeout=60)
        task, found = Task(), list[int]()
        async for update in call:
            if update.HasField("task"):
                task = update.task
            elif update.HasField("event"):
                found.append(update.event.sequence)
                if update.event.sequence == until:
                    call.cancel()
                    break
        return task, found

    task, seen = await run(0, until=1)
    assert seen == [1]
    await mesh.execute(task, "started", "model_called")
    assert await run(1, until=3) == (await _task(mesh, task.name), [2, 3])
    running = asyncio.create_task(run(3))
    await mesh.execute(task, "tool_called", "completed")
    ended, seen = await running
    assert seen == [4, 5]
    assert ended.state == task_pb2.TASK_STATE_SUCCEEDED
    assert await run(5) == (ended, [])
    assert await run(0) == (ended, [1, 2, 3, 4, 5])


async def test_only_the_result_is_sent_to_who_wants_that_alone(mesh: Mesh) -> None:
    """The task as it is accepted, and as it ended; a repeat gets the same."""
    request = pb.RunTaskRequest(
        parent=PARENT,
        task=Task(input=TaskInput(text="x")),
        request_id="r1",
        result_only=True,
    )

    async def run() -> list[pb.RunTaskResponse]:
        return [update async for update in mesh.tasks.RunTask(request, timeout=60)]

    call = mesh.tasks.RunTask(request, timeout=60)
    accepted = (await anext(aiter(call))).task
    repeated = asyncio.create_task(run())
    await mesh.execute(accepted, "started", "model_called", "tool_called", "completed")
    (ended,) = [update.task async for update in call]
    assert accepted.state == task_pb2.TASK_STATE_QUEUED
    assert ended == await _task(mesh, accepted.name)
    assert ended.output.text == "done"
    assert [update.task for update in await repeated][-1] == ended
    assert [update.task for update in await run()] == [ended, ended]


@pytest.mark.parametrize("result_only", [True, False])
async def test_tasks_of_the_batch_lane_are_accepted_together(
    nats_url: str, tmp_path: Path, *, result_only: bool
) -> None:
    """Who comes while another one's runs waits for the lane's linger; who submits only does not."""
    clock = FakeClock()
    begun = clock.now()
    async with coordinator(nats_url, tmp_path, clock=clock) as mesh:
        task = Task(input=TaskInput(text="x"), lane=tier_pb2.LANE_BATCH)
        request = pb.RunTaskRequest(parent=PARENT, task=task, result_only=result_only)
        accepted: list[Task] = []
        calls: list[Any] = []

        async def run() -> None:
            calls.append(mesh.tasks.RunTask(request, timeout=60))
            accepted.append((await anext(aiter(calls[-1]))).task)

        running = [asyncio.create_task(run())]
        await eventually(lambda: len(accepted) == 1)
        running += [asyncio.create_task(run()) for _ in range(2)]
        submitted = await mesh.submit(lane=tier_pb2.LANE_BATCH)
        assert submitted.create_time.ToDatetime(begun.tzinfo) == begun
        await clock.advance(0.06)
        await asyncio.gather(*running)
        later = [each.create_time.ToDatetime(begun.tzinfo) - begun for each in accepted]
        assert [each.total_seconds() for each in later] == [0, 0.06, 0.06]
        for call in calls:
            call.cancel()


async def test_who_wants_the_result_hears_of_a_cancel(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anybody looks: a task may end in other ways than by its last step."""
    monkeypatch.setattr(following, "_LOOK_AFTER_SECONDS", 3600.0)
    request = pb.RunTaskRequest(
        parent=PARENT, task=Task(input=TaskInput(text="x")), result_only=True
    )
    call = mesh.tasks.RunTask(request, timeout=60)
    accepted = (await anext(aiter(call))).task
    await mesh.tasks.CancelTask(pb.CancelTaskRequest(name=accepted.name), timeout=60)
    (ended,) = [update.task async for update in call]
    assert ended.state == task_pb2.TASK_STATE_CANCELLED


async def test_an_end_that_is_not_heard_is_found(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version before this one stored ends as any other event; the broker may lose one, too."""
    monkeypatch.setattr(following, "_LOOK_AFTER_SECONDS", 0.1)
    call, accepted, task_id = await _asked_for_result(mesh, "x")
    last = await mesh.log.last("acme", task_id)
    assert last is not None
    await mesh.bus.append(
        f"task.acme.{task_id}.log",
        _failed(last, accepted.name).SerializeToString(),
        expected_last=last.stream_sequence,
        scope=WHOLE.scope("acme", task_id),
    )
    (ended,) = [update.task async for update in call]
    assert ended.state == task_pb2.TASK_STATE_FAILED


async def test_lost_content_is_no_end(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for the result of a task whose input is lost waits until the task has ended."""
    monkeypatch.setattr(following, "_LOOK_AFTER_SECONDS", 0.02)
    call, accepted, task_id = await _asked_for_result(mesh, "x" * 100_000)
    await mesh.bus.delete_blobs(subjects.owner("acme", task_id))
    result = asyncio.ensure_future(anext(aiter(call)))
    # Many looks.
    assert await asyncio.wait({result}, timeout=1) == (set(), {result})
    last = await mesh.log.last_readable("acme", task_id)
    assert last is not None
    event = _failed(last, accepted.name)
    await mesh.log.append("acme", task_id, event, after=last.stream_sequence)
    assert (await result).task.state == task_pb2.TASK_STATE_FAILED


async def _asked_for_result(mesh: Mesh, text: str) -> tuple[Any, Task, str]:
    """A call that waits for the result of a new task, the task, and its id."""
    request = pb.RunTaskRequest(
        parent=PARENT, task=Task(input=TaskInput(text=text)), result_only=True
    )
    call = mesh.tasks.RunTask(request, timeout=60)
    accepted = (await anext(aiter(call))).task
    return call, accepted, accepted.name.rpartition("/")[2]


def _failed(last: Entry, task: str) -> TaskEvent:
    event = lifecycle.new_event(task, "executor/test")
    event.failed.SetInParent()
    return lifecycle.advance(
        last.event.status, event, sequence=2, time=last.event.time.ToDatetime()
    )


async def test_a_result_after_an_event_is_refused(mesh: Mesh) -> None:
    """Who wants no events has seen none."""
    request = pb.RunTaskRequest(
        parent=PARENT,
        task=Task(input=TaskInput(text="x")),
        request_id="r1",
        after_sequence=1,
        result_only=True,
    )
    with pytest.raises(InvalidField) as caught:
        await anext(aiter(mesh.tasks.RunTask(request, timeout=60)))
    assert caught.value.violations == (
        Violation("after_sequence", "must be 0 where only the result is wanted"),
    )


@pytest.mark.parametrize(
    ("after", "request_id", "description"),
    [
        (-1, "r1", "must not be negative"),
        (-1, "", "must not be negative"),
        (1, "", "must be 0 without the request_id of an earlier call"),
    ],
)
async def test_a_run_after_an_impossible_event_is_refused(
    mesh: Mesh, after: int, request_id: str, description: str
) -> None:
    """And no task is accepted."""
    request = pb.RunTaskRequest(
        parent=PARENT,
        task=Task(input=TaskInput(text="x")),
        request_id=request_id,
        after_sequence=after,
    )
    with pytest.raises(InvalidField) as caught:
        await anext(aiter(mesh.tasks.RunTask(request, timeout=60)))
    assert caught.value.violations == (Violation("after_sequence", description),)
    assert await mesh.bus.last(WHOLE.stream, WHOLE.all_events) is None


async def test_a_watch_after_a_negative_number_is_refused(mesh: Mesh) -> None:
    """As for a run."""
    task = await mesh.submit()
    call = mesh.tasks.WatchTask(pb.WatchTaskRequest(name=task.name, after_sequence=-5), timeout=60)
    with pytest.raises(InvalidField) as caught:
        await anext(aiter(call))
    assert caught.value.violations == (Violation("after_sequence", "must not be negative"),)


async def test_a_watcher_of_a_redriven_task_goes_on(mesh: Mesh) -> None:
    """The end of an attempt that was redriven is not the end of the stream."""
    task = await mesh.submit()
    await mesh.execute(task, "started", "dead_lettered", "redriven", "started")
    call = mesh.tasks.WatchTask(pb.WatchTaskRequest(name=task.name), timeout=60)
    updates = aiter(call)
    seen = [(await anext(updates)).event.sequence for _ in range(5)]
    await mesh.execute(task, "completed")
    seen += [update.event.sequence async for update in updates]
    assert seen == [1, 2, 3, 4, 5, 6]


async def test_events_come_in_pages(mesh: Mesh) -> None:
    """Each page goes on where the last one ended."""
    task = await mesh.submit()
    await mesh.execute(task, "started", "model_called", "tool_called", "completed")
    found: list[int] = []
    token = ""
    while True:
        page = await mesh.tasks.ListTaskEvents(
            pb.ListTaskEventsRequest(name=task.name, page_size=2, page_token=token), timeout=60
        )
        found.extend(event.sequence for event in page.events)
        token = page.next_page_token
        if not token:
            break
    assert found == [1, 2, 3, 4, 5]


async def test_large_output_is_kept_outside_the_log_and_answered_whole(mesh: Mesh) -> None:
    """A result over 64 KiB is a reference in the log and a text to the reader."""
    task = await mesh.submit()
    await mesh.execute(task, "started")
    task_id = task.name.rpartition("/")[2]
    last = await mesh.log.last("acme", task_id)
    assert last is not None
    event = lifecycle.new_event(task.name, "executor/test")
    event.completed.output.text = "y" * 100_000
    lifecycle.advance(
        last.event.status,
        event,
        sequence=3,
        time=last.event.time.ToDatetime(),
        state=task_pb2.TASK_STATE_SUCCEEDED,
    )
    await mesh.log.append("acme", task_id, event, after=last.stream_sequence)
    stored = await mesh.bus.last(WHOLE.stream, WHOLE.scope("acme", task_id))
    assert stored is not None
    assert len(stored.payload) < 2000
    answer = await mesh.tasks.GetTask(pb.GetTaskRequest(name=task.name), timeout=60)
    assert answer.task.output.text == "y" * 100_000


async def test_a_queued_task_is_cancelled_at_once(mesh: Mesh) -> None:
    """And a second cancel answers the same."""
    task = await mesh.submit()
    for _ in range(2):
        answer = await mesh.tasks.CancelTask(
            pb.CancelTaskRequest(name=task.name, reason="changed my mind"), timeout=60
        )
        assert answer.task.state == task_pb2.TASK_STATE_CANCELLED


async def test_a_running_task_is_asked_to_stop(mesh: Mesh) -> None:
    """The request stands in the log, and executors hear of it."""
    task = await mesh.submit()
    await mesh.execute(task, "started")
    heard = await mesh.bus.subscribe(subjects.ALL_CANCELS)
    answer = await mesh.tasks.CancelTask(pb.CancelTaskRequest(name=task.name), timeout=60)
    assert answer.task.state == task_pb2.TASK_STATE_RUNNING
    message = await asyncio.wait_for(anext(heard), 60)
    assert subjects.parse(message.subject) == ("acme", task.name.rpartition("/")[2])
    await heard.close()
    last = await mesh.log.last("acme", task.name.rpartition("/")[2])
    assert last is not None
    assert last.event.status.cancel_requested


async def test_a_second_cancel_is_heard_again(mesh: Mesh) -> None:
    """An executor that came later than the first signal hears the second one."""
    task = await mesh.submit()
    await mesh.execute(task, "started", "cancel_requested")
    heard = await mesh.bus.subscribe(subjects.ALL_CANCELS)
    await mesh.tasks.CancelTask(pb.CancelTaskRequest(name=task.name), timeout=60)
    message = await asyncio.wait_for(anext(heard), 60)
    assert subjects.parse(message.subject)[1] == task.name.rpartition("/")[2]
    await heard.close()


async def _task(mesh: Mesh, name: str) -> Task:
    return (await mesh.tasks.GetTask(pb.GetTaskRequest(name=name), timeout=60)).task
