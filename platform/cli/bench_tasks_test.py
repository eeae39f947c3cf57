"""`agentmesh bench tasks`: what it refuses, and how it shows a report. None needs a mesh."""

import io
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.tasks.load import Second
from bench.tasks.options import Options
from bench.tasks.plan import make_plan
from bench.tasks.report import Proof, Report, Round
from cli import bench_view
from cli.app import app
from cli.terminal import Terminal


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "0"], "error: --rate must be from 1 to 1,000,000, not 0."),
        (
            ["--rate", "5", "--trace", "t.jsonl"],
            "error: --trace cannot go with --rate: the trace says when tasks arrive.",
        ),
        (["--trace", "{}/gone"], "error: --trace {}/gone: No such file or directory."),
        (["--trace", "{}/bad"], "error: --trace {}/bad: line 2: is not JSON."),
        (
            ["--arrivals", "uniform"],
            "error: Invalid value for '--arrivals': 'uniform' is not one of 'constant', 'poisson',"
            " 'spike', 'trace'.",
        ),
        (["--seconds", "long"], "error: Invalid value for '--seconds': 'long' is not a valid"),
        (["--chart", "chart.png"], "error: --chart must name a file that ends in .svg,"),
        (["--chart", "{}/no/chart.svg"], "error: --chart: there is no folder {}/no."),
        (
            ["--port", "9080"],
            "error: A benchmark starts a mesh of its own: --gateway and --port name another.",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    """In one line, with exit code 2, before anything is started."""
    (tmp_path / "bad").write_text(
        '{"TIMESTAMP": "2023-11-16", "ContextTokens": 1, "GeneratedTokens": 1}\n?\n', "utf-8"
    )
    given = ["bench", "tasks", *(each.format(tmp_path) for each in arguments)]
    result = CliRunner().invoke(app, given, prog_name="agentmesh")
    assert result.exit_code == 2
    assert result.stderr.startswith(message.format(tmp_path))
    assert result.stdout == ""


def _round(name: str, tasks: int) -> Round:
    return Round(
        name=name,
        counted=True,
        seconds=10.0,
        tasks=tasks,
        latency_ms={50.0: 10.0, 90.0: 20.0, 99.0: 30.0, 99.9: 40.0},
        max_ms=50.0,
        cpu_ms={"executor-1": 1.5, "client": 0.5},
        cores=0.7,
        data_bytes=2_000.0,
        written_bytes=9_000.0,
    )


def _report(**changed: Any) -> Report:
    values: dict[str, Any] = {
        "plan": make_plan(Options(rounds=2)),
        "rounds": (_round("round 1", 1_000), _round("round 2", 3_000)),
        "submitted": 4_000,
        "accepted": 4_000,
        "errors": {},
        "deaths": (),
        "proof": Proof(clean=True, tasks={"SUCCEEDED": 4_000}, findings=(), seconds=2.0),
        "rss_bytes": {"executor-1": 70_000_000, "client": 60_000_000},
        "seconds": (Second(1, 2, 5.0, 10.0), Second(1, 4, 5.0, 20.0)),
    }
    return Report(**{**values, **changed})


def _shown(report: Report) -> list[str]:
    out = io.StringIO()
    bench_view.show(Terminal(as_json=False, out=out), report)
    return out.getvalue().splitlines()


def test_a_report_is_a_table_of_rounds_and_one_of_processes() -> None:
    """With the median and the range of the rounds, and the mesh's own part of the cost."""
    assert _shown(_report()) == [
        "Closed loop, 64 in flight: staging tier, 1 executor, stub latency 0 ms,"
        " lane standard, sync always",
        "",
        "ROUND    TASKS/MIN  P50 MS  P90 MS  P99 MS  P99.9 MS  MAX MS  CPU MS/TASK  CORES"
        "  DISK B/TASK",
        "round 1      6,000    10.0    20.0    30.0      40.0    50.0         2.00   0.70"
        "        2,000",
        "round 2     18,000    10.0    20.0    30.0      40.0    50.0         2.00   0.70"
        "        2,000",
        "median      12,000    10.0    20.0    30.0      40.0    50.0         2.00   0.70"
        "        2,000",
        "least        6,000    10.0    20.0    30.0      40.0    50.0         2.00   0.70"
        "        2,000",
        "most        18,000    10.0    20.0    30.0      40.0    50.0         2.00   0.70"
        "        2,000",
        "",
        "PROCESS             CPU MS/TASK  SHARE  MEMORY MB",
        "executor-1                1.500    75%         70",
        "client                    0.500    25%         60",
        "without the client        1.500    75%         70",
        "",
        "tasks a second  ▅█ up to 4",
        "p50 ms          ██ up to 5",
        "p99 ms          ▅█ up to 20",
        "",
        "The audit found nothing: 4,000 SUCCEEDED (2.0 s).",
    ]


def test_a_backlog_is_compared_with_a_short_queue() -> None:
    """Rates, cost and pages with either; memory also with none."""
    short = {
        "queued": 10_000,
        "submitted_per_minute": 20_000.0,
        "dispatched_per_minute": 30_000.0,
        "dispatch_cpu_ms_per_task": 1.5,
        "rss_mb": {"coordinator": 91.0},
        "list_page_ms": {"first": 3.25, "of_1000": 40.0},
    }
    long = {**short, "queued": 1_000_000, "rss_mb": {"coordinator": 95.5}}
    extra = {"backlog": {"empty_rss_mb": {"coordinator": 90.0}, "short": short, "long": long}}
    plan = make_plan(Options(backlog=1_000_000))
    assert _shown(_report(plan=plan, rounds=(), extra=extra))[1:-1] == [
        "",
        "                               EMPTY  SHORT QUEUE    BACKLOG",
        "queued                             -       10,000  1,000,000",
        "submitted a minute                 -       20,000     20,000",
        "dispatched a minute                -       30,000     30,000",
        "dispatch, cpu ms a task            -        1.500      1.500",
        "memory of coordinator, MB       90.0         91.0       95.5",
        "page of the list, first, ms        -          3.2        3.2",
        "page of the list, of 1000, ms      -         40.0       40.0",
        "",
    ]


def test_a_spike_says_how_soon_it_was_forgotten() -> None:
    """In seconds from its end, or that it never was."""
    plan = make_plan(Options(arrivals="spike"))
    assert "Latency was back in the base's range 2 s after the spike." in _shown(
        _report(plan=plan, recovery_seconds=2.0)
    )
    assert "Latency did not come back to the base's range." in _shown(_report(plan=plan))


def test_what_went_wrong_comes_last() -> None:
    """Errors by their number, deaths, empty rounds, tasks lost, and what the audit found."""
    report = _report(
        rounds=(_round("round 1", 4_000), _round("round 2", 0)),
        errors={"UNAVAILABLE DEPENDENCY_UNAVAILABLE": 1, "task ended FAILED": 20},
        deaths=("the tool service died (exit code 1)",),
        accepted=4_001,
        proof=Proof(
            clean=False, tasks={"SUCCEEDED": 4_000}, findings=("A task forked.",), seconds=2.0
        ),
    )
    assert _shown(report)[-6:] == [
        "20 tasks failed: task ended FAILED",
        "1 task failed: UNAVAILABLE DEPENDENCY_UNAVAILABLE",
        "the tool service died (exit code 1)",
        "No task ended in round 2; --seconds makes rounds longer.",
        "1 task lost",
        "Audit: A task forked.",
    ]


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        ({"SUCCEEDED": 4_002}, "2 tasks doubled"),
        (
            {"SUCCEEDED": 3_999, "RUNNING": 1},
            "1 task succeeded for the client alone, not in the log",
        ),
    ],
)
def test_a_clean_audit_of_other_tasks_than_those_submitted_is_told(
    tasks: dict[str, int], sentence: str
) -> None:
    """Each is in order by itself, so the audit alone does not see it."""
    report = _report(proof=Proof(clean=True, tasks=tasks, findings=(), seconds=2.0))
    assert _shown(report)[-2] == sentence


def test_a_flood_is_told_with_how_many_tasks_say_so() -> None:
    """The measured tenant's p99 alone and beside it, and one over the other."""
    fairness = {
        "alone_p99_ms": 20.0,
        "beside_p99_ms": 25.0,
        "tasks_alone": 300,
        "tasks_beside": 1,
        "refused": 29_700,
        "p99_ratio": 1.25,
    }
    report = _report(plan=make_plan(Options(flood=True)), extra={"fairness": fairness})
    assert (
        "The tenant's p99 was 20.0 ms alone (300 tasks) and 25.0 ms beside the flood (1 task):"
        " 1.25 times. 29,700 tasks of the flood were refused."
    ) in _shown(report)
