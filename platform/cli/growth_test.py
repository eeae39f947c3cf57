"""Tests for growth_calls.py: what is refused before the first mesh starts."""

import pytest
from click.testing import CliRunner

from cli.app import app


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--executors", "1,two"), "--executors must be numbers with commas between, not '1,two'."),
        (("--executors", "0"), "--executors must be numbers from 1 to 16, with commas between."),
        (("--partitions", "1,1000"), "--partitions must be numbers from 1 to 64, with commas"),
        (("--backlogs", "5"), "--backlogs must be 0 or from 1,000 to 10,000,000."),
        (
            ("--gateway", "127.0.0.1:1"),
            "A benchmark starts meshes of its own: --gateway and --port name another.",
        ),
    ],
)
def test_what_makes_no_grid_is_refused(arguments: tuple[str, ...], message: str) -> None:
    """With the option's name, and exit code 2."""
    result = CliRunner().invoke(app, ["bench", "growth", *arguments], prog_name="agentmesh")
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())
