"""Istio's own analysis of what is installed on a real API server, with its services and pods.

The server has no nodes and no controllers. Istio itself is set up by its own charts, sidecars are
put in by its own injector, and what controllers would make is made by deploy.controllers. Istio's
webhooks are left out, for nobody would answer them.
"""

import copy
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.api_server import ApiServer
from deploy.controllers import made
from deploy.istioctl import Finding, Istioctl, proxy_image
from deploy.overlays import NAMES, of_kind, one, rendered, shipped
from deploy.render import Manifest, key
from meshtest.child_server import binary

# What it says that is as it should be: code and origin, with the reason.
_EXPLAINED: Final = {
    ("IST0127", "AuthorizationPolicy agentmesh/connections-to-triton"): (
        "Staging has no Triton. Whoever adds one has its policy already."
    ),
    ("IST0133", "AuthorizationPolicy agentmesh/grants"): (
        "By it the gateway would turn away all TCP; it has no listener for any, only for HTTPS."
    ),
    ("IST0133", "AuthorizationPolicy agentmesh/one-credential"): (
        "By it the gateway would turn away all TCP; it has no listener for any, only for HTTPS."
    ),
    ("IST0133", "EnvoyFilter agentmesh/entrance"): (
        "That it depends on how Istio works inside is known: istio_entrance_test loads it."
    ),
}
_SYSTEM: Final[Manifest] = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": "istio-system"},
}
_Answers = dict[tuple[str, str], str]
_Findings = dict[tuple[str, str], Finding]


class _Cluster:
    """An API server with Istio in it, as far as it lies in resources."""

    def __init__(self, server: ApiServer, istioctl: Istioctl) -> None:
        self._server: Final = server
        self._istioctl: Final = istioctl

    def findings(self) -> _Findings:
        """All that there are, by code and origin."""
        found = self._istioctl.findings_in_cluster(self._server.kubeconfig)
        return {(each.code, each.origin): each for each in found}

    @contextmanager
    def installed(
        self, name: str, istiod: Mapping[str, Any]
    ) -> Generator[tuple[list[Manifest], _Answers]]:
        """An overlay: all that is there because of it, and what the server has against it."""
        manifests = rendered(name)
        ambient = "ambient" in name
        profile = "ambient" if ambient else "minimal"
        istio = self._istioctl.installation(istiod, profile=profile)
        self._apply([_SYSTEM, *(each for each in istio if _is_ours_to_apply(each))])
        with_sidecars = (
            manifests
            if ambient
            else self._istioctl.injected(manifests, istio, self._server.kubeconfig)
        )
        there = [
            *of_kind(manifests, "Namespace"),
            *(each for each in manifests if each["kind"] != "Namespace"),
            *made(with_sidecars, proxy_image(istio)),
        ]
        answers = self._apply(there)
        yield there, answers
        # Namespaces are emptied by a controller.
        kept = {("Namespace", "agentmesh"), *answers}
        self._take_away(each for each in reversed(there) if _named(each) not in kept)

    @contextmanager
    def changed(self, before: list[Manifest], after: list[Manifest]) -> Generator[None]:
        """For a while, something is otherwise."""
        known = {key(each): each for each in before}
        changed = [each for each in after if each != known.get(key(each))]
        assert self._apply(changed) == {}
        yield
        self._take_away(each for each in changed if key(each) not in known)
        assert self._apply([known[key(each)] for each in changed if key(each) in known]) == {}

    def _apply(self, manifests: Iterable[Manifest]) -> _Answers:
        """Returns what is refused or warned of, in the mesh's own namespace."""
        refused = _Answers()
        for each in manifests:
            answer = self._server.apply(each)
            if answer.message:
                refused[_named(each)] = answer.message
            elif answer.warnings and each["metadata"].get("namespace") == "agentmesh":
                refused[_named(each)] = " ".join(answer.warnings)
        return refused

    def _take_away(self, manifests: Iterable[Manifest]) -> None:
        for each in manifests:
            self._server.delete(each)


def _named(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def _is_ours_to_apply(manifest: Manifest) -> bool:
    """Definitions are there, and webhooks would call who is not."""
    kind = manifest["kind"]
    return kind != "CustomResourceDefinition" and not kind.endswith("WebhookConfiguration")


@pytest.fixture(name="cluster", scope="module")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Cluster]:
    istioctl = Istioctl(binary("ISTIOCTL"), tmp_path_factory.mktemp("istioctl"))
    files = [Path(each) for each in os.environ.get("KUBERNETES_SCHEMAS", "").split()]
    if not files or any(each.name == "missing.txt" for each in files):
        pytest.skip("Definitions of custom resources are missing: they come with Go modules.")
    with ApiServer(tmp_path_factory.mktemp("api-server")) as server:
        server.define(each for each in files if each.suffix == ".yaml")
        yield _Cluster(server, istioctl)


def _istiod() -> Any:
    return shipped("mesh/istio/istiod-values.yaml")


@pytest.fixture(name="looked_at", scope="module")
def _looked_at(cluster: _Cluster) -> dict[str, tuple[_Answers, _Findings]]:
    """What the server, and what the analysis, has against each overlay."""
    looked_at = dict[str, tuple[_Answers, _Findings]]()
    for name in NAMES:
        with cluster.installed(name, _istiod()) as (_, answers):
            looked_at[name] = answers, cluster.findings()
    return looked_at


