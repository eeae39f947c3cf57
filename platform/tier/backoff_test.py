"""When a dead child is started again."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tier.backoff import Backoff, RestartPolicy

_POLICY = RestartPolicy(
    first_delay_seconds=0.1, factor=3, longest_delay_seconds=2, limit=5, well_after_seconds=60
)


def test_each_death_in_a_row_waits_longer_up_to_a_limit() -> None:
    """The pause grows by the factor to the longest one; then there is no more try."""
    backoff = Backoff(_POLICY)
    waits = [backoff.after(lived_seconds=1) for _ in range(6)]
    assert [wait and round(wait, 6) for wait in waits] == [0.1, 0.3, 0.9, 2, 2, None]


def test_who_lived_long_enough_starts_afresh() -> None:
    """A child that was well for a while is not held to its earlier deaths."""
    backoff = Backoff(_POLICY)
    for _ in range(5):
        backoff.after(lived_seconds=1)
    assert backoff.after(lived_seconds=60) == 0.1


@given(st.lists(st.floats(min_value=0, max_value=59.9), min_size=6, max_size=20))
def test_short_lives_always_come_to_an_end(lives: list[float]) -> None:
    """No sequence of short lives is restarted for ever, and no pause is negative or too long."""
    backoff = Backoff(_POLICY)
    waits = [backoff.after(each) for each in lives]
    assert all(wait is None for wait in waits[5:])
    assert all(wait is not None and 0 < wait <= 2 for wait in waits[:5])


def test_without_a_limit_no_death_is_the_last() -> None:
    """However often it dies, it is tried again after the longest pause."""
    backoff = Backoff(replace(_POLICY, limit=None))
    waits = [backoff.after(lived_seconds=1) for _ in range(5_000)]
    assert set(waits[5:]) == {2}
