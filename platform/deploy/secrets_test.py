"""The page on installing names every secret that is referred to, with its keys, and no other."""

import re
from collections.abc import Iterator
from typing import Any, Final, cast

from deploy.overlays import NAMES, one, rendered
from tier.binaries import repository_root

_ROW: Final = re.compile(r"^ +\| `([a-z-]+)`[^|]*\| ([^|]+) \|", re.MULTILINE)
_WORD: Final = re.compile(r"`([^`]+)`")
_Keys = set[tuple[str, str]]


def _referred(value: Any) -> Iterator[tuple[str, str]]:
    """Secrets and their keys, in variables, volumes, listeners and triggers."""
    if isinstance(value, list):
        for each in cast(list[Any], value):
            yield from _referred(each)
    if not isinstance(value, dict):
        return
    for name, inner in cast(dict[str, Any], value).items():
        match name:
            case "secretKeyRef":
                yield inner["name"], inner["key"]
            case "secretTargetRef":
                yield from ((each["name"], each["key"]) for each in inner)
            case "certificateRefs":
                yield from ((each["name"], key) for each in inner for key in ("tls.crt", "tls.key"))
            case "secretName":
                yield inner, "*"
            case _:
                yield from _referred(inner)


def _listed() -> _Keys:
    page = (repository_root() / "docs/operations.md").read_text("utf-8")
    table = page[page.index("| secret | keys | for |") :].split("\n\n", 1)[0]
    return {(name, key) for name, keys in _ROW.findall(table) for key in _WORD.findall(keys)}


def test_the_page_lists_what_is_referred_to() -> None:
    """A gateway whose certificate nobody was told to make would turn away everybody."""
    referred = {found for name in NAMES for each in rendered(name) for found in _referred(each)}
    assert ("gateway-certificate", "tls.key") in referred
    assert referred == _listed()


def test_one_that_is_not_listed_is_seen() -> None:
    """In the gateway as in a variable."""
    gateway = one(rendered("production"), "Gateway", "gateway")
    gateway["spec"]["listeners"][0]["tls"]["certificateRefs"][0]["name"] = "gone"
    assert set(_referred(gateway)) - _listed() == {("gone", "tls.crt"), ("gone", "tls.key")}
    variable = {"env": [{"valueFrom": {"secretKeyRef": {"name": "qdrant", "key": "gone"}}}]}
    assert set(_referred(variable)) - _listed() == {("qdrant", "gone")}
