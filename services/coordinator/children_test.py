"""How tasks wait for child tasks, and what becomes of the children."""

from datetime import timedelta

import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskResumed
from agentmesh.coordinator.v1.task_pb2 import Task
from meshtest.eventually import eventually
from services.coordinator.coordinator_mesh import Mesh
from services.coordinator.waiting_mesh import (
    append,
    begin_wait,
    events,
    expiring,
    for_children,
    get,
    kinds,
    reaches,
)

pytest_plugins = ["meshtest.fixtures", "services.coordinator.coordinator_mesh"]


async def succeed(mesh: Mesh, name: str, text: str, cost_micros: int = 0) -> None:
    """Runs the task as an executor would."""
    await append(mesh, name, TaskEvent(started={}))
    completed = TaskEvent()
    completed.completed.output.text = text
    await append(mesh, name, completed, task_pb2.TASK_STATE_SUCCEEDED, cost_micros=cost_micros)


async def resumed(mesh: Mesh, parent: Task) -> TaskResumed:
    """What the parent goes on with, as soon as it does."""
    await reaches(mesh, parent.name, "QUEUED")
    return (await events(mesh, parent.name))[-1].resumed


async def test_a_parent_goes_on_with_what_its_children_did(mesh: Mesh) -> None:
    """Their results stand in the order they were asked for, and their cost goes up."""
    parent = await mesh.submit(labels={"team": "a"})
    waiting = for_children(parent, "first", "second")
    await begin_wait(mesh, parent, waiting)
    first, second = waiting.wait.children.tasks
    await reaches(mesh, second, "QUEUED")
    child = await get(mesh, first)
    assert child.parent_task == parent.name
    assert child.depth == 1
    assert child.input.text == "first"
    await succeed(mesh, second, "two", cost_micros=5)
    await reaches(mesh, parent.name, "WAITING")
    await append(mesh, first, TaskEvent(started={}))
    failed = TaskEvent()
    failed.failed.error.message = "no luck"
    await append(mesh, first, failed, cost_micros=2)

    result = await resumed(mesh, parent)
    assert [each.task for each in result.children] == [first, second]
    assert [each.state for each in result.children] == [
        task_pb2.TASK_STATE_FAILED,
        task_pb2.TASK_STATE_SUCCEEDED,
    ]
    assert result.children[0].error.message == "no luck"
    assert result.children[1].output.text == "two"
    assert [each.usage.cost_micros for each in result.children] == [2, 5]
    assert not result.expired
    assert (await get(mesh, parent.name)).usage.cost_micros == 7
    assert (await kinds(mesh, parent.name)).count("resumed") == 1


async def test_cost_goes_up_over_more_than_one_level(mesh: Mesh) -> None:
    """A grandchild's cost is part of the child's, and so of the parent's."""
    parent = await mesh.submit()
    waiting = for_children(parent, "child")
    await begin_wait(mesh, parent, waiting)
    (child,) = waiting.wait.children.tasks
    await reaches(mesh, child, "QUEUED")
    below = for_children(await get(mesh, child), "grandchild")
    await begin_wait(mesh, await get(mesh, child), below)
    (grandchild,) = below.wait.children.tasks
    await reaches(mesh, grandchild, "QUEUED")
    assert (await get(mesh, grandchild)).depth == 2
    await succeed(mesh, grandchild, "deep", cost_micros=3)
    await reaches(mesh, child, "QUEUED")
    await succeed(mesh, child, "middle", cost_micros=4)
    assert (await resumed(mesh, parent)).children[0].usage.cost_micros == 7
    assert (await get(mesh, parent.name)).usage.cost_micros == 7


async def test_a_child_that_cannot_be_accepted_is_a_result_with_its_error(mesh: Mesh) -> None:
    """The parent goes on, and no task was made."""
    parent = await mesh.submit()
    waiting = for_children(parent, "a", "b", agent="nobody")
    waiting.children[1].agent = "not an agent"
    await begin_wait(mesh, parent, waiting)
    result = await resumed(mesh, parent)
    assert [each.task for each in result.children] == ["", ""]
    assert {each.state for each in result.children} == {task_pb2.TASK_STATE_UNSPECIFIED}
    assert result.children[0].error.message == (
        "Tenant 'acme' has no agent 'nobody'. `agentmesh agent list` shows which exist."
    )
    assert result.children[1].error.message.startswith("task.agent: must look like")
    for name in waiting.wait.children.tasks:
        assert await mesh.log.last("acme", name.rpartition("/")[2]) is None


async def test_a_refused_child_does_not_keep_its_sister_from_ending_the_wait(mesh: Mesh) -> None:
    """The parent waits for the accepted one alone."""
    parent = await mesh.submit()
    waiting = for_children(parent, "refused", "accepted")
    waiting.children[0].agent = "nobody"
    await begin_wait(mesh, parent, waiting)
    accepted = waiting.wait.children.tasks[1]
    await reaches(mesh, accepted, "QUEUED")
    await reaches(mesh, parent.name, "WAITING")
    await succeed(mesh, accepted, "done")
    result = await resumed(mesh, parent)
    assert [each.task for each in result.children] == ["", accepted]


async def test_children_that_ended_before_the_wait_was_handled_end_it_at_once(mesh: Mesh) -> None:
    """A wait is delivered again at any time: what its children did by then counts."""
    parent = await mesh.submit()
    first = for_children(parent, "only")
    await begin_wait(mesh, parent, first)
    await reaches(mesh, first.wait.children.tasks[0], "QUEUED")
    await succeed(mesh, first.wait.children.tasks[0], "done")
    await reaches(mesh, parent.name, "QUEUED")
    # The same children under a second wait: they exist, and have ended.
    await begin_wait(mesh, parent, first)
    await eventually(lambda: _count_resumed(mesh, parent.name, 2))
    again = (await events(mesh, parent.name))[-1].resumed
    assert [each.output.text for each in again.children] == ["done"]


