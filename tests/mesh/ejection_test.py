"""Instances that answer errors, or late, behind the gateway and the proxy as they ship."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from meshtest.eventually import eventually
from tests.mesh.behaviour import Behaviour, Failure
from tests.mesh.fronts import Front
from tests.mesh.instances import Mesh, running
from tests.mesh.steady_load import steady

pytestmark = pytest.mark.asyncio(loop_scope="module")

_EJECTIONS = "outlier_detection.ejections_enforced_total"
_ACTIVE = "outlier_detection.ejections_active"
# A third of it to each instance: the five errors in a row that eject come within a fraction of
# a second, on a machine with nothing else to do.
_PER_SECOND = 40.0
_PATIENCE_SECONDS = 60.0


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


@pytest.mark.parametrize("failure", ["UNAVAILABLE", "INTERNAL"])
async def test_who_answers_errors_is_ejected_and_returns(
    mesh: Mesh, front: Front, failure: Failure
) -> None:
    """Five errors in a row, and an instance gets no calls until a while later."""
    loop = asyncio.get_running_loop()
    bad = mesh.instances[0]
    before = await front.statistics(_EJECTIONS)

    async def is_ejected() -> bool:
        return await front.statistics(_EJECTIONS) > before

    async with steady(front.read, per_second=_PER_SECOND) as load:
        await bad.behave(Behaviour(failing=1.0, failure=failure))
        begun = loop.time()
        await eventually(is_ejected, _PATIENCE_SECONDS)
        print(f"{failure}: ejected after {loop.time() - begun:.2f} s")
        # Of calls to all three, hardly ever would so many in a row be answered.
        await eventually(lambda: load.last_are_answered(25), _PATIENCE_SECONDS)
        # Calls under way when it was ejected may have failed, too.
        assert len(load.failures) >= 5
        await bad.behave(Behaviour())
        begun = loop.time()
        await eventually(lambda: front.healthy(3), _PATIENCE_SECONDS)
        print(f"{failure}: returned after {loop.time() - begun:.2f} s")
        await eventually(lambda: load.shares(last=45).get(bad.name, 0) > 0.2, _PATIENCE_SECONDS)


async def test_a_majority_of_them_ejected_keeps_the_mesh_serving(mesh: Mesh, front: Front) -> None:
    """Two of three answer errors alone: the third has all the calls, and answers every one."""
    *bad, good = mesh.instances
    for each in bad:
        await each.behave(Behaviour(failing=1.0))

    async def are_ejected() -> bool:
        return await front.statistics(_ACTIVE) == 2

    async with steady(front.read, per_second=_PER_SECOND) as load:
        await eventually(are_ejected, _PATIENCE_SECONDS)
        await eventually(lambda: load.last_are_answered(40), _PATIENCE_SECONDS)
        assert load.shares(last=40) == {good.name: 1.0}


async def test_when_all_fail_all_are_asked(mesh: Mesh, front: Front) -> None:
    """The last instance is never ejected, so the mesh answers with the first that does."""
    for each in mesh.instances:
        await each.behave(Behaviour(failing=1.0))
    async with steady(front.read, per_second=_PER_SECOND) as load:
        await eventually(lambda: len(load.failures) > 40, _PATIENCE_SECONDS)
        assert {each.failure for each in load.failures} == {"UNAVAILABLE: As I was told."}
        assert not await front.healthy(0)
        for each in mesh.instances:
            await each.behave(Behaviour())
        await eventually(lambda: load.last_are_answered(30), _PATIENCE_SECONDS)


async def test_what_callers_got_wrong_ejects_nobody(mesh: Mesh, front: Front) -> None:
    """Names that nobody has may be asked for as often as one likes."""
    before = await front.statistics(_EJECTIONS)
    for each in mesh.instances:
        await each.behave(Behaviour(failing=1.0, failure="NOT_FOUND"))
    async with steady(front.read, per_second=_PER_SECOND) as load:
        await eventually(lambda: len(load.failures) > 40, _PATIENCE_SECONDS)
    assert {each.failure for each in load.failures} == {"NOT_FOUND: As I was told."}
    assert await front.statistics(_EJECTIONS) == before


async def test_a_slow_one_gets_less(mesh: Mesh, front: Front) -> None:
    """Who takes ten times as long has less than half of its share."""
    slow, *others = mesh.instances
    await slow.behave(Behaviour(delay_seconds=0.3))
    for each in others:
        await each.behave(Behaviour(delay_seconds=0.03))
    async with steady(front.read, per_second=_PER_SECOND) as load:

        def share_of_the_slow() -> float:
            assert len(load.outcomes) > 150
            return load.shares(last=120).get(slow.name, 0)

        # By and by, as reports of it come in.
        await eventually(lambda: 0 < share_of_the_slow() < 1 / 6, _PATIENCE_SECONDS)
    assert load.failures == []
