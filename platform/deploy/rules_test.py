"""Our own rules hold for everything that is installed, and each finds what breaks it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deploy import rules_mesh, rules_workload
from deploy.istio_routes import repeats
from deploy.overlays import NAMES, of_kind, one, rendered, shipped
from deploy.render import Manifest

_Rule = Callable[[list[Manifest]], Iterator[str]]
_Plant = Callable[[list[Manifest]], object]


def _unsafe_repeats(manifests: list[Manifest]) -> Iterator[str]:
    found = repeats(shipped("mesh/envoy/proxy.yaml"))
    return rules_mesh.unsafe_repeats(manifests, {path for each in found for path in each.paths})


_RULES: tuple[_Rule, ...] = (
    rules_workload.mutable_images,
    rules_workload.missing_limits,
    rules_workload.missing_probes,
    rules_workload.too_much_power,
    rules_workload.unprotected,
    rules_workload.secrets,
    rules_workload.dangling,
    rules_workload.forgetful_nats,
    _unsafe_repeats,
    rules_mesh.open_doors,
    rules_mesh.blind_rules,
    rules_mesh.lost_routes,
    rules_mesh.plain_connections,
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", _RULES)
def test_what_is_installed_keeps_the_rules(rule: _Rule, name: str) -> None:
    """Each rule, over all that an overlay installs."""
    assert list(rule(rendered(name))) == []


def test_nothing_is_repeated_by_default() -> None:
    """Istio would repeat every call; its own settings say that it does not."""
    settings = shipped("mesh/istio/istiod-values.yaml")["meshConfig"]
    assert list(rules_mesh.default_repeats(settings)) == []
    for planted in ({}, {"defaultHttpRetryPolicy": {"attempts": 2}}):
        assert list(rules_mesh.default_repeats(planted)) == [
            "defaultHttpRetryPolicy: attempts is not 0, so Istio repeats calls by itself"
        ]


def test_a_sidecar_needs_no_rights_that_its_namespace_refuses() -> None:
    """Nodes turn a pod's calls to its sidecar; `istio_cluster_test` shows what else would be."""
    labels = one(rendered("staging"), "Namespace", "agentmesh")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "baseline"
    assert shipped("mesh/istio/istiod-values.yaml")["pilot"]["cni"] == {"enabled": True}


def _pod(manifests: list[Manifest], name: str = "tool") -> Any:
    return one(manifests, "Deployment", name)["spec"]["template"]["spec"]


def _container(manifests: list[Manifest], name: str = "tool") -> Any:
    return _pod(manifests, name)["containers"][0]


def _route(manifests: list[Manifest], number: int) -> Any:
    return one(manifests, "VirtualService", "tool")["spec"]["http"][number]


def _spec(manifests: list[Manifest], kind: str, name: str) -> Any:
    return one(manifests, kind, name)["spec"]


def _without(manifests: list[Manifest], kind: str, name: str) -> None:
    manifests.remove(one(manifests, kind, name))


def _rewrite(manifests: list[Manifest], name: str, old: str, new: str) -> None:
    data = one(manifests, "ConfigMap", name)["data"]
    for file, text in data.items():
        assert old in text
        data[file] = text.replace(old, new)


