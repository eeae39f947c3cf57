"""The figures of a report follow from what happened and what was used."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from bench.tasks.drive import Drive
from bench.tasks.latencies import Latencies
from bench.tasks.load import Outcome, Second, Window
from bench.tasks.options import Options
from bench.tasks.plan import make_plan
from bench.tasks.report import Proof, Report, fairness, recovery, rounds, spread
from bench.tasks.usage import Usage

_CLEAN = Proof(clean=True, tasks={"SUCCEEDED": 60}, findings=(), seconds=0.1)


def _encoded(*seconds: float) -> str:
    latencies = Latencies()
    for each in seconds:
        latencies.record(each)
    return latencies.encode()


def _usage(executor: float, client: float, written: int, data: int) -> Usage:
    return Usage({"executor-1": executor, "client": client}, {}, written, data)


def _drive(windows: Sequence[Window], used: Sequence[Usage]) -> Drive:
    return Drive(Outcome(60, 60, {}, tuple(windows)), tuple(used), {"executor-1": 70_000_000})


def _report(**changed: Any) -> Report:
    plan = make_plan(Options(rounds=2, seconds=10))
    drive = _drive(
        [
            Window(10.0, 20, {"bench": _encoded(0.1, 0.2)}),
            Window(10.0, 40, {"bench": _encoded(0.3)}),
        ],
        [
            _usage(1.0, 0.5, 0, 1_000),
            _usage(1.2, 0.6, 4_000, 3_000),
            _usage(1.4, 0.8, 8_000, 7_000),
        ],
    )
    report = Report(
        plan=plan,
        rounds=rounds(plan, drive),
        submitted=60,
        accepted=60,
        errors={},
        deaths=(),
        proof=_CLEAN,
        rss_bytes=drive.rss_bytes,
    )
    return dataclasses.replace(report, **changed)


def test_a_round_is_what_was_used_and_done_between_its_marks() -> None:
    """Processor time, growth and writes are shared among the tasks that ended."""
    first, second = _report().rounds
    assert (first.name, first.tasks, first.tasks_per_minute) == ("round 1", 20, 120)
    assert round(first.latency_ms[50.0]) == 100
    assert round(first.max_ms) == 200
    assert {name: round(each, 6) for name, each in first.cpu_ms.items()} == {
        "executor-1": 10.0,
        "client": 5.0,
    }
    assert round(first.cpu_ms_per_task, 6) == 15
    assert round(first.cpu_ms_per_task_without_client, 6) == 10
    assert round(first.cores, 6) == 0.03
    assert (first.data_bytes, first.written_bytes) == (100, 200)
    assert (second.tasks_per_minute, round(second.latency_ms[99.0])) == (240, 300)


def test_the_document_begins_with_the_medians() -> None:
    """Each with its range; everything else follows."""
    document = _report().to_json()
    assert list(document)[:4] == [
        "tasks_per_minute",
        "tasks_per_minute_range",
        "cpu_ms_per_task",
        "cpu_ms_per_task_range",
    ]
    assert document["tasks_per_minute"] == 180
    assert document["tasks_per_minute_range"] == [120, 240]
    assert document["cpu_ms_per_task"] == 12.5
    assert (round(document["p50_ms"]), round(document["p99_ms"])) == (200, 250)
    assert document["rss_mb"] == {"executor-1": 70.0}
    assert document["sync"] == "always"
    assert document["good"] is True


def test_a_process_that_was_started_again_uses_nothing_backwards() -> None:
    """Its clock began anew."""
    plan = make_plan(Options(rounds=1, seconds=10))
    used = [_usage(5.0, 0.0, 0, 0), _usage(1.0, 0.1, 0, 0)]
    (only,) = rounds(plan, _drive([Window(10.0, 10, {})], used))
    assert only.cpu_ms["executor-1"] == 0.0


def test_a_round_in_which_nothing_ended_has_figures() -> None:
    """All that was used counts as that of one task."""
    plan = make_plan(Options(rounds=1, seconds=10))
    used = [_usage(0.0, 0.0, 0, 0), _usage(0.5, 0.0, 0, 0)]
    (only,) = rounds(plan, _drive([Window(10.0, 0, {})], used))
    assert (only.tasks_per_minute, only.latency_ms[99.0]) == (0, 0)
    assert only.cpu_ms["executor-1"] == 500


@pytest.mark.parametrize(
    "changed",
    [
        {"errors": {"UNAVAILABLE": 1}},
        {"deaths": ["the tool service died"]},
        {"accepted": 61},
        {"proof": dataclasses.replace(_CLEAN, tasks={"SUCCEEDED": 61})},
        {"proof": dataclasses.replace(_CLEAN, tasks={"SUCCEEDED": 59, "RUNNING": 1})},
        {"proof": dataclasses.replace(_CLEAN, clean=False, findings=("lost",))},
    ],
)
def test_one_thing_that_went_wrong_spoils_it(changed: dict[str, Any]) -> None:
    """Errors, deaths, tasks that are lost, doubled or unproven, and findings alike."""
    assert _report(**changed).good is False


def test_a_round_in_which_nothing_ended_spoils_it() -> None:
    """Its figures look fast; one that is not counted may be empty."""
    first, second = _report().rounds
    empty = dataclasses.replace(second, tasks=0)
    assert _report(rounds=(first, empty)).empty == ("round 2",)
    assert _report(rounds=(first, empty)).good is False
    assert _report(rounds=(first, dataclasses.replace(empty, counted=False))).good is True


def test_what_is_accepted_and_unknown_is_lost() -> None:
    """By the audit's count of tasks in any state."""
    assert _report(accepted=63).lost == 3
    assert _report().lost == 0


