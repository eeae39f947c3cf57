"""Dead letters: they are listed, put back and discarded, by one of two who act at once."""

import asyncio
from contextlib import aclosing
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit.clock import Clock, SystemClock
from meshkit.errors import (
    BudgetExhausted,
    DeadLetterNotFound,
    DeadlineExceeded,
    Forbidden,
    InvalidField,
    InvalidPageToken,
    MeshError,
    TaskStateError,
    from_status,
    to_status,
)
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from services.coordinator.coordinator_mesh import PARENT, Mesh
from services.coordinator.dead_letters import DeadLetters, Redriven
from services.coordinator.read_model import DeadLetterFilter, Letter, LetterPage
from services.coordinator.waiting_mesh import kinds
from tasklog import lifecycle
from tasklog.partitions import Partitions
from tasklog.policy_store import PolicyStore
from tasklog.queues import Queues

pytest_plugins = ["meshtest.fixtures", "services.coordinator.coordinator_mesh"]


_LATE = DeadlineExceeded("The step took too long.")


async def _die(mesh: Mesh, task: Task, error: MeshError | None = None) -> None:
    """Plays the executor whose last attempt failed."""
    await mesh.execute(task, "started")
    task_id = task.name.rpartition("/")[2]
    last = await mesh.log.last("acme", task_id)
    assert last is not None
    event = lifecycle.new_event(task.name, "executor/test")
    event.dead_lettered.error.CopyFrom(
        to_status(error or DeadlineExceeded("The step took too long."))
    )
    time = last.event.time.ToDatetime() + timedelta(seconds=1)
    lifecycle.advance(last.event.status, event, sequence=last.event.sequence + 1, time=time)
    await mesh.log.append("acme", task_id, event, after=last.stream_sequence)


async def _dead(mesh: Mesh, text: str = "hello", **fields: object) -> Task:
    task = await mesh.submit(text, "", **fields)
    await _die(mesh, task)
    return task


async def _list(mesh: Mesh, **fields: object) -> pb.ListDeadLettersResponse:
    request = pb.ListDeadLettersRequest(parent=PARENT, **fields)  # type: ignore[arg-type]
    return await mesh.tasks.ListDeadLetters(request, timeout=60)


async def _listed(mesh: Mesh, *tasks: Task) -> None:
    """Waits until exactly these are listed, in any order."""

    async def all_there() -> bool:
        letters = (await _list(mesh)).dead_letters
        return {each.task.name for each in letters} == {task.name for task in tasks}

    await eventually(all_there)


async def _redrive(mesh: Mesh, task: Task, request_id: str = "") -> Task:
    request = pb.RedriveDeadLetterRequest(name=task.name, request_id=request_id, comment="again")
    return (await mesh.tasks.RedriveDeadLetter(request, timeout=60)).task


async def _discard(mesh: Mesh, task: Task, request_id: str = "") -> None:
    request = pb.DiscardDeadLetterRequest(name=task.name, request_id=request_id, comment="no use")
    await mesh.tasks.DiscardDeadLetter(request, timeout=60)


async def _kinds(mesh: Mesh, task: Task) -> list[str | None]:
    task_id = task.name.rpartition("/")[2]
    return [entry.event.WhichOneof("kind") async for entry in mesh.log.read("acme", task_id)]


async def test_a_dead_letter_is_listed_with_its_reason(mesh: Mesh) -> None:
    """Its task, when it came, and the reason of its last failure; others are not listed."""
    alive = await mesh.submit("alive")
    dead = await _dead(mesh, "dead")
    await mesh.execute(alive, "started", "completed")
    await _listed(mesh, dead)
    (letter,) = (await _list(mesh)).dead_letters
    assert letter.reason == "DEADLINE_EXCEEDED"
    assert letter.task.state == task_pb2.TASK_STATE_DEAD_LETTERED
    assert letter.task.input.text == "dead"
    assert from_status(letter.task.error).message == "The step took too long."
    assert letter.time == letter.task.end_time


async def test_dead_letters_are_filtered_by_lane_reason_and_age(mesh: Mesh) -> None:
    """Each filter finds exactly what fits; pages are bound to it."""
    slow = await _dead(mesh, lane=tier_pb2.LANE_BATCH)
    poor = await mesh.submit()
    await _die(mesh, poor, BudgetExhausted("Spent.", metadata={"budget": "b"}))
    await _listed(mesh, slow, poor)
    wanted: list[tuple[dict[str, object], list[str]]] = [
        ({"lane": tier_pb2.LANE_BATCH}, [slow.name]),
        ({"lane": tier_pb2.LANE_INTERACTIVE}, []),
        ({"reason": "BUDGET_EXHAUSTED"}, [poor.name]),
        ({"reason": "DEADLINE_EXCEEDED", "lane": tier_pb2.LANE_STANDARD}, []),
        ({"min_age": Duration(seconds=3600)}, []),
    ]
    for fields, names in wanted:
        letters = (await _list(mesh, **fields)).dead_letters
        assert [letter.task.name for letter in letters] == names
    first = await _list(mesh, page_size=1)
    second = await _list(mesh, page_size=1, page_token=first.next_page_token)
    assert [page.dead_letters[0].task.name for page in (first, second)] == [poor.name, slow.name]
    assert not second.next_page_token
    with pytest.raises(InvalidPageToken):
        await _list(mesh, page_size=1, page_token=first.next_page_token, reason="DEADLINE_EXCEEDED")


