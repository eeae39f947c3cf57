"""The token bucket, over any sequence of moments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.coordinator.rate_limit import TokenBucket

_RATES = st.floats(0.01, 10_000)
_BURSTS = st.integers(1, 1_000)
_MOMENTS = st.lists(st.floats(0, 1_000), min_size=1, max_size=200).map(sorted)


@given(_RATES, _BURSTS, _MOMENTS)
def test_no_more_pass_than_burst_and_rate_allow(
    rate: float, burst: int, moments: list[float]
) -> None:
    """Between any moment and the end at most burst + rate * time are taken."""
    bucket = TokenBucket(burst, moments[0])
    taken = [
        moment for moment in moments if bucket.take(moment, per_second=rate, burst=burst) == 0.0
    ]
    for number, start in enumerate(taken):
        assert len(taken) - number <= burst + rate * (taken[-1] - start) + 0.01


@given(_RATES, _BURSTS, _MOMENTS)
def test_who_comes_back_when_told_passes(rate: float, burst: int, moments: list[float]) -> None:
    """The wait that a refusal names is long enough, and a tenth less of it is not."""
    bucket = TokenBucket(burst, moments[0])
    for moment in moments:
        wait_seconds = bucket.take(moment, per_second=rate, burst=burst)
        if not wait_seconds:
            continue
        if wait_seconds > 0.001:
            early = TokenBucket(bucket.tokens, bucket.at_seconds)
            assert early.take(moment + wait_seconds * 0.9, per_second=rate, burst=burst) > 0
        late = TokenBucket(bucket.tokens, bucket.at_seconds)
        assert late.take(moment + wait_seconds, per_second=rate, burst=burst) == 0.0


def test_a_quiet_time_fills_no_more_than_the_burst() -> None:
    """After a day without use three pass at once, and the fourth waits for the rate."""
    bucket = TokenBucket(0, 0.0)
    waits = [bucket.take(86_400.0, per_second=10, burst=3) for _ in range(4)]
    assert waits == [0.0, 0.0, 0.0, pytest.approx(0.1)]


def test_a_lower_burst_holds_at_once() -> None:
    """What was saved under a larger burst is lost when the burst shrinks."""
    bucket = TokenBucket(100, 0.0)
    assert bucket.take(0.0, per_second=1, burst=1) == 0.0
    assert bucket.take(0.0, per_second=1, burst=1) == pytest.approx(1.0)


def test_a_clock_that_steps_back_gives_nothing() -> None:
    """Time counts once, however the moments are ordered."""
    bucket = TokenBucket(1, 10.0)
    assert bucket.take(10.0, per_second=1, burst=5) == 0.0
    assert bucket.take(9.0, per_second=1, burst=5) == pytest.approx(1.0)
    assert bucket.take(10.0, per_second=1, burst=5) == pytest.approx(1.0)
