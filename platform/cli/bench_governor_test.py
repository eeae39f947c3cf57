"""`agentmesh bench governor`: what it refuses, and how it shows a report. None needs a mesh."""

import io

import pytest
from click.testing import CliRunner

from bench.governor.run import Load, Report
from cli import bench_governor_calls
from cli.app import app
from cli.terminal import Terminal

_REPORT = Report(
    load=Load(rate=500.0, seconds=20.0, warm_up_seconds=3.0, seed=1),
    admit_ms={"p50": 1.2, "p90": 1.9, "p99": 2.75, "p99.9": 8.0},
    leased_us={"p50": 3.1, "p90": 3.6, "p99": 51.0, "p99.9": 90.0},
    calls=10_000,
    errors={},
    cpu_us_per_call={"governor": 717.4, "redis": 172.0},
    hops_ms={"in the gateway and behind it": {"p50": 1.0, "p90": 1.0, "p99": 2.0, "p99.9": 6.0}},
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rate", "0"), "Invalid value for '--rate': 0.0 is not in the range 1<=x<=20000."),
        (
            ("--gateway", "127.0.0.1:1"),
            "A benchmark starts a mesh of its own: --gateway and --port name another.",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: tuple[str, ...], message: str) -> None:
    """With exit code 2."""
    result = CliRunner().invoke(app, ["bench", "governor", *arguments], prog_name="agentmesh")
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())


def test_a_report_shows_percentiles_beside_their_bounds() -> None:
    """A bound that was missed is told in words, and what each process spent on a call."""
    out = io.StringIO()
    bench_governor_calls.show(Terminal(as_json=False, out=out), _REPORT)
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert "Admit, ms 1.20 1.90 2.75 8.00 p99 < 3" in lines
    assert "in the gateway and behind it 1.00 1.00 2.00 6.00" in lines
    assert "under a lease, µs 3.1 3.6 51.0 90.0 p99 < 50" in lines
    assert (
        "An admission under a lease misses its bound: 99 of 100 took up to 51.00 µs, and it is"
        " under 50 µs."
    ) in lines
    assert not [line for line in lines if line.startswith("Admit misses")]
    assert "CPU µs for an admission, settled with others: governor 717, redis 172" in lines


def test_a_report_for_scripts_says_which_bounds_are_kept() -> None:
    """A bound is kept by its 99th percentile; a run is good where no call failed."""
    values = _REPORT.to_json()
    assert values["kept"] == {"admit": True, "leased": False}
    assert values["good"]
    assert values["admit_ms"]["p99"] == 2.75
