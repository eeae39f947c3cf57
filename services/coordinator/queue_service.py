"""QueueService: the policy of queues, read and set."""

from typing import Any

from agentmesh.coordinator.v1 import queue_service_pb2 as pb
from agentmesh.coordinator.v1.queue_service_pb2_grpc import QueueServiceServicer
from tasklog.policy_store import PolicyStore

_Context = Any


class QueueServicer(QueueServiceServicer):
    """The policy at the wire."""

    def __init__(self, policies: PolicyStore) -> None:
        self._policies = policies

    async def GetQueuePolicy(
        self, request: pb.GetQueuePolicyRequest, context: _Context
    ) -> pb.GetQueuePolicyResponse:
        policy = await self._policies.refresh()
        return pb.GetQueuePolicyResponse(policy=policy.message)

    async def SetQueuePolicy(
        self, request: pb.SetQueuePolicyRequest, context: _Context
    ) -> pb.SetQueuePolicyResponse:
        policy = await self._policies.set(request.policy)
        return pb.SetQueuePolicyResponse(policy=policy.message)