def test_what_is_stored_and_was_not_submitted_is_doubled() -> None:
    """The audit sees only tasks that are each in order."""
    report = _report(proof=dataclasses.replace(_CLEAN, tasks={"SUCCEEDED": 62}))
    assert (report.lost, report.doubled, report.unproven) == (0, 2, 0)
    assert _report().doubled == 0


def test_what_an_error_hides_from_the_client_is_not_doubled() -> None:
    """A task may have been accepted though its caller heard of no answer."""
    assert _report(accepted=59, errors={"DEADLINE_EXCEEDED": 1}).doubled == 0


def test_what_succeeded_for_the_client_succeeded_in_the_log() -> None:
    """A task that the log has in another state is unproven, and not lost."""
    tasks = {"SUCCEEDED": 57, "RUNNING": 1, "FAILED": 1}
    report = _report(proof=dataclasses.replace(_CLEAN, tasks=tasks))
    assert (report.lost, report.doubled, report.unproven) == (1, 0, 2)


def test_tasks_of_a_backlog_may_still_be_queued() -> None:
    """Nobody waited for them; each is there once all the same."""
    plan = make_plan(Options(backlog=1_000))
    tasks = {"SUCCEEDED": 20, "QUEUED": 40}
    report = _report(plan=plan, proof=dataclasses.replace(_CLEAN, tasks=tasks))
    assert (report.unproven, report.good) == (0, True)


def test_the_spread_is_median_least_and_most() -> None:
    """Of an even number the median lies between the middle two."""
    assert spread([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
    assert spread([4.0, 1.0]) == (2.5, 1.0, 4.0)


def _seconds(*p99_ms: float) -> list[Second]:
    """A second for each, with arrivals unless it is below zero."""
    return [Second(0 if each < 0 else 1, 1, each, max(each, 0.0)) for each in p99_ms]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([9, 8, 15, 1], 0.0),
        ([50, 16, 15, 9, 8], 2.0),
        ([50, 10, 10, 30, 9, 9, -1, 9], 4.0),
        ([50, 10, 10], None),
        ([50, 50, 50, 50], None),
    ],
)
def test_recovery_is_when_latency_stays_in_the_bases_range(
    after: list[float], expected: float | None
) -> None:
    """From the spike's end to the first of three seconds in a row with arrivals and no slow one.

    Slow is what is over 1.5 times the base's median second, 10 ms here: neither the warm-up, nor
    a stall in the base, nor a second without arrivals makes it longer or shorter.
    """
    plan = make_plan(
        Options(arrivals="spike", warm_up=1, base_seconds=4, peak_seconds=2, after_seconds=10)
    )
    assert plan.spike_end == 7.0
    assert recovery(plan, _seconds(99, 10, 400, -1, 9, 70, 80, *after)) == expected


def test_only_a_spike_has_a_recovery() -> None:
    """Nothing else ends."""
    assert recovery(make_plan(Options()), _seconds(1, 1, 1, 1)) is None


def test_fairness_compares_the_quiet_tenant_with_itself() -> None:
    """Beside the flood against alone; the flooder's own latency counts for nothing."""
    plan = make_plan(Options(flood=True, rate=60, seconds=10))
    windows = [
        Window(10.0, 1, {"bench": _encoded(0.1)}),
        Window(10.0, 9, {"bench": _encoded(0.12), "flooder": _encoded(9.0, 9.0)}),
    ]
    drive = _drive(windows, [_usage(0, 0, 0, 0)] * 3)
    drive = dataclasses.replace(drive, outcome=dataclasses.replace(drive.outcome, refused=990))
    found = fairness(plan, drive)["fairness"]
    assert (round(found["alone_p99_ms"]), round(found["beside_p99_ms"])) == (100, 120)
    assert (found["tasks_alone"], found["tasks_beside"]) == (1, 1)
    assert round(found["p99_ratio"], 2) == 1.2
    assert found["refused"] == 990


def test_one_tenant_has_nobody_to_be_fair_to() -> None:
    """The figures are left out."""
    assert fairness(make_plan(Options()), _drive([], [])) == {}
