"""A mesh of staging that is busy keeps the processors of its machine awake, where it may."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

import pytest
import yaml

from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from agentmesh.governor.v1.cost_governor_service_pb2_grpc import CostGovernorServiceStub
from meshkit import identity
from meshkit.client import Channels
from meshkit.identity import Identity
from meshtest.eventually import eventually
from meshtest.everywhere import Everywhere
from tier import api
from tier.api import MeshOptions, MeshState, Tier
from tier.wakefulness import keeps_awake, may_keep_awake

_TENANT = "acme"
_AT_ONCE = 4
_CALL_SECONDS = 10.0
_PROCESSORS = os.cpu_count() or 1
# A twentieth of what the machine has is busy; so much is without a doubt.
_BUSY_PERCENT = 10.0 * _PROCESSORS
# And so much is none.
_RESTS_PERCENT = 4.0 * _PROCESSORS
_PING, _PONG = b"PING\r\n", b"+PONG\r\n"
_PINGS = 1000

# Of more than these a mesh has no tenth for what one process asks of it.
pytestmark = pytest.mark.skipif(_PROCESSORS > 8, reason="the machine is too large to be busy")


@asynccontextmanager
async def _mesh(folder: Path, *, awake_while_busy: bool) -> AsyncGenerator[MeshState]:
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"machine": {"awake_while_busy": awake_while_busy}}), "utf-8")
    options = MeshOptions(
        tier=Tier.STAGING, data_dir=folder / "data", port=0, config=config, no_auth=True
    )
    state = await asyncio.to_thread(api.start_detached, options, lambda _: None)
    try:
        yield state
    finally:
        await asyncio.to_thread(api.stop_detached, options.data_dir, lambda _: None)


@asynccontextmanager
async def _busy(state: MeshState) -> AsyncGenerator[None]:
    """Calls one after the other, several at a time."""
    async with Channels(Everywhere(state.address), caller="user:test") as channels:
        governor = CostGovernorServiceStub(channels.get("gateway"))

        async def call() -> None:
            request = pb.GetSpendRequest(parent=f"tenants/{_TENANT}")
            with identity.use(Identity(_TENANT, "user:test")):
                while True:
                    await governor.GetSpend(request, timeout=_CALL_SECONDS)

        calling = [asyncio.create_task(call()) for _ in range(_AT_ONCE)]
        try:
            yield
        finally:
            for each in calling:
                each.cancel()
            await asyncio.wait(calling)


@asynccontextmanager
async def _busy_redis(state: MeshState) -> AsyncGenerator[None]:
    """Nobody but Redis has something to do."""
    (port,) = (each.ports[0] for each in state.processes if each.name == "redis")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def ping() -> NoReturn:
        while True:
            writer.write(_PING * _PINGS)
            await reader.readexactly(len(_PONG) * _PINGS)

    pinging = asyncio.create_task(ping())
    try:
        yield
    finally:
        pinging.cancel()
        await asyncio.wait([pinging])
        writer.close()


async def _says_awake(state: MeshState) -> bool:
    (supervisor,) = (each for each in await api.status(state) if each.name == "mesh")
    return "keeps the processors awake" in supervisor.detail


async def _rests(state: MeshState) -> bool:
    return sum(each.cpu_percent for each in await api.status(state)) < _RESTS_PERCENT


async def _is_busy(state: MeshState) -> bool:
    return sum(each.cpu_percent for each in await api.status(state)) > _BUSY_PERCENT


async def test_processors_are_awake_while_the_mesh_is_busy(tmp_path: Path) -> None:
    """`status` says so. They may sleep again once it has nothing to do."""
    async with _mesh(tmp_path, awake_while_busy=True) as state:
        async with _busy(state):
            await eventually(lambda: _is_busy(state))
            if not may_keep_awake():
                pytest.skip("this user may not open the device; wakefulness_test has the rest")
            await eventually(lambda: _says_awake(state))
            assert keeps_awake(state.pid)
        await eventually(lambda: not keeps_awake(state.pid))
        assert not await _says_awake(state)


@pytest.mark.skipif(not may_keep_awake(), reason="this user may not open the device")
async def test_what_the_stores_do_counts_as_well(tmp_path: Path) -> None:
    """As what the gateway does: the mesh is more than its services."""
    async with _mesh(tmp_path, awake_while_busy=True) as state:
        await eventually(lambda: _rests(state))
        # Nor awake still for what services did at their start.
        await eventually(lambda: not keeps_awake(state.pid))
        async with _busy_redis(state):
            await eventually(lambda: _says_awake(state))


async def test_processors_may_sleep_where_the_settings_say_so(tmp_path: Path) -> None:
    """However busy the mesh is."""
    async with _mesh(tmp_path, awake_while_busy=False) as state, _busy(state):
        # Each look of this one takes as long as one of the supervisor's, or longer.
        for _ in range(3):
            await eventually(lambda: _is_busy(state))
        assert not keeps_awake(state.pid)
