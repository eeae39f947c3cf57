"""How lanes stand, for people to read."""

from collections.abc import Sequence
from typing import Protocol

from agentmesh.coordinator.v1.coordinator_service_pb2 import LaneStats
from services.coordinator.queue_depths import Look
from tasklog.policy import Policy
from tasklog.queues import NO_DEPTH
from tasklog.subjects import LANES


class Policies(Protocol):
    """Knows the policy in force."""

    @property
    def current(self) -> Policy: ...


class Depths(Protocol):
    """Knows how the queues stand."""

    async def look(self) -> Look: ...


class QueueStats:
    """Reads the queues against their limits."""

    def __init__(self, depths: Depths, policies: Policies) -> None:
        self._depths = depths
        self._policies = policies

    async def lanes(self, tenant: str | None) -> Sequence[LaneStats]:
        """Each lane as it stood at most a second ago, for a tenant or for all together.

        The limits are the tenant's; for all together those of the tier that
        tenants have by default.
        """
        look, policy = await self._depths.look(), self._policies.current
        tier = (
            policy.tiers[policy.message.default_tenant_tier]
            if tenant is None
            else policy.tenant(tenant)
        )
        found: list[LaneStats] = []
        for lane in LANES:
            depth = sum(
                (
                    depth
                    for (owner, of_lane), depth in look.lines.items()
                    if of_lane == lane and tenant in (None, owner)
                ),
                start=NO_DEPTH,
            )
            found.append(
                LaneStats(
                    lane=lane,
                    queued=depth.queued,
                    running=depth.held,
                    redelivered=depth.redelivered,
                    max_queued=tier.max_queued,
                    max_concurrent=tier.max_concurrent,
                )
            )
        return found
