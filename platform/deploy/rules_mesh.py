"""What we ask of Istio's resources, beyond what a cluster would take."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from deploy.render import Manifest

Manifests = Sequence[Manifest]

# Nobody has heard of the call, or its connection broke. Everything else is an answer.
_SAFE: Final = frozenset({"connect-failure", "refused-stream", "reset-before-request", "reset"})


def unsafe_repeats(manifests: Manifests, repeatable: Collection[str]) -> Iterator[str]:
    """Routes by which a call could take effect twice. `repeatable` are the paths that may."""
    for route, name in _routes(manifests):
        retries = route.get("retries")
        if retries is None or "attempts" not in retries:
            yield f"{name}: does not say what is repeated, so Istio repeats everything"
            continue
        if not retries["attempts"]:
            continue
        on = set(retries.get("retryOn", "").split(","))
        if not on <= _SAFE:
            yield f"{name}: repeats on {', '.join(sorted(on - _SAFE)) or 'whatever Istio does'}"
        matches = route.get("match", ())
        if not matches:
            yield f"{name}: repeats every call"
        for match in matches:
            path = match.get("uri", {}).get("exact", "")
            if path not in repeatable:
                yield f"{name}: repeats {path or match}, which is not safe to repeat"


def default_repeats(mesh_config: Mapping[str, Any]) -> Iterator[str]:
    """What Istio repeats where no route says anything."""
    policy = mesh_config.get("defaultHttpRetryPolicy")
    if policy is None or policy.get("attempts") != 0:
        yield "defaultHttpRetryPolicy: attempts is not 0, so Istio repeats calls by itself"


def open_doors(manifests: Manifests) -> Iterator[str]:
    """Whatever is let in without a policy, or without a certificate."""
    if not any(each["kind"] == "AuthorizationPolicy" and not each["spec"] for each in manifests):
        yield "there is no policy that denies what no other allows"
    strict = [
        each
        for each in manifests
        if each["kind"] == "PeerAuthentication"
        and "selector" not in each["spec"]
        and each["spec"]["mtls"]["mode"] == "STRICT"
    ]
    if not strict:
        yield "plain text is taken: no PeerAuthentication of all pods is STRICT"
    for each in manifests:
        spec: dict[str, Any] = each["spec"] if each["kind"] == "AuthorizationPolicy" else {}
        if spec.get("action") == "ALLOW":
            for rule in spec.get("rules", ()):
                if not rule.get("to") and not rule.get("from") and not rule.get("when"):
                    name = each["metadata"]["name"]
                    yield f"AuthorizationPolicy {name}: lets everybody do everything"


def blind_rules(manifests: Manifests) -> Iterator[str]:
    """Without sidecars: rules about calls where nothing looks at calls."""
    namespace = next(each for each in manifests if each["kind"] == "Namespace")
    if namespace["metadata"]["labels"].get("istio.io/dataplane-mode") != "ambient":
        return
    gateways = {
        each["metadata"]["name"]: each["spec"]["gatewayClassName"]
        for each in manifests
        if each["kind"] == "Gateway"
    }
    waypoints = {name for name, kind in gateways.items() if kind == "istio-waypoint"}
    seen = {
        each["metadata"]["name"]
        for each in manifests
        if each["kind"] == "Service"
        and each["metadata"].get("labels", {}).get("istio.io/use-waypoint") in waypoints
        # The gateway would go past it else.
        and each["metadata"]["labels"].get("istio.io/ingress-use-waypoint") == "true"
    }
    for each in manifests:
        if each["kind"] != "AuthorizationPolicy" or not _looks_at_calls(each["spec"]):
            continue
        name = f"AuthorizationPolicy {each['metadata']['name']}"
        targets = each["spec"].get("targetRefs", ())
        if not targets:
            yield f"{name}: is about calls, and bound to pods, where only connections are seen"
        for target in targets:
            if target["kind"] == "Service" and target["name"] not in seen:
                yield f"{name}: no waypoint stands before {target['name']}"
            if target["kind"] == "Gateway" and target["name"] not in gateways:
                yield f"{name}: there is no gateway {target['name']}"


def lost_routes(manifests: Manifests) -> Iterator[str]:
    """Routes of Gateway API that begin or end where nothing is."""
    doors = {
        ("Gateway", each["metadata"]["name"]): {at["name"] for at in each["spec"]["listeners"]}
        for each in manifests
        if each["kind"] == "Gateway"
    }
    ports = {
        ("Service", each["metadata"]["name"]): {at["port"] for at in each["spec"]["ports"]}
        for each in manifests
        if each["kind"] == "Service"
    }
    for each in manifests:
        if each["kind"] != "GRPCRoute":
            continue
        backends = [at for rule in each["spec"]["rules"] for at in rule["backendRefs"]]
        for end in [*each["spec"]["parentRefs"], *backends]:
            kind = end.get("kind", "Service")
            if kind == "Gateway":
                at, known = end["sectionName"], doors
            else:
                at, known = end["port"], ports
            if at not in known.get((kind, end["name"]), ()):
                name = each["metadata"]["name"]
                yield f"GRPCRoute {name}: there is no {kind} {end['name']} with {at}"


def plain_connections(manifests: Manifests) -> Iterator[str]:
    """Connections to services of ours that would be made without the mesh's certificates.

    Nobody would take them: istioctl looks at either side alone.
    """
    for each in manifests:
        if each["kind"] == "DestinationRule":
            spec = each["spec"]
            policies = [
                spec.get("trafficPolicy", {}),
                *spec.get("trafficPolicy", {}).get("portLevelSettings", ()),
                *(subset.get("trafficPolicy", {}) for subset in spec.get("subsets", ())),
            ]
            for policy in policies:
                mode = policy.get("tls", {}).get("mode", "ISTIO_MUTUAL")
                if mode != "ISTIO_MUTUAL":
                    name = each["metadata"]["name"]
                    yield f"DestinationRule {name}: TLS {mode}, where only the mesh's own is taken"


def _looks_at_calls(spec: Mapping[str, Any]) -> bool:
    for rule in spec.get("rules", ()):
        if any("paths" in each["operation"] for each in rule.get("to", ())):
            return True
        if any(each["key"].startswith("request.") for each in rule.get("when", ())):
            return True
    return False


def _routes(manifests: Manifests) -> Iterator[tuple[Mapping[str, Any], str]]:
    for each in manifests:
        if each["kind"] == "VirtualService":
            for route in each["spec"]["http"]:
                yield route, f"VirtualService {each['metadata']['name']} {route['name']}"
