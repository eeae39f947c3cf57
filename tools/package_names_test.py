"""Tests of the check of what is imported."""

from pathlib import Path

import pytest

from tools import package_names


@pytest.fixture(autouse=True)
def _tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("third_party/python", "platform/meshkit", "proto/agentmesh", "peers"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "third_party/python/requirements.in").write_text(
        "# Reasons\ngrpcio~=1.85\npsycopg[binary]~=3.3\npydantic-settings\n"
    )
    (tmp_path / "peers/requirements.in").write_text("celery==5\n")
    monkeypatch.chdir(tmp_path)


def test_what_no_requirement_names_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """By file, line and package; also where it is imported in a function."""
    Path("app.py").write_text("import os\n\ndef load():\n    import yaml.nodes\n\nimport celery\n")
    assert package_names.main(["app.py"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "app.py:6: celery is not in third_party/python/requirements.in",
        "app.py:4: pyyaml is not in third_party/python/requirements.in",
    ]


def test_what_is_named_or_ours_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """A module may be called otherwise than its package, and a folder may name more."""
    Path("peers/app.py").write_text(
        "import grpc.aio, psycopg, celery, sys\nfrom pydantic_settings import x\n"
        "from meshkit import clock\nfrom agentmesh.v1 import y\nfrom . import z\n"
    )
    assert package_names.main(["peers/app.py"]) == 0
    assert capsys.readouterr().out == ""
