"""A tenant's tier bounds what it sends to a whole mesh, as soon as an operator sets it."""

import asyncio
from collections.abc import Sequence

import grpc
import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.queue_service_pb2 import (
    GetQueuePolicyRequest,
    SetQueuePolicyRequest,
    TenantTier,
)
from agentmesh.coordinator.v1.queue_service_pb2_grpc import QueueServiceStub
from meshkit import identity
from meshkit.errors import MeshError, RateLimited, from_rpc_error
from meshkit.identity import Identity
from meshtest.eventually import eventually
from tests.e2e.running_mesh import Client

pytest_plugins = ["tests.e2e.shared_meshes"]
pytestmark = pytest.mark.asyncio(loop_scope="session")

# So little that a machine which is slow to send is limited, too.
_TIGHT = TenantTier(
    id="tight",
    weight=1,
    max_concurrent=8,
    max_queued=100,
    submits_per_second=10,
    submit_burst=10,
    requests_per_second=1,
    request_burst=10,
)
_CALLS = 60


async def _move(client: Client, tenant: str, tier: str) -> None:
    queues = QueueServiceStub(client.channels.get("gateway"))
    policy = (await queues.GetQueuePolicy(GetQueuePolicyRequest(), timeout=60)).policy
    if _TIGHT.id not in {each.id for each in policy.tenant_tiers}:
        policy.tenant_tiers.append(_TIGHT)
    policy.tenants[tenant] = tier
    await queues.SetQueuePolicy(SetQueuePolicyRequest(policy=policy), timeout=60)


async def _flood(client: Client, tenant: str) -> Sequence[MeshError | None]:
    """What came of many calls at once: six times the burst of the tier `tight`."""

    async def call() -> MeshError | None:
        request = pb.ListTasksRequest(parent=f"tenants/{tenant}")
        try:
            await client.tasks.ListTasks(request, timeout=60)
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error)
        except MeshError as error:
            return error
        return None

    with identity.use(Identity(tenant, "user:test")):
        return await asyncio.gather(*(call() for _ in range(_CALLS)))


async def test_a_tenant_is_held_to_the_tier_that_it_is_moved_to(client: Client) -> None:
    """And others are not; moved back, it may send as before."""
    assert set(await _flood(client, "loud")) == {None}
    await _move(client, "loud", _TIGHT.id)

    async def refused() -> list[MeshError]:
        return [each for each in await _flood(client, "loud") if each]

    errors = await eventually(refused, 60)
    assert {(type(each), each.retry_after_seconds) for each in errors} == {(RateLimited, 1.0)}
    assert set(await _flood(client, "quiet")) == {None}
    await _move(client, "loud", "standard")

    async def passes() -> bool:
        return set(await _flood(client, "loud")) == {None}

    await eventually(passes, 60)
