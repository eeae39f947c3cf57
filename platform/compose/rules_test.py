"""compose.yaml is what Compose takes, keeps our rules, and each rule finds what breaks it."""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from compose import rules
from tier.parts import PARTS
from tier.version import VERSION

_SHIPPED: Any = yaml.safe_load(Path("mesh/compose/compose.yaml").read_text("utf-8"))


def _validator() -> Any:
    for each in os.environ.get("KUBERNETES_SCHEMAS", "").split():
        if Path(each).name == "compose-spec.json":
            return Draft202012Validator(json.loads(Path(each).read_text("utf-8")))
    return pytest.skip("The schema of Compose is missing: it comes with its Go module.")


def test_it_fits_the_schema() -> None:
    """Of the Compose specification."""
    faults = [
        f"{'.'.join(map(str, each.absolute_path))}: {each.message}"
        for each in _validator().iter_errors(_SHIPPED)
    ]
    assert faults == []


def test_what_does_not_fit_is_found() -> None:
    """A word that Compose does not know."""
    broken = copy.deepcopy(_SHIPPED)
    broken["services"]["tool"]["readonly"] = True
    assert list(_validator().iter_errors(broken))


def test_it_keeps_the_rules() -> None:
    """All containers, ours and the stores'."""
    assert list(rules.findings(_SHIPPED)) == []


def test_it_runs_the_images_of_production() -> None:
    """Every service, in the version that is built here."""
    images = {each["image"] for each in _SHIPPED["services"].values()}
    ours = {each for each in images if each.startswith("agentmesh/")}
    assert ours == {f"agentmesh/{each.name}:{VERSION}" for each in PARTS}


_Service = dict[str, Any]
_PLANTED: list[tuple[Callable[[_Service], object], str]] = [
    (
        lambda s: s.update(image="agentmesh/tool:latest"),
        "the image agentmesh/tool:latest has neither a digest nor an exact version",
    ),
    (
        lambda s: s.update(image="agentmesh/tool"),
        "the image agentmesh/tool has neither a digest nor an exact version",
    ),
    (lambda s: s.pop("read_only"), "may write to its image's files"),
    (lambda s: s.update(user="0:0"), "does not run as who owns the files"),
    (lambda s: s.update(cap_add=["SYS_ADMIN"]), "keeps capabilities"),
    (lambda s: s.update(security_opt=[]), "may gain privileges"),
    (lambda s: s.pop("mem_limit"), "mem_limit is not set"),
    (lambda s: s.pop("healthcheck"), "has no health check"),
    (lambda s: s.pop("restart"), "stays away when it died"),
    (lambda s: s.pop("logging"), "fills the disk with its log"),
    (lambda s: s.pop("network_mode"), "has a network of its own, where others find it"),
    (lambda s: s.update(ports=["127.0.0.1:1:1"]), "publishes ports"),
    (
        lambda s: s["volumes"].append("/var/run/docker.sock:/var/run/docker.sock"),
        "sees /var/run/docker.sock:/var/run/docker.sock, which is not the mesh's",
    ),
    (lambda s: s.update(environment={"API_KEY": "x"}), "API_KEY has its value here"),
    (lambda s: s.update(configs=["none"]), "there is no none among the configs"),
    (
        lambda s: s.update(depends_on=["none"]),
        "waits for none, of which nobody can tell whether it works",
    ),
]


@pytest.mark.parametrize(("plant", "finding"), _PLANTED)
def test_what_breaks_a_rule_is_found(plant: Callable[[_Service], object], finding: str) -> None:
    """One thing is changed for the worse, and that is what is found."""
    broken = copy.deepcopy(_SHIPPED)
    # Of those that nobody waits for.
    plant(broken["services"]["gateway"] if finding == "has no health check" else _tool(broken))
    name = "gateway" if finding == "has no health check" else "tool"
    assert list(rules.findings(broken)) == [f"{name}: {finding}"]


def _tool(compose: Any) -> _Service:
    return compose["services"]["tool"]


def test_nothing_is_reached_from_other_machines() -> None:
    """Also not by the one that has the ports."""
    broken = copy.deepcopy(_SHIPPED)
    broken["services"]["network"]["ports"] = ["8443:8443"]
    assert list(rules.findings(broken)) == ["network: publishes 8443:8443 beyond this machine"]