async def _count_resumed(mesh: Mesh, name: str, wanted: int) -> bool:
    return (await kinds(mesh, name)).count("resumed") == wanted


async def test_a_wait_that_runs_out_goes_on_with_what_there_is(mesh: Mesh) -> None:
    """Children that have not ended are cancelled."""
    parent = await mesh.submit()
    waiting = expiring(for_children(parent, "quick", "slow"), seconds=5.0)
    await begin_wait(mesh, parent, waiting)
    quick, slow = waiting.wait.children.tasks
    await reaches(mesh, slow, "QUEUED")
    await succeed(mesh, quick, "done", cost_micros=4)
    result = await resumed(mesh, parent)
    assert result.expired
    assert [each.task for each in result.children] == [quick, slow]
    assert result.children[0].output.text == "done"
    assert result.children[1].state == task_pb2.TASK_STATE_CANCELLED
    assert (await get(mesh, parent.name)).usage.cost_micros == 4
    cancelled = (await events(mesh, slow))[-1].cancelled
    assert cancelled.reason == f"{parent.name} no longer waits for it."


async def test_what_a_child_used_until_it_stopped_counts(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait that ran out gives running children a moment to stop."""
    monkeypatch.setattr("services.coordinator.waits._STOPPING", timedelta(minutes=1))
    parent = await mesh.submit()
    waiting = expiring(for_children(parent, "busy"), seconds=3.0)
    await begin_wait(mesh, parent, waiting)
    (busy,) = waiting.wait.children.tasks
    await reaches(mesh, busy, "QUEUED")
    await append(mesh, busy, TaskEvent(started={}))

    async def asked() -> bool:
        return (await kinds(mesh, busy))[-1] == "cancel_requested"

    await eventually(asked)
    await reaches(mesh, parent.name, "WAITING")
    await append(mesh, busy, TaskEvent(cancelled={}), cost_micros=9)
    result = await resumed(mesh, parent)
    assert result.expired
    assert result.children[0].state == task_pb2.TASK_STATE_CANCELLED
    assert (await get(mesh, parent.name)).usage.cost_micros == 9


async def test_a_child_that_does_not_stop_does_not_keep_its_parent(mesh: Mesh) -> None:
    """After a few seconds the parent goes on with what the child has used by then."""
    parent = await mesh.submit()
    waiting = expiring(for_children(parent, "hangs"), seconds=3.0)
    await begin_wait(mesh, parent, waiting)
    (hangs,) = waiting.wait.children.tasks
    await reaches(mesh, hangs, "QUEUED")
    await append(mesh, hangs, TaskEvent(started={}))
    await reaches(mesh, parent.name, "QUEUED")
    result = (await events(mesh, parent.name))[-1].resumed
    assert result.expired
    assert result.children[0].state == task_pb2.TASK_STATE_RUNNING


async def test_a_cancel_goes_down_to_children_of_children(mesh: Mesh) -> None:
    """Waiting ones end, running ones are asked to stop."""
    parent = await mesh.submit()
    waiting = for_children(parent, "a", "b")
    await begin_wait(mesh, parent, waiting)
    waits, runs = waiting.wait.children.tasks
    await reaches(mesh, runs, "QUEUED")
    await append(mesh, runs, TaskEvent(started={}))
    below = for_children(await get(mesh, waits), "c")
    await begin_wait(mesh, await get(mesh, waits), below)
    await reaches(mesh, below.wait.children.tasks[0], "QUEUED")

    await mesh.tasks.CancelTask(pb.CancelTaskRequest(name=parent.name, reason="enough"), timeout=60)
    await reaches(mesh, waits, "CANCELLED")
    await reaches(mesh, below.wait.children.tasks[0], "CANCELLED")

    async def asked() -> bool:
        return (await kinds(mesh, runs))[-1] == "cancel_requested"

    await eventually(asked)
    assert (await events(mesh, waits))[-1].cancelled.reason == (
        f"Its parent {parent.name} was cancelled."
    )


async def test_results_that_are_too_long_for_one_event_are_cut(mesh: Mesh) -> None:
    """The parent still goes on, and is told where the whole is."""
    parent = await mesh.submit()
    waiting = for_children(parent, *"abcde")
    await begin_wait(mesh, parent, waiting)
    for number, name in enumerate(waiting.wait.children.tasks):
        await reaches(mesh, name, "QUEUED")
        await succeed(mesh, name, "x" * (1_200_000 if number else 10))
    result = await resumed(mesh, parent)
    assert result.children[0].output.text == "x" * 10
    cut = result.children[1]
    assert cut.output.text.endswith(f"x\n(Cut here. {cut.task} has all of it.)")
    assert 400_000 < len(cut.output.text) < 500_000


async def test_a_parent_of_a_hundred_children_goes_on(mesh: Mesh) -> None:
    """All of them end at about the same time, and it goes on once."""
    parent = await mesh.submit()
    waiting = for_children(parent, *(f"part {number}" for number in range(100)))
    await begin_wait(mesh, parent, waiting)
    await reaches(mesh, waiting.wait.children.tasks[-1], "QUEUED")
    for name in waiting.wait.children.tasks:
        await succeed(mesh, name, "done", cost_micros=1)
    await reaches(mesh, parent.name, "QUEUED")
    assert (await get(mesh, parent.name)).usage.cost_micros == 100
    assert (await kinds(mesh, parent.name)).count("resumed") == 1