_PLANTED: tuple[tuple[_Rule, _Plant, str], ...] = (
    (
        rules_workload.mutable_images,
        lambda m: _container(m).update(image="agentmesh/tool:latest"),
        "the image agentmesh/tool:latest has neither a digest nor an exact version",
    ),
    (
        rules_workload.mutable_images,
        lambda m: _container(m).update(image="agentmesh/tool"),
        "Deployment tool: the image agentmesh/tool has neither a digest nor an exact version",
    ),
    (
        rules_workload.missing_limits,
        lambda m: _container(m)["resources"]["limits"].pop("memory"),
        "Deployment tool: resources.limits.memory is not set",
    ),
    (
        rules_workload.missing_probes,
        lambda m: _container(m).pop("readinessProbe"),
        "Deployment tool: there is no readinessProbe",
    ),
    (
        rules_workload.missing_probes,
        lambda m: _container(m)["readinessProbe"]["grpc"].update(service="agentmesh.Tool"),
        "Deployment tool: readinessProbe asks by gRPC for agentmesh.Tool, which is no service",
    ),
    (
        rules_workload.missing_probes,
        lambda m: _container(m).update(livenessProbe={"grpc": {"port": 9100}}),
        "Deployment tool: livenessProbe asks for health, which follows NATS: all would end",
    ),
    (
        rules_workload.too_much_power,
        lambda m: _pod(m)["securityContext"].pop("runAsNonRoot"),
        "Deployment tool: may run as root",
    ),
    (
        rules_workload.too_much_power,
        lambda m: _container(m)["securityContext"].update(readOnlyRootFilesystem=False),
        "Deployment tool: may write to its image's files",
    ),
    (
        rules_workload.too_much_power,
        lambda m: _pod(m).pop("automountServiceAccountToken"),
        "Deployment tool: has a token for Kubernetes",
    ),
    (
        rules_workload.too_much_power,
        lambda m: _pod(m)["volumes"].append({"name": "node", "hostPath": {"path": "/"}}),
        "Deployment tool: uses its node's network or files",
    ),
    (
        rules_workload.unprotected,
        lambda m: _without(m, "PodDisruptionBudget", "tool"),
        "Deployment tool: no disruption budget is about it",
    ),
    (
        rules_workload.unprotected,
        lambda m: _pod(m).pop("topologySpreadConstraints"),
        "Deployment tool: is not spread over nodes",
    ),
    (
        rules_workload.unprotected,
        lambda m: _without(m, "ServiceAccount", "tool"),
        "Deployment tool: its serviceAccountName tool is not there",
    ),
    (
        rules_workload.secrets,
        lambda m: m.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own"}}),
        "Secret own: secrets are not kept here, only referred to",
    ),
    (
        rules_workload.secrets,
        lambda m: _container(m)["env"].append({"name": "OPENAI_API_KEY", "value": "abc"}),
        "Deployment tool: OPENAI_API_KEY has its value in the manifest",
    ),
    (
        rules_workload.secrets,
        lambda m: _rewrite(m, "governor-settings", "agentmesh@", "agentmesh:abc@"),
        "'://agentmesh:abc@' begins what looks like a secret",
    ),
    (
        rules_workload.dangling,
        lambda m: _pod(m)["volumes"][0]["configMap"].update(name="none"),
        "Deployment tool: there is no ConfigMap none",
    ),
    (
        rules_workload.dangling,
        lambda m: _spec(m, "Service", "tool").update(selector={"app.kubernetes.io/name": "tools"}),
        "Service tool: no pod has its labels",
    ),
    (
        rules_workload.dangling,
        lambda m: _spec(m, "HorizontalPodAutoscaler", "tool")["scaleTargetRef"].update(name="x"),
        "HorizontalPodAutoscaler tool: there is no Deployment x",
    ),
    (
        rules_workload.forgetful_nats,
        lambda m: _rewrite(m, "nats-config", '  sync_interval: "always"\n', ""),
        "nats.conf: acknowledges before a write is on disk: sync_interval is not always",
    ),
    (
        rules_workload.forgetful_nats,
        lambda m: _rewrite(
            m, "nats-config", '  sync_interval: "always"', '# sync_interval: "always"'
        ),
        "nats.conf: acknowledges before a write is on disk: sync_interval is not always",
    ),
    (
        rules_workload.forgetful_nats,
        lambda m: _spec(m, "StatefulSet", "nats").update(replicas=1),
        "StatefulSet nats: fewer than three servers have no majority without one",
    ),
    (
        rules_workload.forgetful_nats,
        lambda m: _rewrite(m, "tool-settings", "nats_replicas: 3", "nats_replicas: 1"),
        "keeps streams on fewer than three servers",
    ),
    (
        _unsafe_repeats,
        lambda m: _route(m, 1).pop("retries"),
        "VirtualService tool tool: does not say what is repeated, so Istio repeats everything",
    ),
    (
        _unsafe_repeats,
        lambda m: _route(m, 1).update(retries=_route(m, 0)["retries"]),
        "VirtualService tool tool: repeats every call",
    ),
    (
        _unsafe_repeats,
        lambda m: _route(m, 0)["retries"].update(retryOn="reset,unavailable"),
        "VirtualService tool tool-repeatable: repeats on unavailable",
    ),
    (
        _unsafe_repeats,
        lambda m: _route(m, 0)["match"].append({"uri": {"exact": "/a.Tool/Run"}}),
        "VirtualService tool tool-repeatable: repeats /a.Tool/Run, which is not safe to repeat",
    ),
    (
        rules_mesh.open_doors,
        lambda m: _without(m, "AuthorizationPolicy", "nobody"),
        "there is no policy that denies what no other allows",
    ),
    (
        rules_mesh.open_doors,
        lambda m: _spec(m, "PeerAuthentication", "strict").update(mtls={"mode": "PERMISSIVE"}),
        "plain text is taken: no PeerAuthentication of all pods is STRICT",
    ),
    (
        rules_mesh.open_doors,
        lambda m: _spec(m, "AuthorizationPolicy", "calls-to-tool").update(rules=[{}]),
        "AuthorizationPolicy calls-to-tool: lets everybody do everything",
    ),
    (
        rules_mesh.lost_routes,
        lambda m: _spec(m, "GRPCRoute", "tool")["rules"][0]["backendRefs"][0].update(name="tools"),
        "GRPCRoute tool: there is no Service tools with 9100",
    ),
    (
        rules_mesh.lost_routes,
        lambda m: _spec(m, "GRPCRoute", "tool")["rules"][0]["backendRefs"][0].update(port=9200),
        "GRPCRoute tool: there is no Service tool with 9200",
    ),
    (
        rules_mesh.lost_routes,
        lambda m: _spec(m, "GRPCRoute", "tool")["parentRefs"][0].update(sectionName="http"),
        "GRPCRoute tool: there is no Gateway gateway with http",
    ),
    (
        rules_mesh.plain_connections,
        lambda m: _spec(m, "DestinationRule", "tool")["trafficPolicy"].update(
            tls={"mode": "DISABLE"}
        ),
        "DestinationRule tool: TLS DISABLE, where only the mesh's own is taken",
    ),
    (
        rules_mesh.plain_connections,
        lambda m: _spec(m, "DestinationRule", "tool").update(
            subsets=[{"name": "new", "trafficPolicy": {"tls": {"mode": "SIMPLE"}}}]
        ),
        "DestinationRule tool: TLS SIMPLE, where only the mesh's own is taken",
    ),
)


