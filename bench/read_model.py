"""The read model alone: what an event costs, and what a page costs among many tasks.

    ./bazelw run //bench:read_model -- --tasks 1000000
    ./bazelw run //bench:read_model -- --tasks 1000000 --postgres postgresql://user@host/database

The tasks go through the code that the coordinator writes with, without a broker. The
events of the first ones are those of the reference task, five each; the others have
one, to be quicker. PostgreSQL's database has to be empty, and is left as it is then.
"""

import argparse
import asyncio
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psutil

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskStatus
from meshkit import log
from meshkit.ids import RandomIds
from services.coordinator.read_model import TaskFilter
from services.coordinator.read_model_database import PURPOSE
from services.coordinator.read_model_file import SqliteFiles
from services.coordinator.read_model_postgres import PostgresCopies
from services.coordinator.read_model_sql import SqlReadModel
from services.coordinator.read_model_writer import ReadModelWriter
from services.coordinator.task_row import Recorded
from sqlstore.positions import BEGINNING, Place
from sqlstore.postgres_schema import parse_address

_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_STREAM: Final = "TASKS"
# Those whose events are timed.
_REFERENCE_TASKS: Final = 20_000
_REFERENCE_KINDS: Final = ("submitted", "model_called", "tool_called", "model_called", "completed")
# Enough for a row that looks the same.
_SHORT_KINDS: Final = ("submitted",)
# As many events as a busy coordinator has in one batch.
_BATCH_TASKS: Final = 100
_SHORT_BATCH_TASKS: Final = 1_000
_PAGE: Final = 50
_PAGES: Final = 60
# One in so many tasks is a rare one.
_RARE: Final = 50_000
_SECOND: Final = timedelta(seconds=1)


def _task(number: int, kinds: Sequence[str]) -> Iterator[TaskEvent]:
    """The events of a task, of whose kinds there are common and rare ones."""
    rare = number % _RARE == 7
    started = _START + number * timedelta(milliseconds=37)
    status = TaskStatus(lane=tier_pb2.LANE_STANDARD if number % 2 else tier_pb2.LANE_BATCH)
    status.create_time.FromDatetime(started)
    # Ids are hashes: no two that follow one another lie side by side.
    name = f"tenants/acme/tasks/t{number * 2654435761 % 2**32:08x}{number:016x}"
    for sequence, kind in enumerate(kinds, 1):
        event = TaskEvent(task=name, writer="executor/bench")
        getattr(event, kind).SetInParent()
        if kind == "submitted":
            task = event.submitted.task
            task.name, task.session, task.lane = name, f"s{number // 20}", status.lane
            task.agent = f"tenants/acme/agents/{'rare' if rare else f'agent{number % 7}'}@1"
            task.labels["team"] = f"team{number % 10}"
            # Of two labels that half of the tasks have, none has both.
            task.labels["side"] = "left" if number % 2 else "right"
            if rare:
                task.labels["incident"] = "yes"
            task.input.text = "What is the answer to this question, and why?" * 3
            task.create_time.CopyFrom(status.create_time)
        event.sequence = sequence
        event.time.FromDatetime(started + sequence * _SECOND)
        status.state = task_pb2.TASK_STATE_RUNNING if sequence > 1 else task_pb2.TASK_STATE_QUEUED
        if sequence == len(kinds):
            status.end_time.CopyFrom(event.time)
            status.state = task_pb2.TASK_STATE_PARTIAL if rare else task_pb2.TASK_STATE_SUCCEEDED
        event.status.CopyFrom(status)
        yield event


def _filters(tasks: int) -> dict[str, TaskFilter]:
    middle = _START + tasks // 2 * timedelta(milliseconds=37)
    acme = "acme"
    return {
        "all": TaskFilter(acme),
        "state, common": TaskFilter(acme, states=[task_pb2.TASK_STATE_SUCCEEDED]),
        "state, rare": TaskFilter(acme, states=[task_pb2.TASK_STATE_PARTIAL]),
        "two states": TaskFilter(
            acme, states=[task_pb2.TASK_STATE_SUCCEEDED, task_pb2.TASK_STATE_PARTIAL]
        ),
        "state, none": TaskFilter(acme, states=[task_pb2.TASK_STATE_FAILED]),
        "lane": TaskFilter(acme, lane=tier_pb2.LANE_BATCH),
        "agent, common": TaskFilter(acme, agent="tenants/acme/agents/agent3"),
        "agent, rare": TaskFilter(acme, agent="tenants/acme/agents/rare@1"),
        "session": TaskFilter(acme, session=f"s{tasks // 45}"),
        "label, common": TaskFilter(acme, labels={"team": "team3"}),
        "label, rare": TaskFilter(acme, labels={"incident": "yes"}),
        "time": TaskFilter(acme, created_before=middle, created_after=middle - 3600 * _SECOND),
        "common and rare": TaskFilter(
            acme,
            lane=tier_pb2.LANE_STANDARD,
            labels={"incident": "yes", "side": "left"},
            states=[task_pb2.TASK_STATE_PARTIAL],
        ),
        "three common": TaskFilter(
            acme,
            lane=tier_pb2.LANE_STANDARD,
            labels={"side": "left", "team": "team3"},
            states=[task_pb2.TASK_STATE_SUCCEEDED],
        ),
        "common, never both": TaskFilter(
            acme, lane=tier_pb2.LANE_STANDARD, labels={"side": "right"}
        ),
        "common, never both, any of two states": TaskFilter(
            acme,
            labels={"side": "right", "team": "team3"},
            states=[task_pb2.TASK_STATE_SUCCEEDED, task_pb2.TASK_STATE_RUNNING],
        ),
        "another tenant": TaskFilter("globex"),
    }


