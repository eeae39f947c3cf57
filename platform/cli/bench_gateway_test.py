"""`agentmesh bench gateway`: what it prints, and how it exits."""

import io
from collections.abc import Sequence
from dataclasses import replace

import click
from click.testing import CliRunner

from bench.gateway.report import report
from bench.gateway.rounds import Figures, Load, Outcome
from bench.gateway.run import systems
from cli.app import app
from cli.bench_gateway_view import show
from cli.commands.bench_gateway import gateway
from cli.terminal import Terminal

_LOAD = Load(rate=200, seconds=10, warm_up_seconds=2, in_flight=32, seed=1)
_DIRECT = Figures(0.2, 0.5, {}, 0.1, 0.3, 0.6, 9000, {}, one_core=True)
_OURS = replace(
    _DIRECT,
    p50_ms=1.7,
    p99_ms=9.2,
    calls_per_second=1100,
    cpu_ms={"gateway": 0.1, "nats": 0.001},
    busy_cpu_ms={"gateway": 0.8},
)


def _shown(*outcomes: Outcome) -> str:
    out = io.StringIO()
    terminal = Terminal(as_json=False, out=out, err=io.StringIO())
    show(terminal, report(_LOAD, list(outcomes)))
    return out.getvalue()


def test_figures_a_chart_and_what_is_promised_are_shown() -> None:
    """What misses its bound says so; processes that do next to nothing are not named."""
    shown = _shown(
        Outcome("upstream", "Upstream directly", "the stub", [_DIRECT]),
        Outcome("agentmesh", "Agentmesh", "tier staging", [_OURS]),
        Outcome("litellm", "LiteLLM proxy", "", [], "no registry reached"),
    )
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert lines[0] == (
        "200 calls a second for 10 s, then 32 at once on one core; medians (least to most)"
    )
    assert (
        "Agentmesh 1,250 (1,250 to 1,250) 1,100 (1,100 to 1,100) 0.80 (0.80 to 0.80)"
        " 0.10 (0.10 to 0.10) 1.70 (1.70 to 1.70) 9.2 (9.2 to 9.2) 0.10 0.30 gateway 0.10"
    ) in lines
    assert "ms added to a call, median at most 2 1.50 kept" in lines
    assert "ms added to the slowest of 100 calls at most 8 9.00 missed" in lines
    assert "Agentmesh ████████████████████████████████████████ 1,250.00" in lines
    assert lines[-1] == "LiteLLM proxy was left out: no registry reached"


def test_the_systems_are_those_that_can_be_left_out() -> None:
    """The option names all of them, without loading what they need."""
    (skip,) = (each for each in gateway.params if each.name == "skip")
    assert isinstance(skip.type, click.Choice)
    choices: Sequence[str] = skip.type.choices  # pyright: ignore[reportUnknownMemberType]
    assert list(choices) == [each.name for each in systems({}, lambda text: None)]


def test_without_a_system_there_is_nothing_to_measure() -> None:
    """Said at once, as wrong usage."""
    skipped = [f"--skip={each.name}" for each in systems({}, lambda text: None)]
    result = CliRunner().invoke(app, ["bench", "gateway", *skipped], prog_name="agentmesh")
    assert result.exit_code == 2
    assert "Nothing is left to measure." in result.stderr


def test_a_mesh_that_runs_is_not_measured() -> None:
    """A benchmark has a mesh of its own."""
    result = CliRunner().invoke(app, ["bench", "gateway", "--port", "8080"], prog_name="agentmesh")
    assert result.exit_code == 2
    assert "A benchmark starts a mesh of its own" in result.stderr
