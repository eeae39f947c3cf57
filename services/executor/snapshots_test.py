"""Which segments a snapshot has."""

from hypothesis import given
from hypothesis import strategies as st

from services.executor.snapshots import SEGMENT_EVENTS, Span, planned


def _grow(steps: list[int]) -> tuple[list[Span], int]:
    """The spans after a log has grown by these steps, and how many events were written for them."""
    plan: list[Span] = []
    last = written = 0
    for step in steps:
        last += step
        before, plan = set(plan), planned(plan, last)
        written += sum(span.last - span.first + 1 for span in plan if span not in before)
    return plan, written


@given(st.lists(st.integers(1, 2_000), max_size=200))
def test_segments_are_few_and_follow_each_other_without_a_gap(steps: list[int]) -> None:
    """However the log grew: at most 7 of each level, and under 64 events behind the log."""
    plan, _ = _grow(steps)
    assert [span.first for span in plan] == [1, *(span.last + 1 for span in plan)][: len(plan)]
    assert 0 <= sum(steps) - (plan[-1].last if plan else 0) < SEGMENT_EVENTS
    for level in {span.level for span in plan}:
        assert sum(span.level == level for span in plan) <= 7
    for span in plan:
        assert span.last - span.first + 1 == SEGMENT_EVENTS * 8**span.level
    assert [span.level for span in plan] == sorted((span.level for span in plan), reverse=True)


@given(st.integers(1, 40_000))
def test_an_event_is_written_once_for_each_level_at_most(count: int) -> None:
    """A log that grows event by event costs its length times the logarithm of it."""
    plan, written = _grow([SEGMENT_EVENTS] * (count // SEGMENT_EVENTS))
    levels = 1 + max((span.level for span in plan), default=0)
    assert written <= levels * count
