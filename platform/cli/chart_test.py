"""Drawings in characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.chart import bar, columns


@pytest.mark.parametrize(
    ("parts", "whole", "drawn"),
    [
        ((0,), 10, "░░░░░░░░░░"),
        ((5,), 10, "█████░░░░░"),
        ((5, 2), 10, "█████▓▓░░░"),
        ((0, 3), 10, "▓▓▓░░░░░░░"),
        ((1, 1), 1000, "█▓░░░░░░░░"),
        ((10,), 10, "██████████"),
        ((14, 3), 10, "██████████"),
        ((3,), 0, "░░░░░░░░░░"),
    ],
)
def test_a_bar_shows_parts_of_a_whole(parts: tuple[int, ...], whole: int, drawn: str) -> None:
    """Each part is as long as its share, at least one where there is any, and all fit the bar."""
    assert bar(parts, whole, 10) == drawn


@given(
    st.tuples(st.integers(0, 10**12), st.integers(0, 10**12)),
    st.integers(0, 10**12),
    st.integers(1, 80),
)
def test_a_bar_has_its_width(parts: tuple[int, int], whole: int, width: int) -> None:
    """Whatever the figures are, tables stay straight."""
    assert len(bar(parts, whole, width)) == width


def test_columns_are_as_high_as_their_values() -> None:
    """The largest fills the height; an eighth of a line is the smallest step."""
    assert columns([0, 8, 4, 16, 1], height=2) == ["   █", " █▄█▁"]


def test_little_shows_and_nothing_does_not() -> None:
    """A day with a cent is told from one without, beside one with a thousand dollars."""
    assert columns([0, 1, 10**9], height=1) == [" ▁█"]
    assert columns([0, 0], height=2) == ["", ""]
    assert columns([], height=2) == ["", ""]
