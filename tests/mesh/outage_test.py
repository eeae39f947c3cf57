"""Half of all answers are errors, for a while.

A minute of it with `MESH_OUTAGE_SECONDS=60`.
"""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest_asyncio

from meshtest.eventually import eventually
from tests.mesh.behaviour import Behaviour
from tests.mesh.fronts import Front
from tests.mesh.instances import Mesh, running
from tests.mesh.steady_load import Load, steady

_OUTAGE_SECONDS = float(os.environ.get("MESH_OUTAGE_SECONDS", "5"))
_PER_SECOND = 40.0
_PATIENCE_SECONDS = 60.0


@pytest_asyncio.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    """Three instances."""
    async with running(tmp_path, 3) as each:
        yield each


async def test_an_outage_of_half_the_answers_is_not_amplified(mesh: Mesh) -> None:
    """Services get at most 1.2 calls for each that is made, and one as soon as it is over."""
    # What each front is called for, by the method.
    fronts = {"GetTask": mesh.gateway, "Search": mesh.proxy}
    for each in mesh.instances:
        await each.behave(Behaviour(failing=0.5))
    async with _calls(fronts) as outages:
        enough = _OUTAGE_SECONDS * _PER_SECOND * 0.9
        for load in outages.values():
            await eventually(
                lambda load=load: len(load.outcomes) > enough, _PATIENCE_SECONDS + _OUTAGE_SECONDS
            )
    arrived = {method: sum(await mesh.calls(method)) for method in fronts}
    for method, load in outages.items():
        amplified = arrived[method] / len(load.outcomes)
        failed = len(load.failures) / len(load.outcomes)
        print(f"{len(load.outcomes)} calls, {failed:.2f} failed, {amplified:.2f} for each")
        assert amplified <= 1.2
        # The outage was one.
        assert 0.3 < failed < 0.7

    await mesh.calm()
    async with _calls(fronts) as loads:
        for load in loads.values():
            await eventually(lambda load=load: _is_shared(load), _PATIENCE_SECONDS)
    for method, load in loads.items():
        assert load.failures == []
        assert sum(await mesh.calls(method)) - arrived[method] == len(load.outcomes)


@asynccontextmanager
async def _calls(fronts: Mapping[str, Front]) -> AsyncGenerator[Mapping[str, Load]]:
    """Calls through each of the fronts."""
    async with AsyncExitStack() as stack:
        yield {
            method: await stack.enter_async_context(steady(front.read, per_second=_PER_SECOND))
            for method, front in fronts.items()
        }


def _is_shared(load: Load) -> bool:
    """Whether all three instances have about the same to do."""
    shares = load.shares(last=90)
    return len(shares) == 3 and all(0.2 < share < 0.5 for share in shares.values())
