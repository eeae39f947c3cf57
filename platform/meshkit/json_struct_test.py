"""JSON to a Struct and back."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkit.json_struct import to_mapping, to_struct

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=3), _VALUES, max_size=3))
def test_what_goes_in_comes_out(values: dict[str, Any]) -> None:
    """Whole numbers as integers again."""
    assert to_mapping(to_struct(values)) == values


def _nested(depth: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for _ in range(depth - 1):
        values = {"a": values}
    return values


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"a": float("nan")}, "holds a number that is too large"),
        ({"a": [10**400]}, "holds a number that is too large"),
        ({"a": "\ud800"}, "holds half of a surrogate pair, which is no text"),
        ({"\ud800": 1}, "holds half of a surrogate pair, which is no text"),
        (_nested(25), "is nested more than 24 deep"),
    ],
)
def test_what_a_struct_cannot_carry_is_refused(values: dict[str, Any], why: str) -> None:
    """Before a message with it is built that nobody can read."""
    with pytest.raises(ValueError, match=why):
        to_struct(values)
    assert to_mapping(to_struct(_nested(24))) == _nested(24)
