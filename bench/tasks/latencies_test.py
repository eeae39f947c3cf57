"""Latencies are counted to three digits, survive being sent, and add up."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.tasks.latencies import Latencies

_seconds = st.lists(st.floats(0.000_01, 100), min_size=1, max_size=200)


def _of(values: list[float]) -> Latencies:
    latencies = Latencies()
    for each in values:
        latencies.record(each)
    return latencies


@settings(max_examples=50, deadline=None)
@given(_seconds, st.sampled_from([50.0, 90.0, 99.0, 100.0]))
def test_a_percentile_is_the_value_that_so_many_do_not_exceed(
    values: list[float], percent: float
) -> None:
    """By the nearest rank, to three digits."""
    ordered = sorted(values)
    expected = ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1]
    # A microsecond is the unit in which they are counted.
    assert math.isclose(
        _of(values).percentile_ms(percent), expected * 1000, rel_tol=2e-3, abs_tol=2e-3
    )


@settings(max_examples=50, deadline=None)
@given(_seconds, _seconds)
def test_what_was_sent_adds_up(some: list[float], others: list[float]) -> None:
    """Two histograms that were sent as text are together what all their values are."""
    together = Latencies.decode(_of(some).encode())
    together.add(Latencies.decode(_of(others).encode()))
    expected = _of(some + others)
    assert together.count == expected.count == len(some) + len(others)
    assert together.max_ms == expected.max_ms
    for percent in (50, 99):
        assert together.percentile_ms(percent) == expected.percentile_ms(percent)


def test_none_at_all_took_no_time() -> None:
    """So that a round without tasks has figures."""
    assert (Latencies().percentile_ms(99), Latencies().max_ms, Latencies().count) == (0, 0, 0)


def test_what_is_out_of_range_counts_at_its_end() -> None:
    """Nothing is left out, however long it took."""
    latencies = _of([0.0, 10_000.0])
    assert latencies.count == 2
    assert math.isclose(latencies.max_ms, 3_600_000, rel_tol=1e-3)
