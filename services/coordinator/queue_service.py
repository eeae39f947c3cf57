"""QueueService: the policy of queues, read and set."""

from typing import Any

from agentmesh.coordinator.v1 import queue_service_pb2 as pb
from agentmesh.coordinator.v1.queue_service_pb2_grpc import QueueServiceServicer
from meshkit import identity
from meshkit.operators import Operators
from tasklog.policy import Policy
from tasklog.policy_store import PolicyStore

_Context = Any


class QueueServicer(QueueServiceServicer):
    """The policy at the wire."""

    def __init__(self, policies: PolicyStore, operators: Operators) -> None:
        self._policies = policies
        self._operators = operators

    async def GetQueuePolicy(
        self, request: pb.GetQueuePolicyRequest, context: _Context
    ) -> pb.GetQueuePolicyResponse:
        policy = await self._policies.refresh()
        if self._operators.include_caller():
            return pb.GetQueuePolicyResponse(policy=policy.message)
        return pb.GetQueuePolicyResponse(policy=_part(policy, identity.current().tenant))

    async def SetQueuePolicy(
        self, request: pb.SetQueuePolicyRequest, context: _Context
    ) -> pb.SetQueuePolicyResponse:
        self._operators.require_caller("set the queue policy")
        policy = await self._policies.set(request.policy)
        return pb.SetQueuePolicyResponse(policy=policy.message)


def _part(policy: Policy, tenant: str) -> pb.QueuePolicy:
    """What concerns one tenant. It has no etag, as it is nothing to be set."""
    tier = policy.tenant(tenant)
    return pb.QueuePolicy(
        lanes=policy.message.lanes,
        shared_workers=policy.message.shared_workers,
        tenant_tiers=[tier],
        tenants={tenant: tier.id},
    )
