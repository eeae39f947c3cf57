"""Two parts of the mesh do not hear each other for a while: nothing arrives, and nobody is told.

Services and their stores for a minute more with `MESH_PARTED_SECONDS=60`.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from agentmesh.memory.v1.memory_service_pb2 import SearchRequest
from agentmesh.memory.v1.memory_service_pb2_grpc import MemoryServiceStub
from meshkit import identity
from meshkit.client import Channels
from meshkit.errors import DeadlineExceeded, MeshError
from meshkit.identity import Identity
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from meshtest.proxy import FaultProxy
from meshtest.redis_server import RedisServer
from tests.mesh.fronts import gateway_front, proxy_front
from tests.mesh.instances import Mesh, instances
from tests.mesh.real_services import RealServices, real_services
from tests.mesh.steady_load import Load, steady

pytest_plugins = ["meshtest.fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

_PATIENCE_SECONDS = 60.0
# Longer than calls wait anyway.
_PARTED_SECONDS = float(os.environ.get("MESH_PARTED_SECONDS", "0"))


@dataclass(frozen=True, slots=True)
class Parted:
    """Two instances behind both Envoys; what they say to the first can be lost."""

    mesh: Mesh
    between: FaultProxy


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def parted(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Parted]:
    """Both instances in use; started once for all tests here."""
    folder = tmp_path_factory.mktemp("parted")
    async with instances(folder, 2) as made, FaultProxy(made[0].port) as between:
        places = [between.port, made[1].port]
        async with (
            gateway_front(folder, places) as gateway_,
            proxy_front(folder, places) as proxy,
        ):
            mesh = Mesh(made, gateway_, proxy)
            await mesh.calm()
            yield Parted(mesh, between)


async def test_a_proxy_and_one_instance(parted: Parted) -> None:
    """Reads on their way are answered by the other instance; no call fails, before or after."""
    fronts = (parted.mesh.gateway, parted.mesh.proxy)
    async with AsyncExitStack() as stack:
        loads = [
            await stack.enter_async_context(steady(each.read, per_second=20)) for each in fronts
        ]
        await asyncio.gather(*(_used(each, 2) for each in loads))
        parted.between.part()
        for each in fronts:
            await eventually(lambda each=each: each.healthy(1), _PATIENCE_SECONDS)
    assert [each.failures for each in loads] == [[], []]
    # Some were on their way, and were sent elsewhere when pings had not been answered.
    longest = max(one.took_seconds for each in loads for one in each.outcomes)
    print(f"the longest took {longest:.1f} s")
    assert longest > 5

    parted.between.heal()
    await parted.mesh.calm()
    async with AsyncExitStack() as stack:
        loads = [
            await stack.enter_async_context(steady(each.read, per_second=20)) for each in fronts
        ]
        await asyncio.gather(*(_used(each, 2) for each in loads))
    assert [each.failures for each in loads] == [[], []]


async def test_a_service_and_the_proxy(parted: Parted) -> None:
    """Calls end with their deadlines; when it is over they are answered on the same channel."""
    async with (
        FaultProxy(parted.mesh.proxy.port) as between,
        Channels({"memory": f"127.0.0.1:{between.port}"}, caller="service:tool") as channels,
    ):
        memory = MemoryServiceStub(channels.get("memory"))
        with identity.use(Identity("default", "service:tool")):
            await memory.Search(SearchRequest(), timeout=30)
            between.part()
            with pytest.raises(DeadlineExceeded):
                await memory.Search(SearchRequest(), timeout=0.5)
            between.heal()
            await memory.Search(SearchRequest(), timeout=30)


@pytest_asyncio.fixture(loop_scope="module")
async def real(
    tmp_path: Path, nats_server: NatsServer, redis_server: RedisServer
) -> AsyncIterator[RealServices]:
    """Both of them serve."""
    async with real_services(tmp_path, nats_server, redis_server) as each:
        yield each


async def test_a_service_and_nats(real: RealServices) -> None:
    """Nothing is accepted meanwhile; afterwards the same request makes the task, once."""
    real.nats.part()
    with pytest.raises(DeadlineExceeded):
        await real.submit("meanwhile", timeout_seconds=1)
    await asyncio.sleep(_PARTED_SECONDS)
    real.nats.heal()
    name = await eventually(lambda: _accepted(real, "meanwhile"), _PATIENCE_SECONDS)
    assert await real.submit("meanwhile") == name


async def test_a_service_and_redis(real: RealServices) -> None:
    """No spending is allowed meanwhile that nobody counts; afterwards it is again."""
    real.redis.part()
    with pytest.raises(DeadlineExceeded):
        await real.admit("meanwhile", timeout_seconds=1)
    await asyncio.sleep(_PARTED_SECONDS)
    real.redis.heal()
    await eventually(lambda: _admitted(real, "meanwhile"), _PATIENCE_SECONDS)


async def _accepted(real: RealServices, request_id: str) -> str:
    try:
        return await real.submit(request_id, timeout_seconds=5)
    except MeshError:
        return ""


async def _admitted(real: RealServices, key: str) -> bool:
    try:
        return await real.admit(key, timeout_seconds=5)
    except MeshError:
        return False


async def _used(load: Load, count: int) -> None:
    """Returns when so many instances answer."""
    await eventually(lambda: len(load.shares(last=20)) == count, _PATIENCE_SECONDS)
