"""Instances go, by death or in order, while callers go on."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from cli import follow
from cli.gateway import connect
from meshtest.eventually import eventually
from tests.mesh.behaviour import LAST_SEQUENCE, Behaviour
from tests.mesh.fronts import Front
from tests.mesh.instances import Mesh, running
from tests.mesh.steady_load import steady

pytestmark = pytest.mark.asyncio(loop_scope="module")

_PATIENCE_SECONDS = 60.0
_HELD = Behaviour(held=True)
# What the fronts are asked to read.
_READS = ("GetTask", "Search")
# More than an instance has before it at most times: what is repeated must not depend on that.
_AT_A_TIME = 120


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def started(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """Three instances, started once for all tests here."""
    async with running(tmp_path_factory.mktemp("mesh"), 3) as each:
        yield each


@pytest_asyncio.fixture(loop_scope="module")
async def mesh(started: Mesh) -> Mesh:
    """The instances, all of them well."""
    await started.calm()
    return started


@pytest.fixture(params=["gateway", "proxy"])
def front(mesh: Mesh, request: pytest.FixtureRequest) -> Front:
    """Each of the Envoys in turn."""
    return {"gateway": mesh.gateway, "proxy": mesh.proxy}[request.param]


async def test_one_that_is_killed_costs_no_call(mesh: Mesh, front: Front) -> None:
    """Reads that it was at are answered by others, and so are those that come after; however many
    they are, and however long each takes.
    """
    before = await mesh.calls(*_READS, behaviour=_HELD)
    repeated = await front.statistics("upstream_rq_retry")
    reads = [asyncio.ensure_future(front.read(number)) for number in range(_AT_A_TIME)]

    async def arrived() -> list[int]:
        now = await mesh.calls(*_READS, behaviour=_HELD)
        new = [count - was for count, was in zip(now, before, strict=True)]
        assert sum(new) == len(reads)
        return new

    counts = await eventually(arrived, _PATIENCE_SECONDS)
    killed = mesh.instances[counts.index(max(counts))]
    await killed.end(signal.SIGKILL)
    # Nobody has less to do than who is dead: most of these are sent there first.
    reads += [asyncio.ensure_future(front.read(number)) for number in range(_AT_A_TIME)]

    async def are_elsewhere() -> bool:
        failed = any(each.done() for each in reads)
        return failed or await front.statistics("upstream_rq_active") == len(reads)

    await eventually(are_elsewhere, _PATIENCE_SECONDS)
    await mesh.calls()
    answers = await asyncio.gather(*reads, return_exceptions=True)
    assert [each for each in answers if isinstance(each, BaseException)] == []
    assert await front.statistics("upstream_rq_retry") - repeated >= max(counts)


async def test_a_rolling_restart_costs_no_call(mesh: Mesh, front: Front) -> None:
    """Each in turn is told to end, and started again; reads and effects are all answered."""
    async with (
        steady(front.read, per_second=20) as reads,
        steady(front.affect, per_second=20) as effects,
    ):
        for each in mesh.instances:
            await each.end(signal.SIGTERM)
            known = len(effects.outcomes)
            await eventually(
                lambda known=known: len(effects.outcomes) > known + 10, _PATIENCE_SECONDS
            )
            await each.start()
            await eventually(lambda: front.healthy(3), _PATIENCE_SECONDS)
    assert reads.failures == []
    assert effects.failures == []


async def test_a_stream_goes_on_elsewhere_when_its_instance_drains(mesh: Mesh) -> None:
    """Followers of a task read each event once and in order, though their instance ends."""

    async def sequences() -> list[int]:
        async with connect(mesh.gateway.address, tenant="default") as gateway:
            events = follow.watch(gateway, "tenants/default/tasks/t1", patient=True)
            return [each.sequence async for each in events if isinstance(each, TaskEvent)]

    before = await mesh.calls("WatchTask", behaviour=_HELD)
    followers = [asyncio.create_task(sequences()) for _ in range(6)]

    async def begun() -> list[int]:
        now = await mesh.calls("WatchTask", behaviour=_HELD)
        new = [count - was for count, was in zip(now, before, strict=True)]
        assert sum(new) == len(followers)
        return new

    counts = await eventually(begun, _PATIENCE_SECONDS)
    chosen = mesh.instances[counts.index(max(counts))]
    await chosen.end(signal.SIGTERM)
    assert not all(each.done() for each in followers)
    await mesh.calls()
    assert await asyncio.gather(*followers) == [list(range(1, LAST_SEQUENCE + 1))] * 6
