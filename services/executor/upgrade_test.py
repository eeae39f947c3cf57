"""Executors of two versions side by side: one that writes what the other cannot read."""

import asyncio
from datetime import UTC, datetime

import pytest

from agentmesh.coordinator.v1 import task_pb2
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from meshkit.errors import NewerFormat
from meshtest.eventually import eventually
from services.executor.executor_bench import Bench, kinds
from services.executor.snapshots_jetstream import JetStreamSnapshots
from tasklog import lifecycle
from tasklog.formats import EventFormats
from tasklog.partitions import WHOLE

pytest_plugins = ["meshtest.fixtures", "services.executor.executor_bench"]

_LATER = EventFormats((lambda event: None,), writes=2)


def _upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this process is of the later version."""
    for module in ("task_log", "claim_check"):
        monkeypatch.setattr(f"tasklog.{module}.EVENTS", _LATER)


async def _retried_by_a_later_version(bench: Bench, task_id: str) -> None:
    """Another executor took the task, and gave it back."""
    last = await bench.log.last("acme", task_id)
    assert last is not None
    for kind in ("started", "retried"):
        event = lifecycle.new_event(last.event.task, "executor/later")
        getattr(event, kind).SetInParent()
        lifecycle.advance(
            last.event.status, event, sequence=last.event.sequence + 1, time=datetime.now(UTC)
        )
        last = await bench.log.append("acme", task_id, event, after=last.stream_sequence)


async def _deliveries(bench: Bench) -> int:
    """How often a message was delivered, over all queues."""
    return sum(
        [info["delivered"]["consumer_seq"] async for info in bench.bus.consumers(WHOLE.stream)]
    )


async def test_a_task_of_a_later_version_is_left_to_executors_of_that(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is handed back as often as it comes, its log as it was, until one can read it."""
    task_id = await bench.submit()
    with monkeypatch.context() as later:
        _upgrade(later)
        await _retried_by_a_later_version(bench, task_id)
    async with bench.executor():

        async def came_again() -> bool:
            return await _deliveries(bench) >= 3

        await eventually(came_again)
    _upgrade(monkeypatch)
    before = await bench.events(task_id)
    assert kinds(before) == ["submitted", "started", "retried"]
    async with bench.executor():
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert (await bench.events(task_id))[:3] == before


async def test_a_cancel_of_a_later_version_fences_the_executor_of_an_earlier_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes nothing after what it cannot read; who can goes on from there."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slowly(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        asked.set()
        await answer.wait()
        return reasoning.GenerateResponse()

    bench.models.answer = slowly
    task_id = await bench.submit()
    async with bench.executor():
        async with asyncio.timeout(60):
            await asked.wait()
        last = await bench.log.last("acme", task_id)
        assert last is not None
        with monkeypatch.context() as later:
            _upgrade(later)
            event = lifecycle.new_event(last.event.task, "coordinator/later")
            event.cancel_requested.reason = "no longer needed"
            lifecycle.advance(
                last.event.status, event, sequence=last.event.sequence + 1, time=datetime.now(UTC)
            )
            await bench.log.append("acme", task_id, event, after=last.stream_sequence)
        answer.set()

        async def given_up() -> bool:
            return await _deliveries(bench) >= 2

        await eventually(given_up)
    _upgrade(monkeypatch)
    assert kinds(await bench.events(task_id)) == ["submitted", "started", "cancel_requested"]
    async with bench.executor():
        task = await bench.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_CANCELLED


async def test_a_snapshot_of_a_later_version_is_not_misread(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no shorter way then, and the log decides."""
    task_id = await bench.submit()
    with monkeypatch.context() as later:
        _upgrade(later)
        await _retried_by_a_later_version(bench, task_id)
        entries = [entry async for entry in bench.log.read("acme", task_id)]
    store = JetStreamSnapshots(bench.bus)
    reference = await store.put("acme", task_id, entries)
    with pytest.raises(NewerFormat) as caught:
        await store.get("acme", task_id, reference)
    assert caught.value.metadata == {"format": "2", "reads": "1"}
    monkeypatch.setattr("services.executor.snapshots_jetstream.EVENTS", _LATER)
    _upgrade(monkeypatch)
    assert await store.get("acme", task_id, reference) == entries
