"""A real API server takes everything that is installed, and refuses what is planted."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.api_server import Answer, ApiServer
from deploy.overlays import NAMES, of_kind, one, rendered, shipped
from deploy.render import Manifest

# In no overlay of ours: a component for clusters that have the extension.
_POOL: Final = "mesh/kubernetes/components/inference-pool/inference-pool.yaml"
# What it warns of that is as it should be: kind and name, with the reason.
_EXPLAINED: Final[dict[tuple[str, str], str]] = {}
# Of one overlay, by kind and name.
_Answers = dict[tuple[str, str], Answer]


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """With the definitions of custom resources, and nothing else."""
    files = [Path(each) for each in os.environ.get("KUBERNETES_SCHEMAS", "").split()]
    if not files or any(each.name == "missing.txt" for each in files):
        pytest.skip("Definitions of custom resources are missing: they come with Go modules.")
    with ApiServer(tmp_path_factory.mktemp("api-server")) as server:
        server.define(each for each in files if each.suffix == ".yaml")
        yield server


def _make_namespace(server: ApiServer, manifests: list[Manifest]) -> None:
    """In earnest: others lie in it."""
    for namespace in of_kind(manifests, "Namespace"):
        assert server.apply(namespace).message == ""


def _answers(server: ApiServer, manifests: list[Manifest]) -> _Answers:
    """Of each manifest that it can judge."""
    _make_namespace(server, manifests)
    return {
        (each["kind"], each["metadata"]["name"]): server.apply(each, dry_run=True)
        for each in manifests
        if server.serves(each)
    }


@pytest.fixture(name="answers", scope="module")
def _answers_by_overlay(server: ApiServer) -> dict[str, _Answers]:
    return {name: _answers(server, rendered(name)) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_is_installed_is_taken(answers: dict[str, _Answers], name: str) -> None:
    """By all of its checks: schemas, rules in CEL, admission."""
    refused = {origin: answer.message for origin, answer in answers[name].items() if answer.message}
    assert refused == {}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_warned_of(answers: dict[str, _Answers], name: str) -> None:
    """No API that is to end, no pod that may more than the namespace wants."""
    warnings = {
        origin: answer.warnings
        for origin, answer in answers[name].items()
        if answer.warnings and origin not in _EXPLAINED
    }
    assert warnings == {}


def test_every_explanation_is_still_needed(answers: dict[str, _Answers]) -> None:
    """None stays behind when what it is about is gone."""
    warned = {
        origin
        for overlay in answers.values()
        for origin, answer in overlay.items()
        if answer.warnings
    }
    assert _EXPLAINED.keys() - warned == set()


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_is_served(server: ApiServer, name: str) -> None:
    """So that none is passed over."""
    assert {each["kind"] for each in rendered(name) if not server.serves(each)} == set()


def test_the_pool_of_inference_is_taken(server: ApiServer) -> None:
    """But not without the port at which it asks where a prompt is to go."""
    _make_namespace(server, rendered("staging"))
    pool = shipped(_POOL)
    answer = server.apply(pool, dry_run=True)
    assert (answer.message, answer.warnings) == ("", ())
    del pool["spec"]["endpointPickerRef"]["port"]
    assert "port is required" in server.apply(pool, dry_run=True).message


def test_a_dry_run_leaves_nothing(server: ApiServer) -> None:
    """What was only tried is not there: the next overlay meets an empty namespace."""
    manifests = rendered("staging")
    _answers(server, manifests)
    tried = one(manifests, "ServiceAccount", "tool")
    assert server.apply(tried, dry_run=True).status == 201


def test_an_api_that_is_to_end_is_warned_of(server: ApiServer) -> None:
    """The test above sees warnings where there are some."""
    endpoints = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "tool", "namespace": "agentmesh"},
    }
    _make_namespace(server, rendered("staging"))
    (warning,) = server.apply(endpoints, dry_run=True).warnings
    assert warning.startswith("v1 Endpoints is deprecated")


def _spec(manifest: Manifest) -> Any:
    return manifest["spec"]


_PLANTED: Final[tuple[tuple[str, str, Callable[[Manifest], object], str], ...]] = (
    (
        "Deployment",
        "tool",
        lambda m: _spec(m).update(replica=2),
        ".spec.replica: field not declared in schema",
    ),
    (
        "Service",
        "tool",
        lambda m: _spec(m)["ports"][0].update(port=91000),
        "spec.ports[0].port: Invalid value: 91000",
    ),
    (
        "VirtualService",
        "tool",
        lambda m: _spec(m)["http"][0]["retries"].update(attempt=1),
        ".spec.http[0].retries.attempt: field not declared in schema",
    ),
    (
        "AuthorizationPolicy",
        "keys",
        lambda m: _spec(m).update(selector={"matchLabels": {"app": "tool"}}),
        "only one of targetRefs or selector can be set",
    ),
    (
        "PeerAuthentication",
        "nats",
        lambda m: _spec(m).pop("selector"),
        "portLevelMtls requires selector",
    ),
    (
        "Cluster",
        "postgres",
        lambda m: _spec(m).update(imageName="postgresql:16"),
        "imageName and imageCatalogRef are mutually exclusive",
    ),
    (
        "Gateway",
        "gateway",
        lambda m: _spec(m)["listeners"][0]["tls"].update(mode="Passthrough"),
        "tls mode must be Terminate for protocol HTTPS",
    ),
)


@pytest.mark.parametrize(("kind", "name", "plant", "wrong"), _PLANTED)
def test_what_is_wrong_is_refused(
    server: ApiServer, kind: str, name: str, plant: Callable[[Manifest], object], wrong: str
) -> None:
    """Misspelled fields, numbers out of range, and what only a rule in CEL forbids."""
    manifests = rendered("production")
    planted = one(manifests, kind, name)
    _make_namespace(server, manifests)
    plant(planted)
    answer = server.apply(planted, dry_run=True)
    assert wrong in answer.message
    assert answer.status >= 400
