"""What we ask of every workload, beyond what a cluster would take."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

from deploy.names import PORT
from deploy.render import Manifest, pods
from tier.parts import PARTS

Manifests = Sequence[Manifest]

# An exact version; what is behind `latest` or `1` changes under our feet.
_VERSION: Final = re.compile(r"v?\d+\.\d+\.\d+(-[a-z0-9.-]+)?")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_SECRET_NAME: Final = re.compile(r"KEY|PASSWORD|TOKEN|SECRET|CREDENTIAL")
_SECRET_TEXT: Final = re.compile(
    r"-----BEGIN|\bsk-[A-Za-z0-9]|\bamk_[a-z0-9]+_|://[^/@\s:]+:[^/@\s]+@|password\s*[:=]"
)
# What answers for its health: services, and the executor, which has none.
_HEALTH_NAMES: Final = {
    "agentmesh.executor.v1.Executor",
    *(service for each in PARTS for service in each.services),
}


def mutable_images(manifests: Manifests) -> Iterator[str]:
    """Images whose name can mean another one tomorrow."""
    for name, container in _containers(manifests):
        image = container["image"]
        path, _, digest = image.partition("@")
        tag = path.rpartition(":")[2] if ":" in path else ""
        if not _DIGEST.fullmatch(digest) and not _VERSION.fullmatch(tag):
            yield f"{name}: the image {image} has neither a digest nor an exact version"


def missing_limits(manifests: Manifests) -> Iterator[str]:
    """Containers that may take what others need."""
    for name, container in _containers(manifests):
        for side in ("requests", "limits"):
            for what in ("cpu", "memory"):
                if what not in container.get("resources", {}).get(side, {}):
                    yield f"{name}: resources.{side}.{what} is not set"


def missing_probes(manifests: Manifests) -> Iterator[str]:
    """Containers of which nobody can tell whether they work."""
    for name, container in _containers(manifests):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe not in container:
                yield f"{name}: there is no {probe}"
        if not any(each["containerPort"] == PORT for each in container.get("ports", ())):
            continue
        for probe in container.keys() & {"startupProbe", "readinessProbe"}:
            asked = container[probe].get("grpc", {}).get("service")
            if asked not in _HEALTH_NAMES:
                yield f"{name}: {probe} asks by gRPC for {asked}, which is no service"
        if "grpc" in container.get("livenessProbe", {}):
            yield f"{name}: livenessProbe asks for health, which follows NATS: all would end"


def too_much_power(manifests: Manifests) -> Iterator[str]:
    """Pods that may more than they need."""
    for name, pod in _pods(manifests):
        context = pod.get("securityContext", {})
        if context.get("runAsNonRoot") is not True:
            yield f"{name}: may run as root"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{name}: may make every system call"
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{name}: has a token for Kubernetes"
        if pod.get("enableServiceLinks") is not False:
            yield f"{name}: gets variables of other services, which are no settings"
        if pod.get("hostNetwork") or any("hostPath" in each for each in pod.get("volumes", ())):
            yield f"{name}: uses its node's network or files"
        for container in pod["containers"]:
            own = container.get("securityContext", {})
            if own.get("readOnlyRootFilesystem") is not True:
                yield f"{name}: may write to its image's files"
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                yield f"{name}: may gain privileges"
            if own.get("capabilities", {}).get("drop") != ["ALL"]:
                yield f"{name}: keeps capabilities"


def unprotected(manifests: Manifests) -> Iterator[str]:
    """Workloads that one node, or an upgrade of nodes, could take away whole."""
    budgets = [
        each["spec"]["selector"]["matchLabels"]
        for each in manifests
        if each["kind"] == "PodDisruptionBudget"
    ]
    known = {(each["kind"], each["metadata"]["name"]) for each in manifests}
    for each in manifests:
        for pod in pods(each):
            name = _name(each)
            labels = each["spec"]["template"]["metadata"]["labels"]
            if not any(budget.items() <= labels.items() for budget in budgets):
                yield f"{name}: no disruption budget is about it"
            spread = {at["topologyKey"] for at in pod.get("topologySpreadConstraints", ())}
            if "kubernetes.io/hostname" not in spread:
                yield f"{name}: is not spread over nodes"
            for kind, field in (
                ("PriorityClass", "priorityClassName"),
                ("ServiceAccount", "serviceAccountName"),
            ):
                if (kind, pod.get(field)) not in known:
                    yield f"{name}: its {field} {pod.get(field)} is not there"


def secrets(manifests: Manifests) -> Iterator[str]:
    """Secrets that stand in manifests, where whoever reads the repository finds them."""
    for each in manifests:
        if each["kind"] == "Secret":
            yield f"{_name(each)}: secrets are not kept here, only referred to"
        for text in _texts(each):
            if found := _SECRET_TEXT.search(text):
                yield f"{_name(each)}: {found[0]!r} begins what looks like a secret"
    for name, container in _containers(manifests):
        for variable in container.get("env", ()):
            if "value" in variable and _SECRET_NAME.search(variable["name"]):
                yield f"{name}: {variable['name']} has its value in the manifest"


def dangling(manifests: Manifests) -> Iterator[str]:
    """References to what is not there, and services without pods."""
    known = {(each["kind"], each["metadata"]["name"]) for each in manifests}
    made = [
        each["spec"]["template"]["metadata"]["labels"] for each in manifests for _ in pods(each)
    ]
    for each in manifests:
        if each["kind"] == "Service":
            selector = each["spec"]["selector"]
            if not any(selector.items() <= labels.items() for labels in made):
                yield f"{_name(each)}: no pod has its labels"
        if target := each.get("spec", {}).get("scaleTargetRef"):
            kind = target.get("kind", "Deployment")
            # Istio makes those of its gateways.
            of_istio = target["name"] in ("gateway-istio", "waypoint")
            if (kind, target["name"]) not in known and not of_istio:
                yield f"{_name(each)}: there is no {kind} {target['name']}"
        for pod in pods(each):
            for volume in pod.get("volumes", ()):
                named = volume.get("configMap", {}).get("name")
                if named and ("ConfigMap", named) not in known:
                    yield f"{_name(each)}: there is no ConfigMap {named}"


def forgetful_nats(manifests: Manifests) -> Iterator[str]:
    """Whatever would let NATS lose what it has acknowledged."""
    configurations = [
        text
        for each in manifests
        if each["kind"] == "ConfigMap"
        for name, text in each["data"].items()
        if name == "nats.conf"
    ]
    if not configurations:
        yield "there is no nats.conf"
    for text in configurations:
        if not re.search(r'^\s*sync_interval: "always"$', text, re.MULTILINE):
            yield "nats.conf: acknowledges before a write is on disk: sync_interval is not always"
    for each in manifests:
        if each["kind"] == "StatefulSet" and each["metadata"]["name"] == "nats":
            if each["spec"]["replicas"] < 3:
                yield f"{_name(each)}: fewer than three servers have no majority without one"
            if not each["spec"].get("volumeClaimTemplates"):
                yield f"{_name(each)}: keeps its streams on no volume"
        settings = each["data"].get("settings.yaml") if each["kind"] == "ConfigMap" else None
        if settings and "\nnats_replicas: 3\n" not in settings:
            yield f"{_name(each)}: keeps streams on fewer than three servers"


def _pods(manifests: Iterable[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in manifests:
        for pod in pods(each):
            yield _name(each), pod


def _containers(manifests: Iterable[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, pod in _pods(manifests):
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            yield name, container


def _name(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in cast(Mapping[str, Any], value).values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in cast(list[Any], value):
            yield from _texts(each)
