"""How many requests tenants may send, as the gateway's filters understand it.

The filters' own words are Envoy's: JSON of its LocalRateLimit and RateLimit messages. Pure.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agentmesh.coordinator.v1.queue_service_pb2 import TenantTier
from meshkit.constants import TENANT_KEY
from tasklog.policy import Policy

# Names of the filters and of the entry that tells tenants apart, as gateway.yaml has them.
LOCAL: Final = "tenant-limits"
SHARED: Final = "shared-tenant-limits"
TENANT: Final = "tenant"

Json = dict[str, Any]

_TYPES: Final = "type.googleapis.com/envoy.extensions.filters.http"
# A bucket is filled at most so often.
_FILL_SECONDS: Final = 0.05
_NO_LIMIT: Final = 4_294_967_295
# Of tenants whom the policy does not name. More than so many, and the one that was quiet the
# longest has a full bucket when it comes back.
_KEPT_TENANTS: Final = 10_000
# Who is over the limit is refused late rather than everybody held up.
_ASK_SECONDS: Final = 0.05


def local_limits(policy: Policy, default_tenant: str) -> Json:
    """The filter by which each gateway bounds tenants for itself."""
    tiers = {tenant: policy.tenant(tenant) for tenant in (*policy.message.tenants, default_tenant)}
    descriptors = [_descriptor(tenant, tier) for tenant, tier in sorted(tiers.items())]
    # An empty value stands for every other one, each with a bucket of its own.
    descriptors.append(_descriptor("", _default_tier(policy)))
    everybody: Json = {"numerator": 100, "denominator": "HUNDRED"}
    return {
        "@type": f"{_TYPES}.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "tenants",
        "token_bucket": _bucket(0, 0),
        "always_consume_default_token_bucket": False,
        "filter_enabled": {"default_value": everybody},
        "filter_enforced": {"default_value": everybody},
        "rate_limited_as_resource_exhausted": True,
        "max_dynamic_descriptors": _KEPT_TENANTS,
        "rate_limits": [
            {
                "actions": [
                    {"request_headers": {"header_name": TENANT_KEY, "descriptor_key": TENANT}}
                ]
            },
            _without_tenant(default_tenant),
        ],
        "descriptors": descriptors,
    }


def shared_limits(policy: Policy, default_tenant: str, up_to_per_second: float) -> Json:
    """The filter by which all gateways together bound tenants of small tiers.

    Each of their requests is asked about, which costs more than it saves where a tier allows
    many: `up_to_per_second` is the most that is asked about.
    """

    def counts(tier: TenantTier) -> bool:
        return 0 < tier.requests_per_second <= up_to_per_second

    named = sorted(policy.message.tenants)
    rate_limits = [_of_tenant(tenant) for tenant in named if counts(policy.tenant(tenant))]
    if counts(_default_tier(policy)):
        rate_limits.append(_of_others(named))
    if counts(policy.tenant(default_tenant)):
        rate_limits.append(_without_tenant(default_tenant))
    return {
        "@type": f"{_TYPES}.ratelimit.v3.RateLimit",
        "domain": "gateway",
        "timeout": f"{_ASK_SECONDS}s",
        # Who cannot be asked holds nobody up: the local limit stays.
        "failure_mode_deny": False,
        "rate_limited_as_resource_exhausted": True,
        "disable_x_envoy_ratelimited_header": True,
        "rate_limit_service": {
            "grpc_service": {"envoy_grpc": {"cluster_name": "governor"}},
            "transport_api_version": "V3",
        },
        "rate_limits": rate_limits,
    }


def burst(tier: TenantTier) -> int:
    """How many requests may come at once, after a quiet time."""
    return tier.request_burst or math.ceil(tier.requests_per_second)


def _default_tier(policy: Policy) -> TenantTier:
    return policy.tiers[policy.message.default_tenant_tier]


def _descriptor(tenant: str, tier: TenantTier) -> Json:
    return {
        "entries": [{"key": TENANT, "value": tenant}],
        "token_bucket": _bucket(tier.requests_per_second, burst(tier)),
    }


def _bucket(per_second: float, most: int) -> Json:
    """A bucket of Envoy; one that is never empty where `per_second` is 0."""
    if not per_second:
        return {"max_tokens": _NO_LIMIT, "tokens_per_fill": _NO_LIMIT, "fill_interval": "1s"}
    tokens = math.ceil(per_second * _FILL_SECONDS)
    return {
        "max_tokens": most,
        "tokens_per_fill": tokens,
        "fill_interval": f"{tokens / per_second:.9f}s",
    }


def _of_tenant(tenant: str) -> Json:
    return _if({"name": TENANT_KEY, "string_match": {"exact": tenant}}, tenant)


def _without_tenant(default_tenant: str) -> Json:
    return _if({"name": TENANT_KEY, "present_match": True, "invert_match": True}, default_tenant)


def _if(header: Json, tenant: str) -> Json:
    match = {"headers": [header], "descriptor_key": TENANT, "descriptor_value": tenant}
    return {"actions": [{"header_value_match": match}]}


def _of_others(named: Sequence[str]) -> Json:
    headers: list[Mapping[str, Any]] = [
        {"name": TENANT_KEY, "string_match": {"exact": tenant}, "invert_match": True}
        for tenant in named
    ]
    there: Json = {"name": TENANT_KEY, "present_match": True}
    match: Json = {
        "headers": [there, *headers],
        "descriptor_key": "named",
        "descriptor_value": "no",
    }
    return {
        "actions": [
            {"header_value_match": match},
            {"request_headers": {"header_name": TENANT_KEY, "descriptor_key": TENANT}},
        ]
    }
