"""Those who cannot keep up: watchers who do not read, and tools that take long."""

import asyncio
import os

import psutil
import pytest

from agentmesh.common.v1 import tier_pb2
from tests.faults.fault_mesh import COORDINATORS, FaultMesh
from tests.faults.load import users
from tests.faults.outside import Effect
from tests.faults.question import Question, tenants_of
from tests.faults.verdict import after_the_fault

pytest_plugins = ["tests.faults.shared_mesh"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

_SEED = int(os.environ.get("FAULTS_SEED", "1"))
_WATCHERS = 50
_PADDING = "x" * 500_000
# What a coordinator may take for them, in bytes: a few copies of an event for each.
_MOST_MEMORY = 150_000_000
# Longer than a claim.
_SLOW_SECONDS = 4.0


async def test_watchers_that_do_not_read(mesh: FaultMesh) -> None:
    """They cost a bounded amount of memory, keep nobody waiting, and miss nothing in the end."""
    large = Question("large", "alpha", tier_pb2.LANE_BATCH, f"What is 6 * 7? {_PADDING}", ("42",))
    async with users(mesh.address, seed=_SEED) as load:
        name = await load.submit(large)
        coordinators = [psutil.Process(mesh.pid(each)) for each in COORDINATORS]
        before = sum(each.memory_info().rss for each in coordinators)
        lazy = [load.watch(name) for _ in range(_WATCHERS)]
        await load.has_asked(30)
        assert sum(each.memory_info().rss for each in coordinators) - before < _MOST_MEMORY
        assert load.first_errors == []
        seen = await asyncio.gather(*(load.read(each) for each in lazy))
    ended = await after_the_fault(mesh, load)
    sequences = [event.sequence for event in ended[name].events]
    assert seen == [sequences] * _WATCHERS


async def test_tools_that_take_long(mesh: FaultMesh) -> None:
    """Calls that outlast a claim are made once: their executors show that they live."""

    async def slowly(_: Effect) -> None:
        await asyncio.sleep(_SLOW_SECONDS)

    mesh.outside.on_effect = slowly
    async with users(mesh.address, seed=_SEED, tenants=tenants_of("slow")) as load:
        await load.has_asked(20)
    ended = await after_the_fault(mesh, load)
    assert set(mesh.outside.asked.values()) == {1}
    assert {each.task.attempt for each in ended.values()} == {1}