async def test_a_redriven_task_runs_again_on_the_same_log(mesh: Mesh) -> None:
    """With its whole time and all its attempts; it is a dead letter no longer."""
    task = await _dead(mesh)
    again = await _redrive(mesh, task)
    assert (again.state, again.attempt) == (task_pb2.TASK_STATE_QUEUED, 0)
    assert not again.HasField("end_time")
    assert not again.HasField("error")
    limit = again.deadline.ToDatetime() - again.create_time.ToDatetime()
    assert limit > task.deadline.ToDatetime() - task.create_time.ToDatetime()
    await mesh.execute(task, "started", "completed")
    assert await _kinds(mesh, task) == [
        "submitted",
        "started",
        "dead_lettered",
        "redriven",
        "started",
        "completed",
    ]
    await _listed(mesh)


async def test_a_redriven_task_stands_in_its_queue(mesh: Mesh) -> None:
    """Executors are told, and find it where its lane, tenant and priority say."""
    task = await _dead(mesh, lane=tier_pb2.LANE_BATCH, priority=7)
    wakes = await mesh.bus.subscribe("wake.>")
    await _redrive(mesh, task)
    assert (await asyncio.wait_for(anext(wakes), 60)).subject == "wake.batch-7.acme"
    info = await mesh.bus.consumer_info("TASKS", "queue-batch-7-acme")
    assert info["num_pending"] == 2  # as it was submitted, and as it was put back
    await wakes.close()


async def test_a_redrive_is_repeatable_by_its_request_id(mesh: Mesh) -> None:
    """Even after the task died again; without one, or with another, it is a new redrive."""
    task = await _dead(mesh)
    await _redrive(mesh, task, "r1")
    assert (await _redrive(mesh, task, "r1")).state == task_pb2.TASK_STATE_QUEUED
    await _die(mesh, task)
    assert (await _redrive(mesh, task, "r1")).state == task_pb2.TASK_STATE_DEAD_LETTERED
    assert (await _redrive(mesh, task, "r2")).state == task_pb2.TASK_STATE_QUEUED
    assert (await _kinds(mesh, task)).count("redriven") == 2


async def test_of_two_redrives_at_once_one_wins(mesh: Mesh) -> None:
    """The other is told that the task is no dead letter; the same request twice is one."""
    task = await _dead(mesh)
    outcomes = await asyncio.gather(
        *(_redrive(mesh, task, request_id) for request_id in ("a", "b", "c")),
        return_exceptions=True,
    )
    refused = [each for each in outcomes if isinstance(each, BaseException)]
    assert [type(each) for each in refused] == [TaskStateError] * 2
    assert str(refused[0]) == (
        "A task that is QUEUED cannot become QUEUED by the event 'redriven'."
    )
    await _die(mesh, task)
    await asyncio.gather(*(_redrive(mesh, task, "d") for _ in range(3)))
    assert (await _kinds(mesh, task)).count("redriven") == 2


async def test_a_discarded_dead_letter_is_off_the_list_for_good(mesh: Mesh) -> None:
    """Its log stays and still says why it failed; it can be neither redriven nor discarded."""
    task = await _dead(mesh)
    await _discard(mesh, task, "r1")
    await _discard(mesh, task, "r1")
    await _listed(mesh)
    stands = (await mesh.tasks.GetTask(pb.GetTaskRequest(name=task.name), timeout=60)).task
    assert stands.state == task_pb2.TASK_STATE_DEAD_LETTERED
    assert from_status(stands.error).reason == "DEADLINE_EXCEEDED"
    with pytest.raises(TaskStateError, match=r"that was discarded cannot be redriven\."):
        await _redrive(mesh, task, "r1")
    with pytest.raises(TaskStateError, match=r"that was discarded cannot be discarded\."):
        await _discard(mesh, task, "r2")
    assert (await _kinds(mesh, task)).count("discarded") == 1


async def test_what_is_no_dead_letter_cannot_be_redriven_or_discarded(mesh: Mesh) -> None:
    """A task that is not dead is TASK_STATE; one that is not there is DEAD_LETTER_NOT_FOUND."""
    task = await mesh.submit()
    for kind, state in (("", "QUEUED"), ("started", "RUNNING"), ("completed", "SUCCEEDED")):
        await mesh.execute(task, *([kind] if kind else []))
        before = await kinds(mesh, task.name)
        for act, becomes, event in (
            (_redrive, "QUEUED", "redriven"),
            (_discard, "DEAD_LETTERED", "discarded"),
        ):
            with pytest.raises(TaskStateError) as refused:
                await act(mesh, task)
            assert refused.value.message == (
                f"A task that is {state} cannot become {becomes} by the event '{event}'."
            )
            assert refused.value.metadata == {"state": state}
        assert await kinds(mesh, task.name) == before
    unknown = Task(name=f"{PARENT}/tasks/unknown")
    for call in (_redrive, _discard):
        with pytest.raises(DeadLetterNotFound) as caught:
            await call(mesh, unknown, "r1")
        assert caught.value.message == "There is no dead letter 'tenants/acme/tasks/unknown'."
    with pytest.raises(Forbidden):
        await _redrive(mesh, Task(name="tenants/other/tasks/t"))


