"""What is called how on Kubernetes, and who uses which store."""

from collections.abc import Mapping
from typing import Any, Final

NAMESPACE: Final = "agentmesh"
# Every service listens here.
PORT: Final = 9100
# The label by which everything is selected.
NAME_LABEL: Final = "app.kubernetes.io/name"
GATEWAY: Final = "gateway"
# Istio names the account of a gateway's pods so.
GATEWAY_ACCOUNT: Final = f"{GATEWAY}-istio"
WAYPOINT: Final = "waypoint"
# Istio reads `cluster.local` as the trust domain of its own mesh, whatever that is called.
_TRUST_DOMAIN: Final = "cluster.local"
_ALL: Final = ("governor", "reasoning", "memory", "tool", "coordinator", "executor")
# Who talks to a store, by the store's name, and at which port.
STORES: Final[Mapping[str, tuple[int, tuple[str, ...]]]] = {
    "nats": (4222, _ALL),
    "redis": (6379, ("governor", "reasoning", "memory", "tool")),
    "qdrant": (6333, ("memory",)),
    "postgres": (5432, ("coordinator", "governor")),
    "triton": (8001, ("reasoning",)),
}
# Those with pods of several kinds that talk among themselves, and where.
AMONG_THEMSELVES: Final[Mapping[str, tuple[int, ...]]] = {
    "nats": (6222,),
    "qdrant": (6335,),
    "postgres": (5432, 8000),
}


def principal(account: str) -> str:
    """Who a service account is to Istio."""
    return f"{_TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{account}"


def selector(name: str) -> dict[str, str]:
    """The labels of its pods; two kinds of pods are made and labelled by others."""
    if name == "postgres":
        return {"cnpg.io/cluster": name}
    if name == GATEWAY:
        return {"gateway.networking.k8s.io/gateway-name": name}
    return {NAME_LABEL: name}


def resource(api: str, kind: str, name: str, spec: Any) -> dict[str, Any]:
    """A resource of the mesh's namespace."""
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}
