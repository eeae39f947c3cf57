"""What a tenant may submit: so many tasks a second, and so many queued in a lane."""

from collections import OrderedDict
from typing import Final, Protocol

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1.queue_service_pb2 import TenantTier
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit.clock import Clock
from meshkit.errors import QueueFull, RateLimited
from meshkit.mesh_error import QuotaViolation
from services.coordinator.rate_limit import TokenBucket
from tasklog.policy import Policy
from tasklog.subjects import LANES

# The bucket of a tenant that has been quiet for longer than so many others is full again.
_KEPT_TENANTS: Final = 10_000
# When to come back to a full queue.
_SOONEST_SECONDS: Final = 1.0
_LATEST_SECONDS: Final = 60.0
# Who comes back finds this part of the queue free: one place would be gone at once.
_ROOM: Final = 0.1


class Policies(Protocol):
    """Knows the policy in force."""

    @property
    def current(self) -> Policy: ...


class Depths(Protocol):
    """Knows how long the queues are."""

    async def queued(self, tenant: str, lane: tier_pb2.Lane) -> int: ...
    def count(self, tenant: str, lane: tier_pb2.Lane) -> None: ...
    def drained_per_second(self, tenant: str, lane: tier_pb2.Lane) -> float | None: ...


class SubmitRate:
    """A Gate that bounds how often a tenant submits to this process."""

    def __init__(self, policies: Policies, clock: Clock) -> None:
        self._policies = policies
        self._clock = clock
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    async def check(self, task: Task) -> None:
        """Returns if the tenant may submit now; RateLimited otherwise."""
        tier = self._policies.current.tenant(task.tenant)
        now_seconds = self._clock.monotonic_seconds()
        bucket = self._buckets.get(task.tenant)
        if bucket is None:
            bucket = self._buckets[task.tenant] = TokenBucket(tier.submit_burst, now_seconds)
            if len(self._buckets) > _KEPT_TENANTS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(task.tenant)
        wait_seconds = bucket.take(
            now_seconds, per_second=tier.submits_per_second, burst=tier.submit_burst
        )
        if wait_seconds:
            raise RateLimited(
                f"Tenant {task.tenant!r} may submit {tier.submits_per_second:g} tasks a second,"
                f" {tier.submit_burst:,} at once. Try again in {wait_seconds:.3g} s.",
                metadata=_metadata(tier, "submits_per_second", f"{tier.submits_per_second:g}"),
                retry_after_seconds=wait_seconds,
                quota=[
                    QuotaViolation(
                        f"tenants/{task.tenant}",
                        f"submits_per_second of tier {tier.id}: {tier.submits_per_second:g}",
                    )
                ],
            )


class QueueLimit:
    """A Gate that bounds how many tasks of a tenant are queued in a lane."""

    def __init__(self, policies: Policies, depths: Depths) -> None:
        self._policies = policies
        self._depths = depths

    async def check(self, task: Task) -> None:
        """Returns, and counts the task, if there is room for it; QueueFull otherwise."""
        tier = self._policies.current.tenant(task.tenant)
        queued = await self._depths.queued(task.tenant, task.lane)
        if queued < tier.max_queued:
            # Counted before it is stored: tasks that come together see each other.
            self._depths.count(task.tenant, task.lane)
            return
        lane = LANES[task.lane]
        retry_seconds = self._retry_seconds(task, queued, tier.max_queued)
        raise QueueFull(
            f"Tenant {task.tenant!r} has {queued:,} tasks queued in the {lane} lane; its limit is"
            f" {tier.max_queued:,}. Try again in {retry_seconds:.3g} s.",
            metadata={**_metadata(tier, "max_queued", str(tier.max_queued)), "lane": lane},
            retry_after_seconds=retry_seconds,
            quota=[
                QuotaViolation(
                    f"tenants/{task.tenant}",
                    f"max_queued of tier {tier.id}: {tier.max_queued} in the {lane} lane",
                )
            ],
        )

    def _retry_seconds(self, task: Task, queued: int, limit: int) -> float:
        """When there will be room again, going by how fast the queue drains."""
        per_second = self._depths.drained_per_second(task.tenant, task.lane)
        if per_second is None:
            return _SOONEST_SECONDS
        tasks = queued - limit * (1 - _ROOM)
        if tasks >= per_second * _LATEST_SECONDS:
            return _LATEST_SECONDS
        return max(_SOONEST_SECONDS, tasks / per_second)


def _metadata(tier: TenantTier, limit: str, value: str) -> dict[str, str]:
    return {"limit": limit, "limit_value": value, "tenant_tier": tier.id}