async def test_many_are_redriven_by_filter_and_each_is_told(mesh: Mesh) -> None:
    """The last to come first, at most as many as were asked for."""
    batch = [await _dead(mesh, lane=tier_pb2.LANE_BATCH) for _ in range(3)]
    other = await _dead(mesh)
    await _listed(mesh, *batch, other)
    request = pb.RedriveDeadLettersRequest(
        parent=PARENT, lane=tier_pb2.LANE_BATCH, limit=2, max_per_second=1000
    )
    told = [each async for each in mesh.tasks.RedriveDeadLetters(request, timeout=60)]
    assert [(each.task, each.redriven) for each in told] == [
        (batch[2].name, 1),
        (batch[1].name, 2),
    ]
    assert not any(each.HasField("error") for each in told)
    await _listed(mesh, batch[0], other)


@pytest.mark.parametrize(
    ("fields", "field", "description"),
    [
        ({"lane": 9}, "lane", "must be LANE_INTERACTIVE, LANE_STANDARD or LANE_BATCH"),
        ({"reason": "x" * 129}, "reason", "must be at most 128 characters"),
        (
            {"min_age": Duration(seconds=-1)},
            "min_age",
            "must not be negative, and at most 3,650 days",
        ),
        ({"limit": -1}, "limit", "must not be negative"),
        ({"max_per_second": 1001}, "max_per_second", "must be from 1 to 1,000, or 0 for 10"),
        ({"comment": "x" * 4097}, "comment", "must be at most 4,096 characters"),
    ],
)
async def test_a_wrong_field_is_named(
    mesh: Mesh, fields: dict[str, object], field: str, description: str
) -> None:
    """Nothing is redriven."""
    request = pb.RedriveDeadLettersRequest(parent=PARENT, **fields)  # type: ignore[arg-type]
    with pytest.raises(InvalidField) as caught:
        async for _ in mesh.tasks.RedriveDeadLetters(request, timeout=60):
            pass
    (violation,) = caught.value.violations
    assert (violation.field, violation.description) == (field, description)


class _Listed:
    """A list that does not follow the logs, as one that lags."""

    def __init__(self, *tasks: Task) -> None:
        self._tasks = tasks

    async def dead_letters(
        self, wanted: DeadLetterFilter, *, position: str | None, limit: int
    ) -> LetterPage:
        """Two a page."""
        start = int(position or 0)
        end = start + 2
        letters = [
            Letter(task, task.create_time.ToDatetime(), "R") for task in self._tasks[start:end]
        ]
        return LetterPage(letters, str(end) if end < len(self._tasks) else "")


def _letters(mesh: Mesh, clock: Clock, *tasks: Task) -> DeadLetters:
    return DeadLetters(
        log=mesh.log,
        queues=Queues(mesh.bus, Partitions(), PolicyStore(mesh.bus)),
        letters=_Listed(*tasks),
        clock=clock,
        writer="coordinator/test",
    )


async def test_the_rate_is_kept_and_the_caller_ends_it(mesh: Mesh) -> None:
    """One at once, and one each half second at two a second; after the caller's end, none."""
    tasks = [await _dead(mesh) for _ in range(4)]
    clock, told = FakeClock(), list[Redriven]()

    async def redrive() -> None:
        progress = _letters(mesh, clock, *tasks).redrive_all(
            DeadLetterFilter("acme"), min_age=timedelta(), limit=0, max_per_second=2, comment=""
        )
        async with aclosing(progress) as steps:
            async for step in steps:
                told.append(step)

    caller = asyncio.create_task(redrive())
    await eventually(lambda: len(told) == 1 and clock.sleeping == 1)
    await clock.advance(0.4)
    assert clock.sleeping == 1
    await clock.advance(0.2)
    await eventually(lambda: len(told) == 2 and clock.sleeping == 1)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    await clock.advance(10)
    assert [each.count for each in told] == [1, 2]
    assert [len(await _kinds(mesh, task)) for task in tasks] == [4, 4, 3, 3]


async def test_what_is_no_dead_letter_any_more_is_passed_over(mesh: Mesh) -> None:
    """The list may lag: what was redriven or discarded meanwhile is not told."""
    tasks = [await _dead(mesh) for _ in range(4)]
    await _redrive(mesh, tasks[0])
    await _discard(mesh, tasks[1])
    gone = Task(name=f"{PARENT}/tasks/gone")
    progress = _letters(mesh, SystemClock(), *tasks[:2], gone, tasks[2]).redrive_all(
        DeadLetterFilter("acme"), min_age=timedelta(), limit=0, max_per_second=1000, comment=""
    )
    told = [(step.task, step.error, step.count) async for step in progress]
    assert told == [(tasks[2].name, None, 1)]
