"""The Dockerfile keeps our rules, and each rule finds what breaks it."""

from pathlib import Path

import pytest

from images import dockerfile
from tier.parts import PARTS

_SERVICES = [each.name for each in PARTS]
_SHIPPED = Path("mesh/images/Dockerfile").read_text("utf-8")


def test_the_shipped_one_keeps_the_rules() -> None:
    """A target for each service."""
    assert list(dockerfile.findings(_SHIPPED, _SERVICES)) == []


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        (
            "${BASE}@sha256:${BASE_DIGEST} AS",
            "${BASE} AS",
            "packages: ${BASE} is no image by digest",
        ),
        (
            "${BASE}@sha256:${BASE_DIGEST} AS",
            "python:3.11-slim AS",
            "packages: python:3.11-slim is no image by digest",
        ),
        (
            "ARG BASE\n",
            "ARG BASE=python\n",
            "ARG BASE=python: before the stages only the base image is named, and nothing for it",
        ),
        (
            "ADD tool.tar /",
            "ADD https://example.com/tool.tar /",
            "tool: adds https://example.com/tool.tar /, which is no layer of ours",
        ),
        ("ADD tool.tar /", "COPY . /app", "tool: has COPY, which no image of ours needs"),
        ("ADD tool-packages.tar /\n", "", "tool: its layers are packages.tar, tool.tar"),
        (
            '"services.tool.main", "--help"]',
            '"pip", "install", "x"]',
            "tool: runs something else while it is built than to see that it is whole",
        ),
        (
            'ENTRYPOINT ["python3", "-P", "-S", "-m", "services.tool.main"]',
            'ENTRYPOINT ["sh"]',
            "tool: starts sh",
        ),
        ("AS tool\n", "AS tools\n", "tool: there is no such target"),
    ],
)
def test_what_breaks_a_rule_is_found(old: str, new: str, finding: str) -> None:
    """One thing is changed for the worse, and that is what is found."""
    assert old in _SHIPPED
    assert finding in list(dockerfile.findings(_SHIPPED.replace(old, new), _SERVICES))


@pytest.mark.parametrize("user", ["root", "0:0"])
def test_nothing_runs_as_root(user: str) -> None:
    """Every target is found that would."""
    text = _SHIPPED.replace("USER 65532:65532", f"USER {user}")
    assert list(dockerfile.findings(text, _SERVICES)) == [
        f"{each}: runs as {user}" for each in _SERVICES
    ]
