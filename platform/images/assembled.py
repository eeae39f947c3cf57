"""The images as a container engine would put them together, for tests."""

import json
import os
import subprocess
import tarfile
from collections.abc import Sequence
from email.parser import HeaderParser
from functools import cache
from pathlib import Path
from typing import Any, Final

from images import dockerfile
from images.dockerfile import Target
from images.wheels import normalize
from tier.parts import PARTS

SERVICES: Final = tuple(each.name for each in PARTS)
_DOCKERFILE: Final = Path("mesh/images/Dockerfile")


@cache
def outputs() -> dict[str, Path]:
    """What the build has made of the images, by the names of the files."""
    paths = [Path(each) for each in os.environ["IMAGES"].split()]
    return {each.name: each for each in paths}


def target(service: str) -> Target:
    """The image of a service, as the Dockerfile says."""
    _, stages = dockerfile.parse(_DOCKERFILE.read_text("utf-8"))
    return dockerfile.target(stages, service)


def layers(service: str) -> Sequence[Path]:
    """Its layers, the lowest first."""
    return [outputs()[each] for each in target(service).layers]


def bill(service: str) -> Any:
    """Its bill of materials."""
    return json.loads(outputs()[f"{service}.cdx.json"].read_text("utf-8"))


@cache
def headers(layer: Path) -> Sequence[tarfile.TarInfo]:
    """What is in a layer, by name, owner and size."""
    with tarfile.open(layer) as tar:
        return tar.getmembers()


def content(layer: Path, name: str) -> bytes:
    """One file of a layer."""
    with tarfile.open(layer) as tar:
        found = tar.extractfile(name)
        assert found
        return found.read()


@cache
def distributions(layer: Path) -> dict[str, str]:
    """The version of each distribution in a layer, by its normalised name."""
    found: dict[str, str] = {}
    with tarfile.open(layer) as tar:
        for each in tar:
            if each.name.endswith(".dist-info/METADATA"):
                content = tar.extractfile(each)
                assert content
                metadata = HeaderParser().parsestr(content.read().decode("utf-8", "replace"))
                found[normalize(metadata["Name"])] = metadata["Version"]
    return found


def unpack(service: str, root: Path, shared: Path | None = None) -> None:
    """Makes its root file system. `shared`: where the lowest layer was unpacked before."""
    for layer in layers(service):
        if shared and layer.name == "packages.tar":
            _link(shared, root)
            continue
        _extract(layer, root)


def unpack_layer(name: str, root: Path) -> None:
    """One of the layers by itself."""
    _extract(outputs()[name], root)


def _extract(layer: Path, root: Path) -> None:
    """By the machine's tar, which takes a tenth of the time that Python's takes."""
    root.mkdir(parents=True, exist_ok=True)
    command = ["tar", "--extract", "--no-same-owner", "--no-same-permissions"]
    subprocess.run([*command, f"--file={layer}", f"--directory={root}"], check=True)


def _link(source: Path, target: Path) -> None:
    """A second tree of the same files, which costs no copies."""
    for folder, _, files in os.walk(source):
        made = target / Path(folder).relative_to(source)
        made.mkdir(exist_ok=True)
        for each in files:
            os.link(Path(folder) / each, made / each)
