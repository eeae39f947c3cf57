"""Istio's routes, with the repeats that mesh/envoy allows.

Which calls may be repeated is read out of Envoy's own files, so that it is said once. Istio repeats
every call by itself: what these functions make says at each route what holds instead.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from deploy.istio_policy import ANSWERS_FOR_THE_MESH
from deploy.names import GATEWAY, NAMESPACE, PORT, resource
from meshkit import reflection

# For calls that are safe to repeat: when nobody heard of them, or the connection broke. What a
# service has answered, UNAVAILABLE too, is its caller's to repeat.
REPEATABLE: Final = "connect-failure,refused-stream,reset-before-request,reset"
_ATTEMPTS: Final = 2
_GATEWAY_API: Final = "gateway.networking.k8s.io"
_MOST_MATCHES: Final = 8
_LIST: Final = re.compile(
    r"(?P<service>/[^()]+/)(?:\((?P<methods>[A-Za-z|]+)\)|(?P<method>[A-Za-z]+))"
)
# What ends at the gateway: credentials, and what it notes for itself.
ENDS_AT_THE_GATEWAY: Final = (
    "authorization",
    "x-api-key",
    "x-agentmesh-scopes",
    "agentmesh-subject",
    "agentmesh-named-tenant",
    "agentmesh-shape",
)


@dataclass(frozen=True, slots=True)
class Repeats:
    """The paths that may be repeated when their connection broke."""

    callee: str
    paths: tuple[str, ...]


def repeats(envoy: Mapping[str, Any]) -> list[Repeats]:
    """Those of each listener of an Envoy's file whose routes say so, by the listener's cluster.

    Raises ValueError for a list of methods that is written in another way than all others.
    """
    found: dict[str, dict[str, None]] = {}
    for listener in envoy["static_resources"]["listeners"]:
        for route in _routes(listener):
            action = route.get("route", {})
            if "reset" in action.get("retry_policy", {}).get("retry_on", "").split(","):
                own = found.setdefault(action["cluster"], {})
                own.update(dict.fromkeys(_expanded(route["match"])))
    return [Repeats(callee, tuple(paths)) for callee, paths in found.items()]


def service_routes(envoy: Mapping[str, Any], callees: Sequence[str]) -> list[dict[str, Any]]:
    """How services reach each of `callees`: what may be repeated, and off for all the rest."""
    by_callee = {each.callee: each.paths for each in repeats(envoy)}
    return [
        resource(
            "networking.istio.io/v1",
            "VirtualService",
            callee,
            {
                "hosts": [_host(callee)],
                "exportTo": ["."],
                "http": [
                    *_repeatable(callee, by_callee.get(callee, ())),
                    {"name": callee, "route": _to(callee), "retries": {"attempts": 0}},
                ],
            },
        )
        for callee in callees
    ]


def destinations(callees: Sequence[str]) -> list[dict[str, Any]]:
    """How much each service is given at a time, and when an instance is left alone.

    As in mesh/envoy: least requests, a warm-up, and never more than two thirds ejected.
    """
    policy: dict[str, Any] = {
        "loadBalancer": {
            "simple": "LEAST_REQUEST",
            "warmup": {"duration": "3s"},
            # To who is near, and elsewhere when nobody there is well.
            "localityLbSetting": {
                "enabled": True,
                "failoverPriority": ["topology.kubernetes.io/zone"],
            },
        },
        "connectionPool": {
            "tcp": {"maxConnections": 64, "connectTimeout": "1s", "idleTimeout": "900s"},
            "http": {
                "http1MaxPendingRequests": 1024,
                "http2MaxRequests": 4096,
                "maxConcurrentStreams": 1024,
                "idleTimeout": "900s",
                "h2UpgradePolicy": "UPGRADE",
            },
        },
        "outlierDetection": {
            "splitExternalLocalOriginErrors": True,
            "consecutiveLocalOriginFailures": 3,
            "consecutive5xxErrors": 5,
            "consecutiveGatewayErrors": 0,
            "interval": "1s",
            "baseEjectionTime": "2s",
            "maxEjectionPercent": 67,
            "minHealthPercent": 0,
        },
    }
    return [
        resource(
            "networking.istio.io/v1",
            "DestinationRule",
            callee,
            {"host": _host(callee), "trafficPolicy": policy},
        )
        for callee in callees
    ]


def gateway_routes(parts: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """How calls from outside reach each service: repeats are off, as Gateway API has none here."""
    routes: list[dict[str, Any]] = []
    for callee, services in parts.items():
        if not services:
            continue
        spec: dict[str, Any] = {
            "parentRefs": [
                {"group": _GATEWAY_API, "kind": "Gateway", "name": GATEWAY, "sectionName": "grpc"}
            ],
            "rules": [
                _grpc_rule(callee, services[start : start + _MOST_MATCHES])
                for start in range(0, len(services), _MOST_MATCHES)
            ],
        }
        if callee == ANSWERS_FOR_THE_MESH:
            built_in = ("grpc.health.v1.Health", *reflection.SERVICES, "grpc.channelz.v1.Channelz")
            spec["rules"].append(_grpc_rule(callee, built_in))
        routes.append(resource(f"{_GATEWAY_API}/v1", "GRPCRoute", callee, spec))
    return routes


def waypoint_routes(callees: Sequence[str]) -> list[dict[str, Any]]:
    """For waypoints, which know routes of Gateway API alone: nothing is repeated there."""
    return [
        resource(
            f"{_GATEWAY_API}/v1",
            "GRPCRoute",
            f"{callee}-in-the-mesh",
            {
                "parentRefs": [{"group": "", "kind": "Service", "name": callee, "port": PORT}],
                "rules": [{"backendRefs": [{"name": callee, "port": PORT}]}],
            },
        )
        for callee in callees
    ]


def _routes(listener: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = []
    for chain in listener["filter_chains"]:
        for each in chain["filters"]:
            hosts = each["typed_config"]["route_config"]["virtual_hosts"]
            found += [route for host in hosts for route in host["routes"]]
    return found


def _expanded(match: Mapping[str, Any]) -> list[str]:
    if "prefix" in match:
        return [f"{match['prefix']}*"]
    written = match["safe_regex"]["regex"].replace("\\.", ".")
    found = _LIST.fullmatch(written)
    if found is None:
        raise ValueError(f"{written} is no list of the methods of one service")
    methods = found["methods"] or found["method"]
    return [f"{found['service']}{method}" for method in methods.split("|")]


def _repeatable(callee: str, paths: Sequence[str]) -> list[dict[str, Any]]:
    if not paths:
        return []
    policy = {
        "attempts": _ATTEMPTS,
        "retryOn": REPEATABLE,
        "retryIgnorePreviousHosts": True,
        "backoff": "25ms",
    }
    return [
        {
            "name": f"{callee}-repeatable",
            "match": [{"uri": {"exact": path}} for path in paths],
            "route": _to(callee),
            "retries": policy,
        }
    ]


def _to(callee: str) -> list[Any]:
    return [{"destination": {"host": _host(callee), "port": {"number": PORT}}}]


def _host(callee: str) -> str:
    return f"{callee}.{NAMESPACE}.svc.cluster.local"


def _grpc_rule(callee: str, services: Sequence[str]) -> dict[str, Any]:
    ends = {
        "type": "RequestHeaderModifier",
        "requestHeaderModifier": {"remove": [*ENDS_AT_THE_GATEWAY]},
    }
    return {
        "matches": [{"method": {"type": "Exact", "service": each}} for each in services],
        "filters": [ends],
        "backendRefs": [{"name": callee, "port": PORT}],
    }
