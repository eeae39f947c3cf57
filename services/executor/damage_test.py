"""Logs that cannot be read: dead letters at once, never delivered for ever."""

from datetime import UTC, datetime

from agentmesh.coordinator.v1 import task_event_pb2, task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from meshkit.errors import CorruptData, ProviderFailed, from_status
from meshtest.eventually import eventually
from services.executor.executor_bench import Bench, kinds
from tasklog import claim_check, lifecycle, subjects
from tasklog.partitions import WHOLE

pytest_plugins = ["meshtest.fixtures", "services.executor.executor_bench"]


async def _settled(bench: Bench) -> None:
    """Returns once no message is queued or held."""

    async def nothing_left() -> bool:
        infos = [info async for info in bench.bus.consumers(WHOLE.stream)]
        return bool(infos) and not any(
            info["num_pending"] or info["num_ack_pending"] for info in infos
        )

    await eventually(nothing_left)


async def _stored(bench: Bench, task_id: str) -> list[TaskEvent]:
    """The log without its large content, some of which is gone."""
    return [entry.event async for entry in bench.log.read_stored("acme", task_id)]


def _told(event: TaskEvent) -> str:
    """What a dead letter says; its reason is CORRUPT_DATA."""
    error = from_status(event.dead_lettered.error)
    assert isinstance(error, CorruptData)
    return error.message


async def test_a_task_whose_input_is_gone_is_a_dead_letter_at_once(bench: Bench) -> None:
    """It says what is missing; nothing is run, and nothing comes back."""
    task_id = await bench.submit(text="x" * 100_000)
    (submitted,) = await _stored(bench, task_id)
    digest = submitted.submitted.input_blob.digest
    await bench.bus.delete_blob(subjects.owner("acme", task_id), digest)
    async with bench.executor():
        await _settled(bench)
    events = await _stored(bench, task_id)
    assert kinds(events) == ["submitted", "dead_lettered"]
    assert _told(events[-1]) == f"There is no content of acme.{task_id} with digest {digest}."
    assert events[-1].status.state == task_pb2.TASK_STATE_DEAD_LETTERED
    assert bench.models.requests == []


