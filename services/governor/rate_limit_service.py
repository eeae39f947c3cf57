"""Envoy's RateLimitService: gateways ask whether a request may pass."""

from collections.abc import Iterable
from typing import Any, Final, Protocol

from envoyproxy.ratelimit.v3 import rls_pb2 as pb
from envoyproxy.ratelimit.v3.rls_pb2_grpc import RateLimitServiceServicer
from services.governor.gateway_limits import TENANT, burst
from tasklog.policy import Policy

_Context = Any
_OK: Final = pb.RateLimitResponse(overall_code=pb.RateLimitResponse.OK)
_OVER_LIMIT: Final = pb.RateLimitResponse(overall_code=pb.RateLimitResponse.OVER_LIMIT)


class Policies(Protocol):
    """Knows the policy in force."""

    @property
    def current(self) -> Policy: ...


class Buckets(Protocol):
    """Counts requests of tenants for all gateways."""

    async def take(self, tenant: str, *, per_second: float, burst: int) -> bool: ...


class RateLimitServicer(RateLimitServiceServicer):
    """Counts the requests of tenants by their tiers."""

    def __init__(self, policies: Policies, buckets: Buckets) -> None:
        self._policies: Final = policies
        self._buckets: Final = buckets

    async def ShouldRateLimit(
        self, request: pb.RateLimitRequest, context: _Context
    ) -> pb.RateLimitResponse:
        """OVER_LIMIT where a tenant has sent as many as its tier allows."""
        for tenant in _tenants(request):
            tier = self._policies.current.tenant(tenant)
            if tier.requests_per_second and not await self._buckets.take(
                tenant, per_second=tier.requests_per_second, burst=burst(tier)
            ):
                return _OVER_LIMIT
        return _OK


def _tenants(request: pb.RateLimitRequest) -> Iterable[str]:
    for descriptor in request.descriptors:
        for entry in descriptor.entries:
            if entry.key == TENANT:
                yield entry.value
