"""The folders that are installed, rendered, for tests."""

import copy
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.render import Manifest, render
from tier.binaries import repository_root

FOLDER: Final = Path("mesh/kubernetes/overlays")
NAMES: Final = ("staging", "production", "production-large", "production-ambient")


def rendered(name: str) -> list[Manifest]:
    """What is installed, for each caller to change as it likes."""
    return copy.deepcopy(_once(name))


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """Those of one kind."""
    return [each for each in manifests if each["kind"] == kind]


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The only one of that kind and name; generated names are known by their beginning."""
    (found,) = [
        each
        for each in of_kind(manifests, kind)
        if each["metadata"]["name"] == name
        or (kind == "ConfigMap" and each["metadata"]["name"].startswith(f"{name}-"))
    ]
    return found


def shipped(path: str) -> Any:
    """A YAML file of the repository."""
    return yaml.safe_load((repository_root() / path).read_text("utf-8"))


@cache
def _once(name: str) -> list[Manifest]:
    return render(repository_root() / FOLDER / name)