async def test_a_step_whose_content_is_damaged_is_a_dead_letter_at_once(bench: Bench) -> None:
    """Of whatever task: attempts that are left do not count."""

    async def broken(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        raise ProviderFailed("The provider answered 529.")

    task_id = await bench.submit()
    last = await bench.log.last("acme", task_id)
    assert last is not None
    for kind in ("started", "model_called", "retried"):
        event = lifecycle.new_event(last.event.task, "executor/other")
        getattr(event, kind).SetInParent()
        if kind == "model_called":
            event.model_called.message.parts.add(text="x" * 100_000)
        lifecycle.advance(
            last.event.status, event, sequence=last.event.sequence + 1, time=datetime.now(UTC)
        )
        last = await bench.log.append("acme", task_id, event, after=last.stream_sequence)
    (reference,) = claim_check.references((await _stored(bench, task_id))[2])
    owner = subjects.owner("acme", task_id)
    (chunk,) = await bench.bus.subjects("OBJ_blobs", f"$O.blobs.C.{owner}.{reference.digest}.>")
    await bench.bus.publish(chunk, b"more", message_id="damage")
    bench.models.answer = broken
    async with bench.executor():
        await _settled(bench)
    events = await _stored(bench, task_id)
    assert kinds(events)[-2:] == ["retried", "dead_lettered"]
    assert _told(events[-1]) == (
        f"The content of {owner} with digest {reference.digest} is damaged."
    )
    assert bench.models.requests == []


async def test_a_log_with_a_gap_is_a_dead_letter_at_once(bench: Bench) -> None:
    """An event that nobody can have written there."""
    task_id = await bench.submit()
    last = await bench.log.last("acme", task_id)
    assert last is not None
    event = lifecycle.new_event(last.event.task, "executor/other")
    event.retried.SetInParent()
    event.sequence = 4
    event.status.CopyFrom(last.event.status)
    await bench.log.append("acme", task_id, event, after=last.stream_sequence)
    async with bench.executor():
        await _settled(bench)
    events = await _stored(bench, task_id)
    assert kinds(events) == ["submitted", "retried", "dead_lettered"]
    assert events[-1].sequence == 5
    assert _told(events[-1]) == (
        f"The log of tenants/acme/tasks/{task_id} has event 4 where 2 belongs."
    )


async def test_a_message_that_is_no_event_buries_its_task(bench: Bench) -> None:
    """The last event that can be read says what the task was."""
    task_id = await bench.submit()
    async with bench.executor():
        await bench.ended(task_id)
    last = await bench.log.last("acme", task_id)
    assert last is not None
    # A task that is queued again, and a message that somebody else put after that.
    event = lifecycle.new_event(last.event.task, "coordinator/test")
    event.redriven.SetInParent()
    event.sequence = last.event.sequence + 1
    event.status.CopyFrom(last.event.status)
    event.status.state = task_pb2.TASK_STATE_QUEUED
    await bench.log.append("acme", task_id, event, after=last.stream_sequence)
    subject = WHOLE.of_event("acme", task_id, event)
    sequence = await bench.bus.publish(subject, b"\xff\xff", message_id="garbage")
    async with bench.executor():
        await _settled(bench)
    end = await bench.log.last("acme", task_id)
    assert end is not None
    assert end.stream_sequence == sequence + 1
    assert end.event.status.state == task_pb2.TASK_STATE_DEAD_LETTERED
    assert end.event.sequence == event.sequence + 1


async def test_a_message_without_any_task_is_put_away(bench: Bench) -> None:
    """It is logged and never delivered again; other tasks are not held up."""
    task_id = await bench.submit()
    (submitted,) = await bench.events(task_id)
    subject = WHOLE.of_event("acme", "nobody", submitted)
    await bench.bus.publish(subject, b"\xff\xff", message_id="garbage")
    async with bench.executor():
        await bench.ended(task_id)
        await _settled(bench)
    message = await bench.bus.last(WHOLE.stream, WHOLE.scope("acme", "nobody"))
    assert message is not None
    assert message.payload == b"\xff\xff"


async def test_a_buried_task_can_be_redriven_once_it_is_mended(bench: Bench) -> None:
    """The content is put back, and the task runs."""
    task_id = await bench.submit(text="x" * 100_000)
    (submitted,) = await _stored(bench, task_id)
    owner, reference = subjects.owner("acme", task_id), submitted.submitted.input_blob
    content = await bench.bus.get_blob(owner, reference)
    await bench.bus.delete_blob(owner, reference.digest)
    async with bench.executor():
        await _settled(bench)
        await bench.bus.put_blob(owner, content, reference.media_type)
        last = await bench.log.last("acme", task_id)
        assert last is not None
        event = lifecycle.new_event(last.event.task, "coordinator/test")
        event.redriven.SetInParent()
        lifecycle.advance(
            last.event.status, event, sequence=last.event.sequence + 1, time=datetime.now(UTC)
        )
        await bench.log.append("acme", task_id, event, after=last.stream_sequence)
        task = await bench.ended(task_id)
    assert (task.state, task.attempt) == (task_pb2.TASK_STATE_SUCCEEDED, 1)


async def test_an_answer_that_is_no_answer_buries_its_task(bench: Bench) -> None:
    """A service that lost its data is not asked again."""

    async def lost(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        raise CorruptData("The record cannot be read.")

    bench.models.answer = lost
    agent = task_event_pb2.AgentSpec(name="tenants/acme/agents/a@1", instructions="x", max_steps=4)
    async with bench.executor():
        task = await bench.ended(await bench.submit(agent=agent))
    assert (task.state, task.attempt) == (task_pb2.TASK_STATE_DEAD_LETTERED, 1)
    assert task.error.message == "The record cannot be read."
