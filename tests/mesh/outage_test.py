"""Half of all answers are errors, for a while.

A minute of it with `MESH_OUTAGE_SECONDS=60`.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from meshtest.eventually import eventually
from tests.mesh.behaviour import Behaviour
from tests.mesh.instances import Mesh, running
from tests.mesh.steady_load import steady

_OUTAGE_SECONDS = float(os.environ.get("MESH_OUTAGE_SECONDS", "5"))
_PER_SECOND = 60.0
_PATIENCE_SECONDS = 30.0
# That the calls of this test are made of.
_METHODS = ("GetTask", "Search")


@pytest_asyncio.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    """Three instances."""
    async with running(tmp_path, 3) as each:
        yield each


@pytest.mark.parametrize("name", ["gateway", "proxy"])
async def test_an_outage_of_half_the_answers_is_not_amplified(mesh: Mesh, name: str) -> None:
    """Services get at most 1.2 calls for each that is made, and one as soon as it is over."""
    front = {"gateway": mesh.gateway, "proxy": mesh.proxy}[name]
    at_first = sum(await mesh.calls(*_METHODS))
    for each in mesh.instances:
        await each.behave(Behaviour(failing=0.5))
    async with steady(front.read, per_second=_PER_SECOND) as outage:
        enough = _OUTAGE_SECONDS * _PER_SECOND * 0.9
        await eventually(lambda: len(outage.outcomes) > enough, _OUTAGE_SECONDS * 3)
    at_its_end = sum(await mesh.calls(*_METHODS))
    amplified = (at_its_end - at_first) / len(outage.outcomes)
    failed = len(outage.failures) / len(outage.outcomes)
    print(f"{len(outage.outcomes)} calls, {failed:.2f} failed, {amplified:.2f} calls for each")
    assert amplified <= 1.2
    # The outage was one, and nobody was left out of what was still answered.
    assert 0.3 < failed < 0.7

    async with steady(front.read, per_second=_PER_SECOND) as after:
        await eventually(lambda: after.last_are_answered(50), _PATIENCE_SECONDS)
        await eventually(
            lambda: (
                all(0.2 < share < 0.5 for share in after.shares(last=90).values())
                and len(after.shares(last=90)) == 3
            ),
            _PATIENCE_SECONDS,
        )
    assert after.failures == []
    assert sum(await mesh.calls(*_METHODS)) - at_its_end == len(after.outcomes)