@pytest.mark.parametrize("name", NAMES)
def test_what_is_installed_is_as_istio_wants_it(
    looked_at: dict[str, tuple[_Answers, _Findings]], name: str
) -> None:
    """The server takes all of it, pods with their sidecars too, and nothing is found wrong."""
    answers, found = looked_at[name]
    assert answers == {}
    assert [each for origin, each in found.items() if origin not in _EXPLAINED] == []


def test_every_explanation_is_still_needed(
    looked_at: dict[str, tuple[_Answers, _Findings]],
) -> None:
    """None stays behind when what it is about is gone."""
    _, found = looked_at["staging"]
    assert _EXPLAINED.keys() - found.keys() == set()


def test_a_sidecar_that_wants_rights_over_the_network_is_refused(cluster: _Cluster) -> None:
    """Without Istio's agent on the nodes no pod of the mesh would start."""
    istiod = _istiod()
    istiod["pilot"]["cni"] = {"enabled": False}
    with cluster.installed("staging", istiod) as (_, answers):
        assert {name for _, name in answers} >= {"coordinator-0", "tool-0", "nats-0"}
        assert 'violates PodSecurity "baseline:latest"' in answers["Pod", "tool-0"]


@pytest.fixture(name="production", scope="module")
def _production(cluster: _Cluster) -> Iterator[list[Manifest]]:
    with cluster.installed("production", _istiod()) as (there, _):
        yield there


def _spec(manifests: list[Manifest], kind: str, name: str) -> Any:
    return one(manifests, kind, name)["spec"]


def _listener_without_secret(manifests: list[Manifest]) -> None:
    tls = {"mode": "SIMPLE", "credentialName": "gone"}
    port = {"number": 443, "name": "https", "protocol": "HTTPS"}
    manifests.append(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "second", "namespace": "agentmesh"},
            "spec": {
                "selector": {"gateway.networking.k8s.io/gateway-name": "gateway"},
                "servers": [{"hosts": ["second.example.com"], "port": port, "tls": tls}],
            },
        }
    )


def _pod_without_sidecar(manifests: list[Manifest]) -> None:
    pod = copy.deepcopy(one(manifests, "Pod", "tool-0"))
    pod["metadata"]["name"] = "tool-1"
    containers = pod["spec"]["containers"]
    pod["spec"]["containers"] = [each for each in containers if each["name"] != "istio-proxy"]
    manifests.append(pod)


_PLANTED: Final[tuple[tuple[str, Callable[[list[Manifest]], object], str, str], ...]] = (
    (
        "a route to a service that is not there",
        lambda m: _spec(m, "VirtualService", "tool")["http"][1]["route"][0]["destination"].update(
            host="tools.agentmesh.svc.cluster.local"
        ),
        "IST0101",
        "VirtualService agentmesh/tool",
    ),
    (
        "a subset that no pod is in",
        lambda m: _spec(m, "DestinationRule", "tool").update(
            subsets=[{"name": "next", "labels": {"version": "next"}}]
        ),
        "IST0173",
        "DestinationRule agentmesh/tool",
    ),
    (
        "rules for connections to a service that is not there",
        lambda m: _spec(m, "DestinationRule", "tool").update(
            host="tools.agentmesh.svc.cluster.local"
        ),
        "IST0174",
        "DestinationRule agentmesh/tool",
    ),
    (
        "TLS that believes everybody",
        lambda m: _spec(m, "DestinationRule", "tool")["trafficPolicy"].update(
            tls={"mode": "SIMPLE"}
        ),
        "IST0128",
        "DestinationRule agentmesh/tool",
    ),
    (
        "a certificate that is not there",
        _listener_without_secret,
        "IST0101",
        "Gateway agentmesh/second",
    ),
    (
        "a port by which nobody can tell the protocol",
        lambda m: _spec(m, "Service", "tool").update(
            ports=[{"name": "calls", "port": 9100, "targetPort": "grpc"}]
        ),
        "IST0118",
        "Service agentmesh/tool",
    ),
    (
        "one port of a pod behind two of its services",
        lambda m: _spec(m, "Service", "coordinator-canary")["ports"][0].update(port=9200),
        "IST0137",
        "Deployment agentmesh/coordinator",
    ),
    (
        "a policy about no pod",
        lambda m: _spec(m, "AuthorizationPolicy", "calls-to-tool").update(
            selector={"matchLabels": {"app.kubernetes.io/name": "tools"}}
        ),
        "IST0127",
        "AuthorizationPolicy agentmesh/calls-to-tool",
    ),
    ("a pod without a sidecar", _pod_without_sidecar, "IST0103", "Pod agentmesh/tool-1"),
    (
        "sidecars and tunnels",
        lambda m: one(m, "Namespace", "agentmesh")["metadata"]["labels"].update(
            {"istio.io/dataplane-mode": "ambient"}
        ),
        "IST0123",
        "Namespace agentmesh",
    ),
)


@pytest.mark.parametrize(
    ("plant", "code", "origin"),
    [each[1:] for each in _PLANTED],
    ids=[each[0] for each in _PLANTED],
)
def test_what_is_wrong_is_found(
    cluster: _Cluster,
    production: list[Manifest],
    plant: Callable[[list[Manifest]], object],
    code: str,
    origin: str,
) -> None:
    """One thing is changed for the worse, and that is what is found."""
    worse = copy.deepcopy(production)
    plant(worse)
    with cluster.changed(production, worse):
        assert cluster.findings().keys() - _EXPLAINED.keys() == {(code, origin)}
