"""Operators look at the read model, and have it built again while it answers."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2, task_pb2
from agentmesh.coordinator.v1 import read_model_service_pb2 as pb
from meshkit.errors import DependencyUnavailable, Forbidden
from meshtest.eventually import eventually
from meshtest.postgres_server import PostgresServer
from services.coordinator.coordinator_mesh import PARENT, Mesh, coordinator
from services.coordinator.settings import CoordinatorSettings
from tasklog.partitions import WHOLE

pytest_plugins = ["meshtest.fixtures"]


@pytest.fixture(params=["sqlite", "postgresql"])
async def mesh(
    nats_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Mesh]:
    """A coordinator with each of the databases."""
    address = ""
    if request.param == "postgresql":
        address = request.getfixturevalue("postgres_url")
    settings = CoordinatorSettings(read_model=address, operators=["*"])
    async with coordinator(nats_url, tmp_path / "c", settings=settings) as mesh:
        yield mesh


async def _listed(mesh: Mesh) -> list[str]:
    request = coordinator_service_pb2.ListTasksRequest(parent=PARENT, page_size=1000)
    answer = await mesh.tasks.ListTasks(request, timeout=60)
    return [task.name for task in answer.tasks]


async def _submitted(mesh: Mesh, count: int) -> list[str]:
    """Names of tasks that are listed, the newest first."""
    names = [(await mesh.submit(f"task {index}")).name for index in range(count)][::-1]

    async def are_listed() -> bool:
        return await _listed(mesh) == names

    await eventually(are_listed)
    return names


async def _rebuilt(mesh: Mesh) -> list[pb.RebuildReadModelResponse]:
    return [
        step
        async for step in mesh.read_model.RebuildReadModel(pb.RebuildReadModelRequest(), timeout=60)
    ]


async def test_it_tells_how_far_it_is(mesh: Mesh, request: pytest.FixtureRequest) -> None:
    """Nothing is behind once everything is listed."""
    await _submitted(mesh, 3)
    state = await mesh.read_model.GetReadModel(pb.GetReadModelRequest(), timeout=60)
    assert state.kind == request.node.callspec.params["mesh"]
    assert state.size_bytes > 20_000
    (place,) = state.streams
    assert (place.stream, place.position, place.last) == (WHOLE.stream, 3, 3)
    assert place.events_behind == 0
    assert place.behind.ToMicroseconds() == 0


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_the_file_of_earlier_versions_is_removed(
    nats_url: str, tmp_path: Path, request: pytest.FixtureRequest, database: str
) -> None:
    """An upgrade leaves nothing of it behind, whichever database follows it."""
    address = request.getfixturevalue("postgres_url") if database == "postgresql" else ""
    folder = tmp_path / "coordinator"
    folder.mkdir()
    for name in ("tasks.sqlite", "tasks.sqlite-wal", "tasks.sqlite-shm", "other"):
        (folder / name).write_text("of an earlier version")
    settings = CoordinatorSettings(read_model=address, operators=["*"])
    async with coordinator(nats_url, tmp_path, settings=settings) as mesh:
        await _submitted(mesh, 1)
    left = {path.name for path in folder.iterdir()}
    assert left - {"read_model"} == {"other"}


async def test_it_is_built_again_while_lists_are_answered(mesh: Mesh) -> None:
    """Every list in the meantime is whole, and later tasks are listed, too."""
    names = await _submitted(mesh, 5)
    lists: list[list[str]] = []

    async def look() -> None:
        while True:
            lists.append(await _listed(mesh))

    looking = asyncio.create_task(look())
    steps = await _rebuilt(mesh)
    assert steps[-1] == pb.RebuildReadModelResponse(passed=5, total=5, done=True)
    assert not any(step.done for step in steps[:-1])
    await _listed(mesh)
    looking.cancel()
    assert lists
    assert all(each == names for each in lists)
    names = [(await mesh.submit("later")).name, *names]

    async def is_listed() -> bool:
        return await _listed(mesh) == names

    await eventually(is_listed)


async def test_who_calls_twice_follows_the_same_rebuilding(mesh: Mesh) -> None:
    """And both are told when it is done."""
    await _submitted(mesh, 1)
    for steps in await asyncio.gather(_rebuilt(mesh), _rebuilt(mesh)):
        assert steps[-1].done


async def test_it_goes_on_though_the_caller_leaves(nats_url: str, tmp_path: Path) -> None:
    """The new copy is in use a moment later."""
    async with coordinator(nats_url, tmp_path) as mesh:
        await _submitted(mesh, 1)
        current = tmp_path / "coordinator" / "read_model" / "current"
        former = current.read_text()
        call = mesh.read_model.RebuildReadModel(pb.RebuildReadModelRequest(), timeout=60)
        async for _ in call:
            break
        call.cancel()
        await eventually(lambda: current.read_text() != former)


async def test_only_operators_may(nats_url: str, tmp_path: Path) -> None:
    """The others are told what it is that they may not."""
    settings = CoordinatorSettings(operators=["user:root"])
    async with coordinator(nats_url, tmp_path, settings=settings) as mesh:
        with pytest.raises(Forbidden, match="only operators may look at the read model"):
            await mesh.read_model.GetReadModel(pb.GetReadModelRequest(), timeout=60)
        with pytest.raises(Forbidden, match="only operators may rebuild the read model"):
            await _rebuilt(mesh)


async def test_a_damaged_copy_is_made_whole(nats_url: str, tmp_path: Path) -> None:
    """Whatever somebody did to it: the log has everything."""
    async with coordinator(nats_url, tmp_path) as mesh:
        names = await _submitted(mesh, 3)
        folder = tmp_path / "coordinator" / "read_model"
        with sqlite3.connect(folder / (folder / "current").read_text()) as database:
            database.execute("DELETE FROM task_term")
        database.close()
        assert await _listed(mesh) == []
        await _rebuilt(mesh)
        assert await _listed(mesh) == names


async def test_two_coordinators_share_one_copy(
    nats_url: str, tmp_path: Path, postgres_url: str
) -> None:
    """One carries; when it is gone the other does. Either lists what both accepted."""
    settings = CoordinatorSettings(read_model=postgres_url, operators=["*"])
    async with coordinator(nats_url, tmp_path / "b", settings=settings) as other:
        async with coordinator(nats_url, tmp_path / "a", settings=settings) as one:
            names = await _submitted(one, 2)
            names = [(await other.submit("by the other")).name, *names]

            async def both_list() -> bool:
                return await _listed(one) == names and await _listed(other) == names

            await eventually(both_list)
            assert (await _rebuilt(one))[-1].done
            assert await both_list()
        names = [(await other.submit("alone")).name, *names]

        async def other_lists() -> bool:
            return await _listed(other) == names

        await eventually(other_lists)


async def test_tasks_run_while_the_database_is_away(
    nats_url: str, tmp_path: Path, mortal_postgres: PostgresServer
) -> None:
    """Lists say when to come back, and have everything once it is there again."""
    settings = CoordinatorSettings(read_model=mortal_postgres.new_database(), operators=["*"])
    async with coordinator(nats_url, tmp_path / "c", settings=settings) as mesh:
        names = await _submitted(mesh, 1)
        mortal_postgres.kill()
        task = await mesh.submit("meanwhile")
        await mesh.execute(task, "started", "completed")
        with pytest.raises(DependencyUnavailable) as caught:
            await _listed(mesh)
        assert caught.value.metadata["dependency"] == "read_model"
        assert caught.value.retry_after_seconds == 1.0
        mortal_postgres.start()

        async def is_listed() -> bool:
            try:
                answer = await mesh.tasks.ListTasks(
                    coordinator_service_pb2.ListTasksRequest(parent=PARENT), timeout=60
                )
            except DependencyUnavailable:
                return False
            return [(each.name, each.state) for each in answer.tasks] == [
                (task.name, task_pb2.TASK_STATE_SUCCEEDED),
                (names[0], task_pb2.TASK_STATE_QUEUED),
            ]

        await eventually(is_listed)
