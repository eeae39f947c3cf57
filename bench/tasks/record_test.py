"""A record sums up tasks by windows and seconds."""

from bench.tasks.latencies import Latencies
from bench.tasks.load import Second
from bench.tasks.record import Record


def _p50_ms(encoded: str) -> float:
    """To ten milliseconds: a histogram keeps three digits."""
    return round(Latencies.decode(encoded).percentile_ms(50), -1)


def test_a_task_counts_where_it_ended_and_its_latency_where_it_began() -> None:
    """The warm-up and what comes after the last window count for neither."""
    record = Record([10.0, 20.0, 30.0])
    for began, ended in ((9.0, 9.5), (9.9, 10.4), (19.8, 20.1), (25.0, 25.1), (29.9, 30.3)):
        record.submitted()
        record.succeeded("acme", began, ended)
    first, second = record.outcome().windows
    assert (first.seconds, first.completed) == (10.0, 1)
    assert (second.seconds, second.completed) == (10.0, 2)
    assert Latencies.decode(first.latencies["acme"]).count == 1
    assert _p50_ms(first.latencies["acme"]) == 300
    assert Latencies.decode(second.latencies["acme"]).count == 2


def test_tenants_are_kept_apart() -> None:
    """One tenant's latencies say nothing of another's."""
    record = Record([0.0, 10.0])
    record.succeeded("quiet", 1.0, 1.1)
    record.succeeded("flooder", 1.0, 3.0)
    (window,) = record.outcome().windows
    assert window.completed == 2
    assert {tenant: _p50_ms(each) for tenant, each in window.latencies.items()} == {
        "quiet": 100,
        "flooder": 2000,
    }


def test_seconds_without_tasks_are_there() -> None:
    """A gap is to be seen as one."""
    record = Record([0.0, 3.0])
    record.succeeded("acme", 0.25, 0.5)
    record.succeeded("acme", 0.5, 2.5)
    assert record.outcome().seconds == (
        Second(began=2, completed=1, p50_ms=250.0, p99_ms=2000.0),
        Second(began=0, completed=0, p50_ms=0.0, p99_ms=0.0),
        Second(began=0, completed=1, p50_ms=0.0, p99_ms=0.0),
    )


def test_what_a_flood_was_refused_is_no_error() -> None:
    """It is neither a task that ended nor one that failed."""
    record = Record([0.0, 1.0])
    record.submitted()
    record.refused()
    outcome = record.outcome()
    assert (outcome.submitted, outcome.refused, outcome.succeeded) == (1, 1, 0)
    assert (outcome.errors, record.ended, record.failed) == ({}, 0, 0)


def test_errors_are_counted_by_their_text() -> None:
    """Of many different ones the first are kept apart, and none is left out."""
    record = Record([0.0, 1.0])
    for number in range(30):
        record.submitted()
        record.failed_with(f"error {number}")
        record.failed_with("error 0")
    outcome = record.outcome()
    assert (outcome.submitted, outcome.succeeded) == (30, 0)
    assert outcome.errors["error 0"] == 31
    assert outcome.errors["other errors"] == 10
    assert record.failed == record.ended == 60
