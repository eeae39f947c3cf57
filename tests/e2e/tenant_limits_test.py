"""A tenant's tier bounds what it sends to a whole mesh, as soon as an operator sets it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from agentmesh.coordinator.v1.queue_service_pb2 import (
    GetQueuePolicyRequest,
    SetQueuePolicyRequest,
)
from agentmesh.coordinator.v1.queue_service_pb2_grpc import QueueServiceStub
from meshkit import identity
from meshkit.errors import MeshError, RateLimited, from_rpc_error
from meshkit.identity import Identity
from meshtest.eventually import eventually
from tests.e2e.running_mesh import Client, running
from tier.api import Tier


async def _move(client: Client, tenant: str, tier: str) -> None:
    queues = QueueServiceStub(client.channels.get("gateway"))
    policy = (await queues.GetQueuePolicy(GetQueuePolicyRequest(), timeout=10)).policy
    policy.tenants[tenant] = tier
    await queues.SetQueuePolicy(SetQueuePolicyRequest(policy=policy), timeout=10)


async def _flood(client: Client, tenant: str) -> Sequence[MeshError | None]:
    """What came of 300 calls at once: more than three times the burst of the tier `free`."""
    tasks = CoordinatorServiceStub(client.channels.get("gateway"))

    async def call() -> MeshError | None:
        try:
            await tasks.ListTasks(pb.ListTasksRequest(parent=f"tenants/{tenant}"), timeout=20)
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error)
        except MeshError as error:
            return error
        return None

    with identity.use(Identity(tenant, "user:test")):
        return await asyncio.gather(*(call() for _ in range(300)))


@pytest.mark.parametrize("tier", [Tier.PROTOTYPE, Tier.STAGING])
async def test_a_tenant_is_held_to_the_tier_that_it_is_moved_to(tmp_path: Path, tier: Tier) -> None:
    """And others are not; moved back, it may send as before."""
    async with running(tmp_path, tier) as client:
        assert set(await _flood(client, "loud")) == {None}
        await _move(client, "loud", "free")

        async def refused() -> list[MeshError]:
            return [each for each in await _flood(client, "loud") if each]

        errors = await eventually(refused, 20)
        assert {(type(each), each.retry_after_seconds) for each in errors} == {(RateLimited, 1.0)}
        assert set(await _flood(client, "quiet")) == {None}
        await _move(client, "loud", "standard")

        async def passes() -> bool:
            return set(await _flood(client, "loud")) == {None}

        await eventually(passes, 20)
