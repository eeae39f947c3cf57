"""Images hold what their services need, and nothing else; bills and statements tell the truth."""

import json
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from images import provenance, rules
from images.assembled import SERVICES, bill, content, distributions, headers, layers, outputs
from images.layer import USER
from tier.version import VERSION

_LOCK = Path(provenance.LOCK)
# In MiB, unpacked and without the base image. What makes one larger is to be noticed.
_BUDGETS = {
    "coordinator": 125,
    "executor": 75,
    "governor": 300,
    "memory": 150,
    "reasoning": 420,
    "tool": 80,
}
_MIB = 1 << 20


def test_every_service_has_an_image() -> None:
    """And there is nothing that belongs to none."""
    made = {"packages.tar"}
    for each in SERVICES:
        made |= {f"{each}-packages.tar", f"{each}.tar"}
        made |= {f"{each}.cdx.json", f"{each}.provenance.json"}
    assert set(outputs()) == made


@pytest.mark.parametrize(
    "layer",
    ["packages.tar", *(f"{each}{kind}.tar" for each in SERVICES for kind in ("-packages", ""))],
)
def test_layers_keep_the_rules(layer: str) -> None:
    """Whose files are, who may do what with them, and what is not among them."""
    found = [each for member in rules.members(outputs()[layer]) for each in rules.findings(member)]
    assert found == []


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_has_what_its_service_needs(service: str) -> None:
    """The service's main and one folder to write to; of other services no main."""
    inside = {each.name: each for layer in layers(service) for each in headers(layer)}
    mains = {path for path in inside if path.startswith("app/services/") and "main.py" in path}
    assert mains == {f"app/services/{service}/main.py"}
    own = inside["var/lib/agentmesh"]
    assert (own.uid, own.gid, own.mode) == (USER, USER, 0o700)
    assert {path for path, info in inside.items() if info.uid} == {"var/lib/agentmesh"}


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_keeps_its_budget(service: str) -> None:
    """Neither much larger than stated, nor so much smaller that the statement means nothing."""
    size = sum(each.size for layer in layers(service) for each in headers(layer)) / _MIB
    assert 0.7 * _BUDGETS[service] < size <= _BUDGETS[service]


@pytest.mark.parametrize("service", SERVICES)
def test_a_bill_is_of_its_image(service: str) -> None:
    """Valid, and with exactly the packages that are there; the image holds the same bill."""
    file = outputs()[f"{service}.cdx.json"]
    text = file.read_text("utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = bill(service)
    assert found["metadata"]["component"]["name"] == f"agentmesh/{service}"
    assert found["metadata"]["component"]["version"] == VERSION
    listed = {each["name"]: each["version"] for each in found["components"]}
    there = {k: v for layer in layers(service) for k, v in distributions(layer).items()}
    assert listed == there
    assert "grpcio" in there
    assert content(layers(service)[-1], "app/bill.cdx.json") == text.encode()


@pytest.mark.parametrize("service", SERVICES)
def test_packages_are_those_of_the_lock(service: str) -> None:
    """Each by a hash that the lock allows for that version, with a licence."""
    lock = _LOCK.read_text("utf-8")
    for each in bill(service)["components"]:
        start = lock.index(f"\n{each['name']}=={each['version']} ")
        (found,) = each["hashes"]
        assert f"--hash=sha256:{found['content']}" in lock[start : lock.index("# via", start)]


def test_every_package_says_its_licence() -> None:
    """One that does not is to be looked at before it is shipped."""
    silent = {
        each["name"]
        for service in SERVICES
        for each in bill(service)["components"]
        if not each.get("licenses")
    }
    assert silent == set()


@pytest.mark.parametrize("service", SERVICES)
def test_a_statement_is_about_what_was_made(service: str) -> None:
    """Layers and bill by their digests; from this lock, and the packages of the bill."""
    found = json.loads(outputs()[f"{service}.provenance.json"].read_text("utf-8"))
    about = {each["name"]: each["digest"]["sha256"] for each in found["subject"]}
    made = [*layers(service), outputs()[f"{service}.cdx.json"]]
    assert about == {each.name: provenance.digest(each) for each in made}
    materials = found["predicate"]["buildDefinition"]["resolvedDependencies"]
    by_name = {each["name"]: each["digest"] for each in materials}
    assert by_name[provenance.LOCK] == {"sha256": provenance.digest(_LOCK)}
    packages = {each["uri"] for each in materials if "uri" in each}
    assert packages == {each["purl"] for each in bill(service)["components"]}


def test_the_lowest_layer_is_everybodys() -> None:
    """It holds what all need, so no other layer holds it again."""
    shared = distributions(outputs()["packages.tar"])
    assert {"grpcio", "nats-py", "protobuf", "pydantic"} <= shared.keys()
    for each in SERVICES:
        own = distributions(outputs()[f"{each}-packages.tar"])
        assert not own.keys() & shared.keys()
    for each in SERVICES:
        assert shared.keys() <= {part["name"] for part in bill(each)["components"]}
