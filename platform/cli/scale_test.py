"""Tests of `agentmesh scale` where there is nothing to scale."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.app import app


def _run(folder: Path, *arguments: str) -> Result:
    line = ["scale", *arguments, "--data-dir", str(folder)]
    return CliRunner().invoke(app, line, prog_name="agentmesh")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["tool"], "'tool' is no PART=COUNT, such as reasoning=3."),
        (["tool=two"], "'tool=two' is no PART=COUNT, such as reasoning=3."),
        (["=2"], "'=2' is no PART=COUNT, such as reasoning=3."),
        (["tool=2", "tool=3"], "tool stands there twice."),
        ([], "Missing argument 'PART=COUNT...'."),
        (["--forget", "tool=2"], "--forget takes no PART=COUNT."),
    ],
)
def test_what_is_no_count_is_refused(tmp_path: Path, arguments: list[str], text: str) -> None:
    """As wrong usage, before any mesh is asked."""
    result = _run(tmp_path, *arguments)
    assert result.exit_code == 2
    assert text in result.output


def test_without_a_mesh_there_is_nothing_to_scale(tmp_path: Path) -> None:
    """It is said how to start one."""
    result = _run(tmp_path, "tool=2")
    assert result.exit_code == 1
    assert f"No mesh runs with data directory {tmp_path}." in result.output


@pytest.mark.parametrize("content", ['{"tool": 2}', "damaged"])
def test_what_was_asked_for_can_be_forgotten(tmp_path: Path, content: str) -> None:
    """Also without a mesh that runs, and where it is damaged."""
    file = tmp_path / "scale.json"
    file.write_text(content)
    for _ in range(2):
        result = _run(tmp_path, "--forget")
        assert (result.exit_code, result.stdout) == (
            0,
            "The next `agentmesh up` starts one process of each part.\n",
        )
        assert not file.exists()
    file.write_text(content)
    assert json.loads(_run(tmp_path, "--forget", "--json").stdout) == {"forgotten": True}
    assert json.loads(_run(tmp_path, "--forget", "--json").stdout) == {"forgotten": False}
