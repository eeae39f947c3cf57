"""Envoy's RateLimitService: gateways ask whether a request may pass."""

from collections.abc import Iterable
from typing import Any, Final, Protocol

from envoyproxy.ratelimit.v3 import rls_pb2 as pb
from envoyproxy.ratelimit.v3.rls_pb2_grpc import RateLimitServiceServicer
from meshkit.errors import MeshError
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
    """Counts the requests of tenants by their tiers. Serves unguarded: it is asked all the time."""

    def __init__(self, policies: Policies, buckets: Buckets) -> None:
        self._policies: Final = policies
        self._buckets: Final = buckets

    async def ShouldRateLimit(
        self, request: pb.RateLimitRequest, context: _Context
    ) -> pb.RateLimitResponse:
        """OVER_LIMIT where a tenant has sent as many as its tier allows."""
        try:
            for tenant in _tenants(request):
                if not await self._may(tenant):
                    return _OVER_LIMIT
        except MeshError as error:
            await context.abort(error.code, str(error))
        return _OK

    async def _may(self, tenant: str) -> bool:
        tier = self._policies.current.tenant(tenant)
        return not tier.requests_per_second or await self._buckets.take(
            tenant, per_second=tier.requests_per_second, burst=burst(tier)
        )


def _tenants(request: pb.RateLimitRequest) -> Iterable[str]:
    for descriptor in request.descriptors:
        for entry in descriptor.entries:
            if entry.key == TENANT:
                yield entry.value
