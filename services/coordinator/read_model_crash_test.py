"""A process that dies leaves a read model that the next one goes on with."""

import asyncio
import io
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskStatus
from meshkit import log
from meshkit.bus import Bus
from services.coordinator.projector import task_projector
from services.coordinator.read_model_program import open_copies
from services.coordinator.read_model_tables import SIZE, TASK, TERM
from services.coordinator.read_model_writer import ReadModelWriter
from sqlstore.database import Database
from tasklog import lifecycle, subjects
from tasklog.partitions import WHOLE, Partitions
from tasklog.task_log import TaskLog

pytest_plugins = ["meshtest.fixtures"]

_CRASHES = 3
_TASKS_A_LIFE = 40


async def _live(task_log: TaskLog, number: int) -> None:
    """A task, from its submission to its end."""
    task_id = f"t{number}"
    event = lifecycle.new_event(subjects.task_name("acme", task_id), "test")
    event.submitted.task.name = event.task
    event.submitted.task.labels["number"] = str(number)
    status = TaskStatus(lane=tier_pb2.LANE_STANDARD)
    status.create_time.GetCurrentTime()
    after = 0
    for sequence, kind in enumerate(("submitted", "started", "failed"), 1):
        if sequence > 1:
            event = TaskEvent(task=event.task, writer="test")
            getattr(event, kind).SetInParent()
        time = status.create_time.ToDatetime()
        lifecycle.advance(status, event, sequence=sequence, time=time)
        after = (await task_log.append("acme", task_id, event, after=after)).stream_sequence
        status = event.status


async def _content(database: Database) -> list[list[Any]]:
    def rows(connection: sa.Connection) -> list[list[Any]]:
        return [
            sorted(map(tuple, connection.execute(sa.select(each)))) for each in (TASK, TERM, SIZE)
        ]

    return await database.read(rows)


async def _caught_up(bus: Bus, folder: Path, address: str) -> list[list[Any]]:
    """What is in a copy once it has all of the log."""
    info = await bus.stream_info(WHOLE.stream)
    assert info is not None
    copies = await open_copies(folder, address)
    journal = log.get("test", stream=io.StringIO())
    projector = task_projector(bus, ReadModelWriter(copies), journal, partitions=Partitions().all)
    run = asyncio.create_task(projector.run())
    async with asyncio.timeout(60):
        await projector.wait_for(WHOLE.stream, int(info["state"]["last_seq"]))
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    content = await _content(copies)
    await copies.close()
    return content


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_process_may_be_killed_at_any_moment(
    nats_url: str, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """In a batch, in a rebuilding, in the switch: the copy comes to what the log says."""
    seed = random.randrange(10_000)
    print("seed", seed)
    chance = random.Random(seed)
    address = request.getfixturevalue("postgres_url") if kind == "postgresql" else ""
    folder = tmp_path / "copy"
    async with await Bus.connect(nats_url, name="test") as bus:
        task_log = TaskLog(bus, Partitions())
        await task_log.prepare()
        for crash in range(_CRASHES):
            program = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.coordinator.read_model_program"),
                *(nats_url, folder, address),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdout=asyncio.subprocess.PIPE,
            )
            assert program.stdout is not None
            # It lives until it has begun to rebuild so often, and a moment longer.
            for _ in range(chance.randint(1, 3)):
                assert await program.stdout.readline() == b"rebuilding\n"
            first = crash * _TASKS_A_LIFE
            writing = [_live(task_log, first + each) for each in range(_TASKS_A_LIFE)]
            for each in writing[: chance.randrange(_TASKS_A_LIFE)]:
                await each
            program.kill()
            await program.wait()
            for each in writing:
                each.close()
        content = await _caught_up(bus, folder, address)
        fresh = await _caught_up(bus, tmp_path / "fresh", "")
    assert content == fresh
    assert content[0]


async def test_two_processes_share_a_copy_and_one_is_killed(
    nats_url: str, tmp_path: Path, postgres_url: str
) -> None:
    """The other one goes on, and nothing is missing or twice."""
    async with await Bus.connect(nats_url, name="test") as bus:
        task_log = TaskLog(bus, Partitions())
        await task_log.prepare()
        programs = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.coordinator.read_model_program"),
                *(nats_url, tmp_path, postgres_url),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdout=asyncio.subprocess.DEVNULL,
            )
            for _ in range(2)
        ]
        for number in range(40):
            await _live(task_log, number)
        programs[0].kill()
        for number in range(40, 80):
            await _live(task_log, number)
        info = await bus.stream_info(WHOLE.stream)
        assert info is not None
        copies = await open_copies(tmp_path, postgres_url)
        writer = ReadModelWriter(copies)
        async with asyncio.timeout(60):
            while True:
                place = (await writer.places()).get(WHOLE.stream)
                if place and place.position == int(info["state"]["last_seq"]):
                    break
                await asyncio.sleep(0.05)
        for each in programs:
            if each.returncode is None:
                each.kill()
            await each.wait()
        content = await _content(copies)
        await copies.close()
        assert content == await _caught_up(bus, tmp_path / "fresh", "")