@pytest.mark.parametrize(("rule", "plant", "finding"), _PLANTED)
def test_what_breaks_a_rule_is_found(rule: _Rule, plant: _Plant, finding: str) -> None:
    """One thing is changed for the worse, and that is what is found."""
    manifests = rendered("production")
    plant(manifests)
    (found,) = rule(manifests)
    assert found.endswith(finding)


_BLIND: tuple[tuple[_Plant, str], ...] = (
    (
        lambda m: _without(m, "Gateway", "waypoint"),
        "AuthorizationPolicy calls-to-tool: no waypoint stands before tool",
    ),
    (
        lambda m: one(m, "Service", "tool")["metadata"]["labels"].pop("istio.io/use-waypoint"),
        "AuthorizationPolicy calls-to-tool: no waypoint stands before tool",
    ),
    (
        lambda m: one(m, "Service", "tool")["metadata"]["labels"].pop(
            "istio.io/ingress-use-waypoint"
        ),
        "AuthorizationPolicy calls-to-tool: no waypoint stands before tool",
    ),
    (
        lambda m: _spec(m, "AuthorizationPolicy", "calls-to-tool").pop("targetRefs"),
        "AuthorizationPolicy calls-to-tool: is about calls, and bound to pods, where only"
        " connections are seen",
    ),
)


@pytest.mark.parametrize(("plant", "finding"), _BLIND)
def test_rules_about_calls_want_a_waypoint(plant: _Plant, finding: str) -> None:
    """Without sidecars nothing else looks at calls, and the rules would do nothing."""
    manifests = rendered("production-ambient")
    plant(manifests)
    assert finding in list(rules_mesh.blind_rules(manifests))


def test_every_rule_has_something_to_look_at() -> None:
    """A rule over nothing would hold, whatever was installed."""
    manifests = rendered("production")
    assert len(of_kind(manifests, "Deployment")) == 7
    assert len(of_kind(manifests, "StatefulSet")) == 3
    assert len(of_kind(manifests, "VirtualService")) == 4
