"""Tests of deadlines."""

import pytest

from meshkit import deadline
from meshkit.errors import DeadlineExceeded


def test_without_a_limit_a_call_gets_what_it_asks_for() -> None:
    """No limit means no shortening."""
    assert deadline.remaining_seconds() is None
    assert deadline.timeout_for(30) == 30


def test_an_inner_limit_never_lengthens_the_outer() -> None:
    """The nearer of two limits holds."""
    with deadline.limit(1), deadline.limit(60):
        assert (deadline.remaining_seconds() or 99) <= 1


def test_a_nested_call_is_shortened_and_leaves_a_reserve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A nested call gets at most what is left, less the time to answer."""
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    with deadline.limit(10):
        assert deadline.timeout_for(30) == pytest.approx(9.95)
        assert deadline.timeout_for(5) == 5


def test_a_short_limit_keeps_a_tenth_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a very short limit only a tenth is kept back."""
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    with deadline.limit(0.1):
        assert deadline.timeout_for(30) == pytest.approx(0.09)


def test_nothing_is_called_after_the_limit() -> None:
    """When nothing is left, no call is made."""
    with deadline.limit(0), pytest.raises(DeadlineExceeded, match="before the call was made"):
        deadline.timeout_for(1)


def test_the_limit_ends_with_its_block() -> None:
    """After the block the former limit holds again."""
    with deadline.limit(1):
        pass
    assert deadline.remaining_seconds() is None
