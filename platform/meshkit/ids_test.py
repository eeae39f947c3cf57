"""Tests of identifiers."""

from hypothesis import given
from hypothesis import strategies as st

from meshkit import names
from meshkit.ids import RandomIds, stable_id


def test_identifiers_are_distinct_and_fit_into_names() -> None:
    """A thousand identifiers differ and each may name a task."""
    ids = RandomIds()
    made = {ids.new() for _ in range(1000)}
    assert len(made) == 1000
    assert all(len(each) == 26 and names.check("task", each, field="id") for each in made)


@given(st.integers(0, 2**47), st.integers(1, 2**20))
def test_later_identifiers_sort_behind_earlier_ones(milliseconds: int, step: int) -> None:
    """Text order is time order, to the millisecond."""
    earlier = RandomIds(lambda: milliseconds / 1000, lambda count: b"\xff" * count)
    later = RandomIds(lambda: (milliseconds + step + 1) / 1000, lambda count: bytes(count))
    assert earlier.new() < later.new()


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_stable_identifiers_depend_on_the_parts_alone(one: list[str], other: list[str]) -> None:
    """Equal parts give equal identifiers, different parts different ones."""
    assert (stable_id(*one) == stable_id(*other)) is (one == other)


def test_stable_identifiers_never_change() -> None:
    """The same request gets the same identifier in every version."""
    assert stable_id("default", "request-1") == "4rh4t810g4g2v97nxwb6gdhte7"
