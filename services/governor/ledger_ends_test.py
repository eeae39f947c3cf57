"""The ledger learns how tasks ended from their log."""

import asyncio
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskStatus
from meshkit import log
from meshkit.bus import Bus
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from services.governor import ledger_ends
from services.governor.ledger_database import open_ledger
from services.governor.ledger_ends import Ended, TaskEnds, carry_ends
from services.governor.ledger_tables import TASK
from sqlstore.positions import BEGINNING, Place
from tasklog import lifecycle, partition_store, subjects
from tasklog.task_log import TaskLog

pytest_plugins = ["meshtest.fixtures"]


async def _live(task_log: TaskLog, task_id: str, *kinds: str, parent: str = "") -> None:
    """A task, from its submission on."""
    event = lifecycle.new_event(subjects.task_name("acme", task_id), "test")
    event.submitted.task.name = event.task
    status = TaskStatus(lane=tier_pb2.LANE_STANDARD, parent_task=parent)
    status.create_time.GetCurrentTime()
    after = 0
    for sequence, kind in enumerate(("submitted", *kinds), 1):
        if sequence > 1:
            event = TaskEvent(task=event.task, writer="test")
            getattr(event, kind).SetInParent()
        time = status.create_time.ToDatetime()
        state = task_pb2.TASK_STATE_SUCCEEDED if kind == "completed" else None
        lifecycle.advance(status, event, sequence=sequence, time=time, state=state)
        after = (await task_log.append("acme", task_id, event, after=after)).stream_sequence
        status = event.status


async def test_ends_are_known_from_the_moment_that_there_is_a_log(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without a parent, in each of its streams; who goes on has not ended."""
    monkeypatch.setattr(ledger_ends, "_LOOK_AGAIN_SECONDS", 0.05)
    journal = log.get("test", stream=io.StringIO())
    database = await open_ledger("", folder=tmp_path, log=journal)
    async with await Bus.connect(nats_server.url, name="test") as bus:
        run = asyncio.create_task(carry_ends(bus, database, journal))
        task_log = TaskLog(bus, await partition_store.settle(bus, 3))
        await task_log.prepare()
        await _live(task_log, "good", "started", "completed")
        await _live(task_log, "bad", "started", "failed")
        await _live(task_log, "stopped", "cancelled")
        await _live(task_log, "child", "started", "completed", parent="tenants/acme/tasks/p")
        await _live(task_log, "running", "started")
        await _live(task_log, "waiting", "started", "waiting")
        found: dict[str, bool] = {}

        async def learnt() -> bool:
            rows = await database.read(lambda on: on.execute(sa.select(TASK)).all())
            found.update({row.name: row.succeeded for row in rows if row.ended_micros})
            return len(found) == 4

        await eventually(learnt, timeout_seconds=10)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
    await database.close()
    assert found == {"good": True, "bad": False, "stopped": False, "child": True}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_task_that_is_begun_again_has_ended_when_it_does_again(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """In the same batch or in a later one."""
    address = request.getfixturevalue("postgres_url") if kind == "postgresql" else ""
    journal = log.get("test", stream=io.StringIO())
    database = await open_ledger(address, folder=tmp_path, log=journal)
    ends = TaskEnds(database)
    await ends.lead()
    noon = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()) * 1_000_000
    first, second, third = Place(1, 1), Place(2, 2), Place(3, 3)
    batch = [Ended("acme", "t1", noon, False), None, Ended("acme", "t2", noon, False)]
    await ends.apply(batch, stream="TASKS", before=BEGINNING, after=first)
    again = [Ended("acme", "t1", noon + 1, False), Ended("acme", "t1", noon + 2, True)]
    await ends.apply(again, stream="TASKS", before=first, after=second)
    await ends.apply([None], stream="TASKS", before=second, after=third)
    rows = await database.read(lambda on: on.execute(sa.select(TASK)).all())
    assert {(row.name, row.ended_micros, row.succeeded) for row in rows} == {
        ("t1", noon + 2, True),
        ("t2", noon, False),
    }
    assert (await ends.places())["TASKS"] == third
    await ends.clear("TASKS")
    assert await ends.places() == {}
    await database.close()
