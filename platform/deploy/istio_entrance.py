"""What Istio's gateway does beyond Istio's own resources: the filters of mesh/envoy/gateway.yaml.

Istio has no words for an API key's scopes, for dropping the headers by which the mesh says who
calls, and for limits of tenants. So its gateway gets the filters that Envoy has on one machine,
most of them out of the same file.
"""

from collections.abc import Mapping
from typing import Any, Final

from deploy.names import GATEWAY, NAMESPACE, PORT, resource
from meshkit.constants import SCOPES_KEY, TENANT_KEY
from tier.policy import Policy

_TYPES: Final = "type.googleapis.com/envoy.extensions.filters.http"
_MANAGER: Final = "envoy.filters.network.http_connection_manager"
_ROUTER: Final = "envoy.filters.http.router"
_TOKENS: Final = "envoy.filters.http.jwt_authn"


def entrance(policy: Policy, envoy: Mapping[str, Any]) -> dict[str, Any]:
    """The EnvoyFilter of the gateway. `envoy` is mesh/envoy/gateway.yaml.

    Raises KeyError where that has not the filters that are meant.
    """
    manager = envoy["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
    typed = manager["typed_config"]
    filters = {each["name"]: each for each in typed["http_filters"]}
    early = {
        "name": _MANAGER,
        "typed_config": {
            "@type": typed["@type"],
            "early_header_mutation_extensions": typed["early_header_mutation_extensions"],
        },
    }
    patches = [
        # First of all, so that nobody outside says who they are in our words.
        {
            "applyTo": "NETWORK_FILTER",
            "match": _in_manager(),
            "patch": {"operation": "MERGE", "value": early},
        },
        _filter("INSERT_AFTER", _TOKENS, filters["token-caller"]),
        # Each before the router, so in this order.
        _filter("INSERT_BEFORE", _ROUTER, filters["callers"]),
        _filter("INSERT_BEFORE", _ROUTER, _scopes(policy)),
        _filter("INSERT_BEFORE", _ROUTER, _tenant_limits()),
    ]
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": GATEWAY}
    return resource(
        "networking.istio.io/v1alpha3",
        "EnvoyFilter",
        "entrance",
        # After what others say of the gateway without a number: places are among their filters.
        {"targetRefs": [target], "priority": 10, "configPatches": patches},
    )


def _scopes(policy: Policy) -> dict[str, Any]:
    """Holds keys with scopes to these; roles are AuthorizationPolicies'. No words fit there."""
    unlimited = {"header": {"name": SCOPES_KEY, "present_match": True, "invert_match": True}}
    policies = {
        scope: {
            "permissions": [{"url_path": {"path": {"exact": path}}} for path in paths],
            "principals": [{"or_ids": {"ids": [unlimited, _listed(scope)]}}],
        }
        for scope, paths in policy.scopes.items()
    }
    typed = {"@type": f"{_TYPES}.rbac.v3.RBAC", "rules": {"action": "ALLOW", "policies": policies}}
    return {"name": "scopes", "typed_config": typed}


def _listed(scope: str) -> dict[str, Any]:
    match = {"safe_regex": {"regex": f"(.* )?{scope}( .*)?"}}
    return {"header": {"name": SCOPES_KEY, "string_match": match}}


def _tenant_limits() -> dict[str, Any]:
    """All requests of tenants are counted by the governor, for all gateways together."""
    return {
        "name": "tenant-limits",
        "typed_config": {
            "@type": f"{_TYPES}.ratelimit.v3.RateLimit",
            "domain": GATEWAY,
            "timeout": "0.05s",
            # Who cannot be asked holds nobody up.
            "failure_mode_deny": False,
            "rate_limited_as_resource_exhausted": True,
            "disable_x_envoy_ratelimited_header": True,
            "rate_limit_service": {
                "grpc_service": {
                    "envoy_grpc": {
                        "cluster_name": f"outbound|{PORT}||governor.{NAMESPACE}.svc.cluster.local"
                    }
                },
                "transport_api_version": "V3",
            },
            "rate_limits": [
                {
                    "actions": [
                        {"request_headers": {"header_name": TENANT_KEY, "descriptor_key": "tenant"}}
                    ]
                }
            ],
        },
    }


def _filter(operation: str, beside: str, value: Any) -> dict[str, Any]:
    return {
        "applyTo": "HTTP_FILTER",
        "match": _in_manager({"subFilter": {"name": beside}}),
        "patch": {"operation": operation, "value": value},
    }


def _in_manager(more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    named = {"name": _MANAGER, **(more or {})}
    return {"context": "GATEWAY", "listener": {"filterChain": {"filter": named}}}
