"""A task whose large content is gone or damaged is shown without it."""

from contextlib import aclosing

import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task, TaskNote
from meshtest.eventually import eventually
from services.coordinator.coordinator_mesh import PARENT, Mesh
from tasklog import claim_check, lifecycle, subjects

pytest_plugins = ["meshtest.fixtures", "services.coordinator.coordinator_mesh"]

_LARGE = "x" * 100_000


def _note(part: str) -> TaskNote:
    return TaskNote(
        code="CONTENT_LOST",
        text=f"The task's {part} is gone or damaged where large content is kept.",
    )


async def _get(mesh: Mesh, name: str) -> Task:
    return (await mesh.tasks.GetTask(pb.GetTaskRequest(name=name), timeout=60)).task


async def _listed(mesh: Mesh, name: str) -> list[TaskEvent]:
    request = pb.ListTaskEventsRequest(name=name)
    return [*(await mesh.tasks.ListTaskEvents(request, timeout=60)).events]


async def _append(mesh: Mesh, name: str, event: TaskEvent, state: task_pb2.TaskState) -> None:
    task_id = name.rpartition("/")[2]
    last = await mesh.log.last("acme", task_id)
    assert last is not None
    following = lifecycle.new_event(name, "executor/test")
    following.MergeFrom(event)
    lifecycle.advance(
        last.event.status,
        following,
        sequence=last.event.sequence + 1,
        time=last.event.time.ToDatetime(),
        state=state,
    )
    await mesh.log.append("acme", task_id, following, after=last.stream_sequence)


async def _lose(mesh: Mesh, name: str, kind: str) -> None:
    """Removes what the events of a kind hold elsewhere."""
    task_id = name.rpartition("/")[2]
    async with aclosing(mesh.log.read_stored("acme", task_id)) as entries:
        async for entry in entries:
            if entry.event.HasField(kind):
                for blob in claim_check.references(entry.event):
                    await mesh.bus.delete_blob(subjects.owner("acme", task_id), blob.digest)


async def test_a_dead_letter_without_its_input_says_why_it_failed(mesh: Mesh) -> None:
    """Whoever looks after it sees its state, its error and that the input is lost."""
    task = await mesh.submit(_LARGE)
    dead = TaskEvent()
    dead.dead_lettered.error.message = "There is no content."
    await _append(mesh, task.name, dead, task_pb2.TASK_STATE_DEAD_LETTERED)
    whole = await _get(mesh, task.name)
    await _lose(mesh, task.name, "submitted")
    shown = await _get(mesh, task.name)
    whole.ClearField("input")
    whole.notes.append(_note("input"))
    assert shown == whole
    assert shown.error.message == "There is no content."

    async def letters() -> list[str]:
        request = pb.ListDeadLettersRequest(parent=PARENT)
        answer = await mesh.tasks.ListDeadLetters(request, timeout=60)
        return [letter.task.name for letter in answer.dead_letters]

    await eventually(letters)
    assert await letters() == [task.name]
    redriven = await mesh.tasks.RedriveDeadLetter(
        pb.RedriveDeadLetterRequest(name=task.name), timeout=60
    )
    assert redriven.task.state == task_pb2.TASK_STATE_QUEUED


async def test_a_lost_output_is_told(mesh: Mesh) -> None:
    """The rest of the task is there, and the reference of what is missing."""
    task = await mesh.submit()
    await mesh.execute(task, "started")
    done = TaskEvent()
    done.completed.output.text = f"{_LARGE}."
    await _append(mesh, task.name, done, task_pb2.TASK_STATE_SUCCEEDED)
    await _lose(mesh, task.name, "completed")
    shown = await _get(mesh, task.name)
    assert (shown.state, shown.input.text) == (task_pb2.TASK_STATE_SUCCEEDED, "hello")
    assert [*shown.notes] == [_note("output")]
    assert shown.output.HasField("blob")


async def test_what_only_a_step_said_is_not_missed(mesh: Mesh) -> None:
    """A task does not show it, so there is nothing to note."""
    task = await mesh.submit()
    await mesh.execute(task, "started")
    done = TaskEvent()
    done.completed.output.text = "done"
    done.completed.model_called.message.parts.add(text=_LARGE)
    await _append(mesh, task.name, done, task_pb2.TASK_STATE_SUCCEEDED)
    whole = await _get(mesh, task.name)
    await _lose(mesh, task.name, "completed")
    assert await _get(mesh, task.name) == whole


@pytest.mark.parametrize("lost", ["submitted", "completed"])
async def test_events_without_their_content_keep_its_reference(mesh: Mesh, lost: str) -> None:
    """All events are listed and watched; only the content of one is missing."""
    task = await mesh.submit(_LARGE)
    await mesh.execute(task, "started")
    done = TaskEvent()
    done.completed.output.text = f"{_LARGE}."
    await _append(mesh, task.name, done, task_pb2.TASK_STATE_SUCCEEDED)
    expected = await _listed(mesh, task.name)
    await _lose(mesh, task.name, lost)
    if lost == "submitted":
        expected[0].submitted.task.ClearField("input")
    else:
        ids = "acme", task.name.rpartition("/")[2]
        stored = [each.event async for each in mesh.log.read_stored(*ids)]
        expected[2].CopyFrom(stored[2])
        assert expected[2].completed.output.HasField("blob")
    assert await _listed(mesh, task.name) == expected
    watched = mesh.tasks.WatchTask(pb.WatchTaskRequest(name=task.name), timeout=60)
    assert [answer.event async for answer in watched] == expected
