"""A bill of materials names each package by version, hash and licence."""

import json
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from images import bill
from images.wheels import Wheel

_WHEELS = {
    each: Wheel(each, "1.0", f"{each}-1.0-py3-none-any.whl", digest * 64)
    for each, digest in (("one", "1"), ("two-2", "2"))
}


def _metadata(folder: Path, name: str, *lines: str, version: str = "1.0") -> Path:
    file = folder / f"{name}.metadata"
    file.write_text("\n".join([f"Name: {name}", f"Version: {version}", *lines, "", "Words."]))
    return file


def test_a_bill_has_what_scanners_look_for(tmp_path: Path) -> None:
    """Valid by CycloneDX's own schema, with a component for each package."""
    files = [_metadata(tmp_path, "one", "License-Expression: MIT"), _metadata(tmp_path, "Two_2")]
    text = bill.write("agentmesh/tool", "0.1.0", _WHEELS, files)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = json.loads(text)
    assert found["metadata"]["component"] == {
        "bom-ref": "agentmesh/tool@0.1.0",
        "name": "agentmesh/tool",
        "type": "container",
        "version": "0.1.0",
    }
    assert [each["purl"] for each in found["components"]] == [
        "pkg:pypi/one@1.0",
        "pkg:pypi/two-2@1.0",
    ]
    assert found["components"][0]["hashes"] == [{"alg": "SHA-256", "content": "1" * 64}]
    assert text == bill.write("agentmesh/tool", "0.1.0", _WHEELS, files[::-1])


@pytest.mark.parametrize(
    ("lines", "licences"),
    [
        (["License-Expression: Apache-2.0 OR MIT"], [{"expression": "Apache-2.0 OR MIT"}]),
        (["License: MIT"], [{"license": {"id": "MIT"}}]),
        (["License: Our own words"], [{"license": {"name": "Our own words"}}]),
        (
            [
                "License: " + "Whole text. " * 9,
                "Classifier: License :: OSI Approved :: BSD License",
            ],
            [{"license": {"name": "BSD License"}}],
        ),
        (["Classifier: Programming Language :: Python"], None),
    ],
)
def test_licences_are_as_the_wheel_says(
    lines: list[str], licences: list[object] | None, tmp_path: Path
) -> None:
    """By an expression, a name, or classifiers; none are invented."""
    text = bill.write("x", "1", _WHEELS, [_metadata(tmp_path, "one", *lines)])
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    (component,) = json.loads(text)["components"]
    if licences is None:
        assert "licenses" not in component
        return
    for each in component["licenses"]:
        # Whether it is the wheel's own word or a scanner's.
        each.get("license", each).pop("acknowledgement", None)
    assert component["licenses"] == licences


def test_what_the_lock_does_not_know_is_refused(tmp_path: Path) -> None:
    """Another package, or another version of one."""
    with pytest.raises(KeyError, match="three"):
        bill.write("x", "1", _WHEELS, [_metadata(tmp_path, "three")])
    with pytest.raises(KeyError, match=r"one is 2\.0 here and 1\.0 there"):
        bill.write("x", "1", _WHEELS, [_metadata(tmp_path, "one", version="2.0")])
