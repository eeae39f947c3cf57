"""The policy as Istio understands it: AuthorizationPolicies, everything else denied.

Pure functions of mesh/policy.yaml and of what the contracts offer. What they return is written to
mesh/istio by deploy/write.py; a test says that the files are what the policy makes of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from deploy.names import (
    GATEWAY,
    GATEWAY_ACCOUNT,
    NAME_LABEL,
    PORT,
    STORES,
    WAYPOINT,
    principal,
    resource,
)
from meshkit.constants import CALLER_KEY, ROLE_KEY, SERVICE_CALLER
from meshkit.identity import Role
from tier.policy import Policy, roles_from

_API: Final = "security.istio.io/v1"
_KIND: Final = "AuthorizationPolicy"
# What gateways ask by themselves.
ASKED_BY_GATEWAYS: Final[Mapping[str, tuple[str, ...]]] = {
    "coordinator": ("/envoy.service.auth.v3.Authorization/Check",),
    "governor": ("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",),
}
# Who answers for health and reflection of the mesh, which on one machine a process of its own does.
ANSWERS_FOR_THE_MESH: Final = "coordinator"
_BUILT_IN: Final = "/grpc."

Parts = Mapping[str, Sequence[str]]


def offered_by(policy: Policy, parts: Parts, callee: str) -> tuple[str, ...]:
    """The paths that the gateway may call of `callee`; `parts` are the services of each."""
    prefixes = tuple(f"/{service}/" for service in parts[callee])
    if callee == ANSWERS_FOR_THE_MESH:
        prefixes = (*prefixes, _BUILT_IN)
    return tuple(path for path in policy.paths() if path.startswith(prefixes))


def gateway_policy(policy: Policy) -> dict[str, Any]:
    """Which roles may call what, decided at the gateway. Scopes of keys come after it."""
    rules = [_of_role(role, paths) for role, paths in policy.roles.items() if paths]
    return _allow(f"{GATEWAY}-roles", _at("gateway.networking.k8s.io", "Gateway", GATEWAY), rules)


def service_policies(policy: Policy, parts: Parts, *, ambient: bool) -> list[dict[str, Any]]:
    """Who may call what of each service; with `ambient`, as its waypoint holds callers to it."""
    return [
        _allow(
            f"calls-to-{callee}",
            _at("", "Service", callee) if ambient else _pods(callee),
            [
                _rule(GATEWAY_ACCOUNT, (*offered_by(policy, parts, callee), *_asked(callee))),
                *(
                    _rule(edge.caller, edge.paths, said=f"{SERVICE_CALLER}{edge.caller}")
                    for edge in policy.edges
                    if edge.callee == callee
                ),
            ],
        )
        for callee, services in parts.items()
        if services
    ]


def waypoint_policies(parts: Parts) -> list[dict[str, Any]]:
    """That nobody reaches a service's pods but the waypoint, which alone can look at calls."""
    through = [{"from": [_from(WAYPOINT)], "to": [{"operation": {"ports": [str(PORT)]}}]}]
    return [
        _allow(f"waypoint-to-{callee}", _pods(callee), through)
        for callee, services in parts.items()
        if services
    ]


def store_policies() -> list[dict[str, Any]]:
    """Who may connect to each store. What they say there Istio does not read."""
    policies = {
        store: [
            {
                "from": [{"source": {"principals": [principal(each) for each in users]}}],
                "to": [{"operation": {"ports": [str(port)]}}],
            }
        ]
        for store, (port, users) in STORES.items()
        # PostgreSQL has TLS and passwords of its own, and no sidecar.
        if store != "postgres"
    }
    for store, ports in {"nats": (6222, 8222), "qdrant": (6335,)}.items():
        own: dict[str, Any] = {"to": [{"operation": {"ports": [str(ports[0])]}}]}
        policies[store].append({"from": [_from(store)], **own})
        # KEDA comes from outside of the mesh; the network policies say that nobody else does.
        policies[store].extend({"to": [{"operation": {"ports": [str(p)]}}]} for p in ports[1:])
    return [
        _allow(f"connections-to-{store}", _pods(store), rules) for store, rules in policies.items()
    ]


def nobody() -> dict[str, Any]:
    """Denies what no other policy allows."""
    return resource(_API, _KIND, "nobody", {})


def _allow(name: str, target: dict[str, Any], rules: list[Any]) -> dict[str, Any]:
    return resource(_API, _KIND, name, {**target, "action": "ALLOW", "rules": rules})


def _of_role(role: Role, paths: Sequence[str]) -> dict[str, Any]:
    held = [each.value for each in roles_from(role)]
    return {
        "to": [{"operation": {"paths": list(paths)}}],
        "when": [{"key": f"request.headers[{ROLE_KEY}]", "values": held}],
    }


def _rule(account: str, paths: Sequence[str], *, said: str = "") -> dict[str, Any]:
    rule: dict[str, Any] = {
        "from": [_from(account)],
        "to": [{"operation": {"paths": list(paths), "ports": [str(PORT)]}}],
    }
    if said:
        rule["when"] = [{"key": f"request.headers[{CALLER_KEY}]", "values": [said]}]
    return rule


def _from(account: str) -> dict[str, Any]:
    return {"source": {"principals": [principal(account)]}}


def _asked(callee: str) -> tuple[str, ...]:
    return ASKED_BY_GATEWAYS.get(callee, ())


def _pods(name: str) -> dict[str, Any]:
    return {"selector": {"matchLabels": {NAME_LABEL: name}}}


def _at(group: str, kind: str, name: str) -> dict[str, Any]:
    return {"targetRefs": [{"group": group, "kind": kind, "name": name}]}
