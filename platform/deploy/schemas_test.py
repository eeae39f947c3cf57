"""Every manifest is one that a cluster would take."""

import os
from pathlib import Path
from typing import Any

import pytest

from deploy.overlays import NAMES, one, rendered, shipped
from deploy.schemas import Schemas

_FILES = [Path(each) for each in os.environ.get("KUBERNETES_SCHEMAS", "").split()]
# In no overlay of ours: a component for clusters that have the extension.
_POOL = "mesh/kubernetes/components/inference-pool/inference-pool.yaml"


@pytest.fixture(name="schemas", scope="module")
def _schemas() -> Schemas:
    return Schemas(each for each in _FILES if each.suffix == ".yaml")


def _need_definitions() -> None:
    if not _FILES or any(each.name == "missing.txt" for each in _FILES):
        pytest.skip("Definitions of custom resources are missing: they come with Go modules.")


@pytest.mark.parametrize("name", NAMES)
def test_every_manifest_fits_its_schema(schemas: Schemas, name: str) -> None:
    """Those of Kubernetes itself, and of what is installed beside it."""
    faults = [fault for each in rendered(name) for fault in schemas.faults(each)]
    assert faults == []


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_is_known(schemas: Schemas, name: str) -> None:
    """So that none is passed over."""
    _need_definitions()
    assert {each["kind"] for each in rendered(name) if not schemas.knows(each)} == set()


def test_the_pool_of_inference_fits_its_schema(schemas: Schemas) -> None:
    """A field that there is not is found in it, too."""
    pool = shipped(_POOL)
    if not schemas.knows(pool):
        _need_definitions()
    assert schemas.faults(pool) == []
    pool["spec"]["targetPort"] = 8001
    (fault,) = schemas.faults(pool)
    assert fault.startswith("InferencePool triton: spec: Additional properties are not allowed")


def test_every_kind_of_kubernetes_itself_is_known(schemas: Schemas) -> None:
    """Without the definitions of custom resources, too."""
    own = [each for each in rendered("production") if "." not in each["apiVersion"].split("/")[0]]
    assert len(own) > 50
    assert [each["kind"] for each in own if not schemas.knows(each)] == []


@pytest.mark.parametrize(
    ("kind", "name", "path", "value", "wrong"),
    [
        ("Deployment", "tool", "spec.replica", 2, "spec: Additional properties are not allowed"),
        (
            "Deployment",
            "tool",
            "spec.template.spec.containers",
            {},
            "spec.template.spec.containers",
        ),
        ("NetworkPolicy", "tool", "spec.policyTypes", "Ingress", "spec.policyTypes"),
        ("VirtualService", "tool", "spec.http.0.retries.attempt", 1, "spec.http.0.retries"),
        (
            "VirtualService",
            "tool",
            "spec.http.0.retries.attempts",
            "no",
            "spec.http.0.retries.attempts",
        ),
        ("AuthorizationPolicy", "keys", "spec.action", "MAYBE", "spec.action"),
        ("GRPCRoute", "tool", "spec.rules.0.retry", {}, "spec.rules.0"),
        (
            "DestinationRule",
            "tool",
            "spec.trafficPolicy.outlierDetections",
            {},
            "spec.trafficPolicy",
        ),
        ("ScaledObject", "executor", "spec.triggers.0.metadata", [], "spec.triggers.0.metadata"),
        ("Rollout", "coordinator", "spec.strategy.canary.step", [], "spec.strategy.canary"),
        ("Cluster", "postgres", "spec.postgresql.synchronous.number", "1", "spec.postgresql"),
    ],
)
def test_what_does_not_fit_is_found(
    schemas: Schemas, kind: str, name: str, path: str, value: Any, wrong: str
) -> None:
    """A misspelled field, a wrong type: where it is, and what is wrong."""
    manifest = one(rendered("production"), kind, name)
    if not schemas.knows(manifest):
        _need_definitions()
    at: Any = manifest
    *way, last = path.split(".")
    for step in way:
        at = at[int(step) if isinstance(at, list) else step]
    at[last] = value
    (fault,) = schemas.faults(manifest)
    assert fault.startswith(f"{kind} {name}: {wrong}")
