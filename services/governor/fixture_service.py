"""Test-only: governors behind real servers, on one real Redis."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from agentmesh.governor.v1 import cost_governor_service_pb2_grpc as pb_grpc
from meshkit import identity, redis_store
from meshkit.redis_line import RedisLine
from meshkit.server import Registration
from meshtest.clock import FakeClock
from meshtest.serving import serving
from services.governor.scripted_ledger import ScriptedLedger
from services.governor.service_calls import dollar_service

pytest_plugins = ["services.governor.fixture_governor"]


@pytest.fixture
async def stubs(redis_url: str, clock: FakeClock) -> AsyncIterator[list[Any]]:
    """Two governors, each a server of its own, on one Redis; called for the tenant acme."""
    ledger = ScriptedLedger()
    async with AsyncExitStack() as stack:
        stubs: list[Any] = []
        for _ in range(2):
            store = await stack.enter_async_context(redis_store.connect(redis_url))
            line = await stack.enter_async_context(RedisLine(store))
            registration = Registration(
                service_name="agentmesh.governor.v1.CostGovernorService",
                add=pb_grpc.add_CostGovernorServiceServicer_to_server,
                servicer=dollar_service(line, clock, ledger),
            )
            channels = await stack.enter_async_context(serving([registration]))
            stubs.append(pb_grpc.CostGovernorServiceStub(channels.get("governor")))
        with identity.use(identity.Identity("acme", "service:test")):
            yield stubs
