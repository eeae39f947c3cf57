"""`agentmesh bench peers`: what it prints, and how it exits."""

import io
import json
import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bench.peers.catalogue import catalogue
from bench.peers.closed_loop import Load
from bench.peers.comparison import ratios, summary
from bench.peers.packages import Packages
from bench.peers.peer import Figures
from bench.peers.rounds import Outcome
from cli.app import app
from cli.bench_peers_view import document, show
from cli.commands.bench_peers import peers
from cli.terminal import Terminal

_LOAD = Load(in_flight=64, warm_up_seconds=5, seconds=10)
_OUTCOMES = [
    Outcome(
        "agentmesh",
        "Agentmesh",
        "tier staging",
        [
            Figures(20_000, 150, 400, {"executor": 2.0, "client": 0.5}),
            Figures(30_000, 100, 300, {"executor": 2.2, "client": 0.5}),
        ],
    ),
    Outcome(
        "celery", "Celery", "two workers", [Figures(10_000, 300, 450, {"workers": 5.0})], "gone"
    ),
    Outcome("restate", "Restate", "", [], "no registry reached"),
]


def _shown() -> str:
    measured = [summary(each) for each in _OUTCOMES if each.figures]
    out = io.StringIO()
    terminal = Terminal(as_json=False, out=out, err=io.StringIO())
    show(terminal, _LOAD, _OUTCOMES, measured, ratios(measured[:1], measured[1:]))
    return out.getvalue()


def test_systems_are_compared_in_tables() -> None:
    """Medians with their ranges, ratios, how each was set, and who was left out."""
    assert _shown() == (
        "Three recorded steps a task, 64 in flight, 10 s a round after 5 s of warm-up; medians "
        "(least to most)\n"
        "\n"
        "SYSTEM                     TASKS/MIN          CPU MS/TASK  P50 MS  P99 MS  CPU BY PART\n"
        "Agentmesh  25,000 (20,000 to 30,000)  2.60 (2.50 to 2.70)     125     350  "
        "executor 2.10, client 0.50\n"
        "Celery     10,000 (10,000 to 10,000)  5.00 (5.00 to 5.00)     300     450  workers 5.00\n"
        "\n"
        "COMPARED            TIMES THE TASKS  TIMES THE CPU  TIMES THE P99\n"
        "Agentmesh / Celery             2.50           0.52           0.78\n"
        "\n"
        "How each was set:\n"
        "Agentmesh  tier staging\n"
        "Celery     two workers\n"
        "Celery was left out after 1 round: gone\n"
        "Restate was left out: no registry reached\n"
    )


def test_systems_are_compared_in_json() -> None:
    """With the same figures, for a script."""
    measured = [summary(each) for each in _OUTCOMES if each.figures]
    made = document(_LOAD, _OUTCOMES, measured, ratios(measured[:1], measured[1:]))
    assert made["systems"][0]["tasks_per_minute"] == {
        "median": 25_000,
        "min": 20_000,
        "max": 30_000,
    }
    assert made["systems"][0]["cpu_ms_by_part"] == {"executor": 2.1, "client": 0.5}
    assert [(each["name"], each["peer"]) for each in made["ratios"]] == [("agentmesh", "celery")]
    assert made["left_out"] == [
        {"name": "celery", "reason": "gone", "rounds": 1},
        {"name": "restate", "reason": "no registry reached", "rounds": 0},
    ]


def test_every_system_can_be_named(tmp_path: Path) -> None:
    """The options know those that there are, in their order."""
    systems = catalogue(Packages(tmp_path, {}, lambda text: None), {})
    for option in ("only", "skip"):
        (found,) = [each for each in peers.params if each.name == option]
        assert isinstance(found.type, click.Choice)
        assert list(found.type.choices) == [each.name for each in systems]


def test_a_system_that_cannot_be_installed_ends_in_one_line_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says which, that no registry was reached, and how to do without it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    result = CliRunner().invoke(
        app, ["bench", "peers", "--only", "dbos", "--rounds", "1", "--json"], prog_name="agentmesh"
    )
    assert result.exit_code == 1, result.output
    answer = json.loads(result.stdout)
    assert answer["systems"] == []
    (left_out,) = answer["left_out"]
    assert left_out["name"] == "dbos"
    assert left_out["reason"].startswith("Failed to install dbos: no registry reached that has it")
    assert left_out["reason"].endswith(" Let pip and npm reach one, or leave it out with --skip.")
    assert "\n" not in left_out["reason"]


def test_nothing_to_measure_is_wrong_usage() -> None:
    """Rather than an empty table."""
    given = ["bench", "peers", "--only", "dbos", "--skip", "dbos"]
    result = CliRunner().invoke(app, given, prog_name="agentmesh")
    assert result.exit_code == 2
    assert result.stderr == "error: Nothing is left to measure. Say less with --skip.\n"
