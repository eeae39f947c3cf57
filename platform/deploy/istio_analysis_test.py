"""Istio's own analysis finds nothing wrong with the files, and finds what is planted.

What it says of services and pods it says of a cluster alone: see istio_cluster_test.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.istioctl import Finding, Istioctl
from deploy.overlays import NAMES, one, rendered, shipped
from deploy.render import Manifest
from meshtest.child_server import binary

# What it says that is as it should be: code and origin, with the reason.
_EXPLAINED: Final = {
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


def _found(manifests: list[Manifest], folder: Path) -> list[Finding]:
    istioctl = Istioctl(binary("ISTIOCTL"), folder)
    return istioctl.findings_in_files(manifests, shipped("mesh/istio/istiod-values.yaml"))


@pytest.fixture(name="found", scope="module")
def _found_by_overlay(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Finding]]:
    return {name: _found(rendered(name), tmp_path_factory.mktemp(name)) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_installed_is_as_istio_wants_it(found: dict[str, list[Finding]], name: str) -> None:
    """No error, no warning, no remark, but for those that are explained."""
    assert [each for each in found[name] if (each.code, each.origin) not in _EXPLAINED] == []


def test_every_explanation_is_still_needed(found: dict[str, list[Finding]]) -> None:
    """None stays behind when what it is about is gone."""
    all_found = {(each.code, each.origin) for overlay in found.values() for each in overlay}
    assert _EXPLAINED.keys() - all_found == set()


def _spec(manifests: list[Manifest], kind: str, name: str) -> Any:
    return one(manifests, kind, name)["spec"]


_PLANTED: Final[tuple[tuple[str, Callable[[list[Manifest]], object], str, str], ...]] = (
    (
        "a number of retries that cannot be",
        lambda m: _spec(m, "VirtualService", "tool")["http"][1]["retries"].update(attempts=-1),
        "IST0106",
        "VirtualService agentmesh/tool",
    ),
    (
        "a route to instances that no rule tells apart",
        lambda m: _spec(m, "VirtualService", "tool")["http"][1]["route"][0]["destination"].update(
            subset="gone"
        ),
        "IST0101",
        "VirtualService agentmesh/tool",
    ),
    (
        "a filter whose place is left to chance",
        lambda m: _spec(m, "EnvoyFilter", "entrance").pop("priority"),
        "IST0151",
        "EnvoyFilter agentmesh/entrance",
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
        "a log that nobody provides",
        lambda m: _spec(m, "Telemetry", "agentmesh")["accessLogging"][0].update(providers=[]),
        "IST0157",
        "Telemetry agentmesh/agentmesh",
    ),
)


@pytest.mark.parametrize(
    ("plant", "code", "origin"),
    [each[1:] for each in _PLANTED],
    ids=[each[0] for each in _PLANTED],
)
def test_what_is_wrong_is_found(
    plant: Callable[[list[Manifest]], object], code: str, origin: str, tmp_path: Path
) -> None:
    """One thing is changed for the worse, and that is what is found."""
    manifests = rendered("production")
    plant(manifests)
    found = _found(manifests, tmp_path)
    assert {(each.code, each.origin) for each in found} - _EXPLAINED.keys() == {(code, origin)}
