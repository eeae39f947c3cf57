"""What controllers make of manifests in a cluster, for a server that has none.

One pod of each workload; of a gateway what Istio makes of it, and of a database what its operator
does: as much of each as somebody could look at who says whether routes and policies fit.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from deploy.names import NAMESPACE
from deploy.render import Manifest, pods

_GATEWAY: Final = "gateway.networking.k8s.io/gateway-name"
_MANAGED: Final = "gateway.istio.io/managed"
_TUNNELS: Final = "istio.io/dataplane-mode"
# By a Gateway's class the ending of the names, and who is said to have made it.
_OF_GATEWAYS: Final = {
    "istio": ("-istio", "istio.io-gateway-controller"),
    "istio-waypoint": ("", "istio.io-mesh-controller"),
}
# CloudNativePG's services: for who writes, for who reads copies, and for who reads.
_OF_CLUSTERS: Final = ("rw", "ro", "r")
# What a pod of others must have, so that the namespace takes it without a warning.
_SAFE: Final[Mapping[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def made(manifests: Sequence[Manifest], proxy_image: str) -> Iterator[Manifest]:
    """What comes about in the namespace when these are applied, accounts before their pods.

    Args:
        manifests: what is applied, with the sidecars of its workloads if they are to have any.
        proxy_image: of Istio's gateways.
    """
    (namespace,) = [each for each in manifests if each["kind"] == "Namespace"]
    tunnels = namespace["metadata"]["labels"].get(_TUNNELS) == "ambient"
    for each in manifests:
        name = each["metadata"]["name"]
        for spec in pods(each):
            claims = each["spec"].get("volumeClaimTemplates", ())
            metadata = each["spec"]["template"]["metadata"]
            if tunnels:
                # As Istio's agent on the node says that it has led the pod's calls into them.
                metadata = {**metadata, "annotations": {"ambient.istio.io/redirection": "enabled"}}
            yield _pod(name, metadata, _with_claims(name, spec, claims))
        if each["kind"] == "Gateway":
            yield from _made_of_gateway(name, each["spec"], proxy_image)
        if each["kind"] == "Cluster":
            yield from _made_of_cluster(name, each["spec"])


def _made_of_gateway(gateway: str, spec: Mapping[str, Any], proxy_image: str) -> Iterator[Manifest]:
    ending, manager = _OF_GATEWAYS[spec["gatewayClassName"]]
    name, labels = f"{gateway}{ending}", {_GATEWAY: gateway, _MANAGED: manager}
    yield _account(name)
    yield _service(name, labels, [each["port"] for each in spec["listeners"]])
    pod = _pod_of_others(name, "istio-proxy", proxy_image)
    of_pod = {**labels, "sidecar.istio.io/inject": "false"}
    template = {"metadata": {"labels": of_pod}, "spec": pod}
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    yield _pod(name, template["metadata"], pod)


def _made_of_cluster(name: str, spec: Mapping[str, Any]) -> Iterator[Manifest]:
    labels = {"cnpg.io/cluster": name, "cnpg.io/podRole": "instance"}
    yield _account(name)
    for each in _OF_CLUSTERS:
        yield _service(f"{name}-{each}", labels, [5432])
    of_pod = {**spec["inheritedMetadata"]["labels"], **labels}
    yield _pod(name, {"labels": of_pod}, _pod_of_others(name, "postgres", "postgresql"))


def _with_claims(
    name: str, spec: Mapping[str, Any], claims: Sequence[Manifest]
) -> Mapping[str, Any]:
    """The pod of a StatefulSet has a volume of each of its claims."""
    volumes = [
        {"name": each, "persistentVolumeClaim": {"claimName": f"{each}-{name}-0"}}
        for each in (claim["metadata"]["name"] for claim in claims)
    ]
    return {**spec, "volumes": [*spec.get("volumes", ()), *volumes]}


def _pod(name: str, template: Mapping[str, Any], spec: Mapping[str, Any]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template, "name": f"{name}-0", "namespace": NAMESPACE},
        "spec": spec,
    }


def _pod_of_others(account: str, container: str, image: str) -> Mapping[str, Any]:
    return {
        "serviceAccountName": account,
        "containers": [{"name": container, "image": image, "securityContext": _SAFE}],
    }


def _account(name: str) -> Manifest:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def _service(name: str, labels: Mapping[str, str], ports: Sequence[int]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "selector": labels,
            "ports": [{"name": f"tcp-{each}", "port": each} for each in ports],
        },
    }
