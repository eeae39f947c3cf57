"""Who may connect to whom, as Kubernetes' NetworkPolicies: below Istio, and without it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from deploy.names import AMONG_THEMSELVES, GATEWAY, PORT, STORES, resource, selector
from tier.policy import Policy

# Of Istio's control plane, which tells the proxies who they are and how calls go.
_CONTROL_PORTS: Final = (15012, 15010)
# Where the proxies show what they count.
_METRICS_PORTS: Final = (15020, 15090)
_TUNNEL_PORT: Final = 15008
# Of the gateway: calls, and where load balancers ask whether it is well.
_OPEN_PORTS: Final = (443, 15021)
# Probes reach pods without sidecars from here, whatever node they are on.
_PROBES: Final = {"ipBlock": {"cidr": "169.254.7.127/32"}}
_NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"
# Providers of models, anywhere but in this cluster and beside it.
_OUTSIDE: Final = {
    "ipBlock": {
        "cidr": "0.0.0.0/0",
        "except": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"],
    }
}


def network_policies(policy: Policy, parts: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """One for each service and store, and one that refuses all the rest."""
    callers = {
        callee: [*([GATEWAY] if services else []), *_callers(policy, callee)]
        for callee, services in parts.items()
    }
    policies = [_policy("nobody", {}, ["Ingress", "Egress"]), _names_and_mesh()]
    for part in parts:
        called = [callee for callee, by in callers.items() if part in by]
        used = {store: port for store, (port, users) in STORES.items() if part in users}
        egress = [_to(callee, PORT) for callee in called]
        egress += [_to(store, port) for store, port in used.items()]
        if part == "reasoning":
            egress.append({"to": [_OUTSIDE], "ports": [{"protocol": "TCP", "port": 443}]})
        policies.append(
            _policy(
                part,
                selector(part),
                ["Ingress", "Egress"],
                ingress=[_by(callers[part], PORT)] if callers[part] else [],
                egress=egress,
            )
        )
    gateway = [_to(callee, PORT) for callee, by in callers.items() if GATEWAY in by]
    open_ports: dict[str, Any] = {"ports": [{"protocol": "TCP", "port": p} for p in _OPEN_PORTS]}
    policies.append(
        _policy(
            GATEWAY, selector(GATEWAY), ["Ingress", "Egress"], ingress=[open_ports], egress=gateway
        )
    )
    policies += [_store(store, port, users) for store, (port, users) in STORES.items()]
    return policies


def _store(store: str, port: int, users: Sequence[str]) -> dict[str, Any]:
    ingress = [_by(users, port)]
    egress: list[Any] = []
    for own in AMONG_THEMSELVES.get(store, ()):
        ingress.append(_by([store], own))
        egress.append(_to(store, own))
    if store == "nats":
        ingress.append(
            {"from": [_from_namespace("keda")], "ports": [{"protocol": "TCP", "port": 8222}]}
        )
    if store == "postgres":
        # Its operator looks after it there, and the database tells Kubernetes who is primary.
        watched = [{"protocol": "TCP", "port": 8000}, {"protocol": "TCP", "port": 5432}]
        ingress.append({"from": [_from_namespace("cnpg-system")], "ports": watched})
        egress.append(
            {"ports": [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 6443}]}
        )
    return _policy(store, selector(store), ["Ingress", "Egress"], ingress=ingress, egress=egress)


def _names_and_mesh() -> dict[str, Any]:
    """What every pod needs: names of services, Istio's control plane, and who reads metrics."""
    names = {
        "to": [_from_namespace("kube-system")],
        "ports": [{"protocol": each, "port": 53} for each in ("UDP", "TCP")],
    }
    control = {
        "to": [_from_namespace("istio-system")],
        "ports": [{"protocol": "TCP", "port": each} for each in _CONTROL_PORTS],
    }
    metrics = {
        "from": [_from_namespace("monitoring")],
        "ports": [{"protocol": "TCP", "port": each} for each in _METRICS_PORTS],
    }
    return _policy(
        "names-and-mesh", {}, ["Ingress", "Egress"], ingress=[metrics], egress=[names, control]
    )


def tunnels() -> dict[str, Any]:
    """For Istio without sidecars, where pods talk through its tunnels, and it says who may."""
    within: dict[str, Any] = {
        "from": [{"podSelector": {}}],
        "ports": [{"protocol": "TCP", "port": _TUNNEL_PORT}],
    }
    out: dict[str, Any] = {
        "to": [{"podSelector": {}}],
        "ports": [{"protocol": "TCP", "port": _TUNNEL_PORT}],
    }
    return _policy(
        "tunnels", {}, ["Ingress", "Egress"], ingress=[within, {"from": [_PROBES]}], egress=[out]
    )


def _callers(policy: Policy, callee: str) -> list[str]:
    return [edge.caller for edge in policy.edges if edge.callee == callee]


def _by(names: Sequence[str], port: int) -> dict[str, Any]:
    return {"from": [_pod(each) for each in names], "ports": [{"protocol": "TCP", "port": port}]}


def _to(name: str, port: int) -> dict[str, Any]:
    return {"to": [_pod(name)], "ports": [{"protocol": "TCP", "port": port}]}


def _pod(name: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": selector(name)}}


def _from_namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {_NAMESPACE_LABEL: name}}}


def _policy(
    name: str,
    pods: Mapping[str, str],
    types: list[str],
    *,
    ingress: list[Any] | None = None,
    egress: list[Any] | None = None,
) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "podSelector": {"matchLabels": dict(pods)} if pods else {},
        "policyTypes": types,
    }
    if ingress:
        spec["ingress"] = ingress
    if egress:
        spec["egress"] = egress
    return resource("networking.k8s.io/v1", "NetworkPolicy", name, spec)