async def _fill(writer: ReadModelWriter, tasks: int) -> dict[str, float]:
    """Writes the tasks; microseconds that an event of the reference task takes."""
    place, sequence = BEGINNING, 0
    cpu = wall = 0.0
    events = 0
    process = psutil.Process()
    end = 0
    while end < tasks:
        start, is_timed = end, end < _REFERENCE_TASKS
        kinds = _REFERENCE_KINDS if is_timed else _SHORT_KINDS
        end = min(start + (_BATCH_TASKS if is_timed else _SHORT_BATCH_TASKS), tasks)
        numbers = range(start, end)
        stored = [event.SerializeToString() for number in numbers for event in _task(number, kinds)]
        # With the reading of the events, which the projector pays, too.
        times = process.cpu_times()
        begun, cpu_begun = time.perf_counter(), times.user + times.system
        entries: list[Recorded] = []
        for payload in stored:
            sequence += 1
            entries.append(Recorded(TaskEvent.FromString(payload), sequence, len(payload)))
        before, place = place, Place(sequence, sequence)
        await writer.apply(entries, stream=_STREAM, before=before, after=place)
        if is_timed:
            times = process.cpu_times()
            wall += time.perf_counter() - begun
            cpu += times.user + times.system - cpu_begun
            events += len(entries)
        if start % 100_000 == 0 and sys.stderr.isatty():
            print(f"\r{start:,} tasks", end="", file=sys.stderr)
    return {"us_per_event": wall / events * 1e6, "cpu_us_per_event": cpu / events * 1e6}


async def _pages(model: SqlReadModel, wanted: TaskFilter) -> dict[str, Any]:
    """Milliseconds of a page: the first ones, and those that follow."""
    took: list[float] = []
    found, position = 0, None
    for _ in range(_PAGES):
        begun = time.perf_counter()
        page = await model.list(wanted, position=position, limit=_PAGE)
        took.append((time.perf_counter() - begun) * 1e3)
        found += len(page.tasks)
        position = page.next_position or None
    took.sort()
    return {
        "median_ms": round(statistics.median(took), 2),
        "p99_ms": round(took[int(len(took) * 0.99)], 2),
        "tasks": found,
    }


async def _measure(tasks: int, postgres: str, folder: Path) -> dict[str, Any]:
    if postgres:
        database = await PostgresCopies.open(
            parse_address(postgres, setting=PURPOSE.setting), log.get("bench", stream=io.StringIO())
        )
    else:
        database = await SqliteFiles.open(folder, RandomIds())
    try:
        await database.lead()
        begun = time.perf_counter()
        result: dict[str, Any] = {"kind": database.kind, "tasks": tasks}
        result["projector"] = await _fill(ReadModelWriter(database), tasks)
        result["filled_seconds"] = round(time.perf_counter() - begun, 1)
        model = SqlReadModel(database)
        result["pages"] = {
            name: await _pages(model, wanted) for name, wanted in _filters(tasks).items()
        }
        result["file_bytes"] = _bytes_in(folder)
        return result
    finally:
        await database.close()


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _show(result: dict[str, Any]) -> None:
    projector = result["projector"]
    print(f"{result['tasks']:,} tasks in {result['kind']}, written in {result['filled_seconds']} s")
    print(
        f"an event: {projector['us_per_event']:.1f} µs,"
        f" {projector['cpu_us_per_event']:.1f} µs of CPU in this process"
    )
    if result["file_bytes"]:
        print(f"a task: {result['file_bytes'] / result['tasks']:.0f} bytes of disk")
    print(f"\n{'PAGE OF 50':40} {'MEDIAN MS':>10} {'P99 MS':>10} {'TASKS A PAGE':>14}")
    for name, page in result["pages"].items():
        print(
            f"{name:40} {page['median_ms']:>10.1f} {page['p99_ms']:>10.1f}"
            f" {page['tasks'] / _PAGES:>14.1f}"
        )


def main() -> None:
    """Fills a read model, and asks it."""
    parser = argparse.ArgumentParser(description="Measures the read model.")
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--postgres", default="", metavar="URL", help="instead of SQLite")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(_measure(options.tasks, options.postgres, Path(folder)))
    if options.json:
        print(json.dumps(result))
    else:
        _show(result)


if __name__ == "__main__":
    main()
