"""Arrivals come in order, within their time, and as many as their rate says."""

import itertools
import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.tasks.arrivals import Arrivals, Constant, Poisson, Replay, Spike

_rates = st.floats(1, 20_000)
_lengths = st.floats(0.5, 30)
_seeds = st.integers(0, 2**32)


def _times(arrivals: Arrivals, seed: int = 1) -> list[float]:
    return list(arrivals.times(random.Random(seed)))


@settings(deadline=None)
@given(_rates, _lengths)
def test_constant_arrivals_are_equally_far_apart(per_minute: float, seconds: float) -> None:
    """The first comes at once, and as many come as the rate makes in the time."""
    times = _times(Constant(per_minute, seconds))
    assert times[0] == 0
    assert abs(len(times) - math.ceil(seconds * per_minute / 60)) <= 1
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(math.isclose(gap, 60 / per_minute, rel_tol=1e-6) for gap in gaps)


@settings(deadline=None)
@given(_rates, _lengths, _seeds)
def test_poisson_arrivals_are_as_many_as_their_rate(
    per_minute: float, seconds: float, seed: int
) -> None:
    """Within six standard deviations of the mean, in order, and within the time."""
    times = _times(Poisson(per_minute, seconds), seed)
    mean = per_minute / 60 * seconds
    assert abs(len(times) - mean) <= 6 * math.sqrt(mean) + 6
    assert times == sorted(times)
    assert all(0 < time < seconds for time in times)


@settings(deadline=None)
@given(_seeds)
def test_a_seed_makes_the_same_arrivals_again(seed: int) -> None:
    """So that a run can be repeated."""
    arrivals = Spike(100, 1_000, 2, 1, 2)
    assert _times(arrivals, seed) == _times(arrivals, seed)


def test_poisson_arrivals_are_independent() -> None:
    """Their gaps vary as much as their mean: the mark of the exponential distribution."""
    times = _times(Poisson(6_000, 100))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert 0.95 < deviation / mean < 1.05


@settings(deadline=None)
@given(_seeds)
def test_a_spike_has_its_peak_between_two_calm_times(seed: int) -> None:
    """Each part has the arrivals of its own rate, and all are in order."""
    spike = Spike(
        base_per_minute=60,
        peak_per_minute=6_000,
        base_seconds=10,
        peak_seconds=5,
        after_seconds=20,
    )
    times = _times(spike, seed)
    assert times == sorted(times)
    assert spike.seconds == 35
    assert times[-1] < 35
    in_peak = [time for time in times if 10 <= time < spike.peak_end]
    assert abs(len(in_peak) - 500) <= 6 * math.sqrt(500)
    assert abs(len(times) - len(in_peak) - 30) <= 6 * math.sqrt(30)


def test_a_replay_is_as_recorded_and_ends_in_time() -> None:
    """What was recorded for later is left out."""
    assert _times(Replay((0.0, 0.5, 0.5, 2.0, 3.0), 3.0)) == [0.0, 0.5, 0.5, 2.0]
