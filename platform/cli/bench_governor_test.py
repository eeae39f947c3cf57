"""`agentmesh bench governor`: what it refuses, and how it shows a report. None needs a mesh."""

import io

import pytest
from click.testing import CliRunner

from bench.governor.run import Asked, Load, Report
from cli import bench_governor_calls
from cli.app import app
from cli.terminal import Terminal

_REPORT = Report(
    load=Load(rate=500.0, seconds=20.0, warm_up_seconds=3.0, seed=1),
    by_itself=Asked(
        admit_ms={"p50": 1.9, "p90": 3.1, "p99": 6.25, "p99.9": 12.0},
        calls=10_000,
        errors={},
        cpu_us_per_call={"governor": 717.4, "redis": 172.0},
        hops_ms={
            "in the gateway and behind it": {"p50": 1.0, "p90": 1.0, "p99": 2.0, "p99.9": 6.0}
        },
    ),
    streamed=Asked(
        admit_ms={"p50": 1.2, "p90": 1.9, "p99": 2.75, "p99.9": 8.0},
        calls=9_998,
        errors={"REFUSED": 2},
        cpu_us_per_call={"governor": 302.0},
    ),
    leased_us={"p50": 3.1, "p90": 3.6, "p99": 51.0, "p99.9": 90.0},
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
    assert "Admit, ms 1.90 3.10 6.25 12.00 p99 < 3" in lines
    assert "in the gateway and behind it 1.00 1.00 2.00 6.00" in lines
    assert "Admit on streams, ms 1.20 1.90 2.75 8.00 p99 < 3" in lines
    assert "under a lease, µs 3.1 3.6 51.0 90.0 p99 < 50" in lines
    assert [line for line in lines if "misses" in line] == [
        "Admit misses its bound: 99 of 100 took up to 6.25 ms, and it is under 3 ms.",
        "An admission under a lease misses its bound: 99 of 100 took up to 51.00 µs, and it is"
        " under 50 µs.",
    ]
    assert "Admit: CPU µs for an admission, settled with others: governor 717, redis 172" in lines
    assert "Of 9,998 calls some failed: 2 REFUSED" in lines


def test_a_report_for_scripts_says_which_bounds_are_kept() -> None:
    """A bound is kept by its 99th percentile; a run is good where no call failed."""
    values = _REPORT.to_json()
    assert values["kept"] == {"by_itself": False, "streamed": True, "leased": False}
    assert not values["good"]
    assert values["streamed"]["admit_ms"]["p99"] == 2.75
