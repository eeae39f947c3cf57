# pyright: reportUnnecessaryTypeIgnoreComment=true
"""To whoever writes code these are frozen dataclasses."""

from dataclasses import replace

import pytest

from meshkit.frozen import frozen


@frozen
class _Size:
    width: int
    height: int = 1


def test_they_are_compared_by_their_fields() -> None:
    """And can be looked up, shown and copied with changes, as dataclasses are."""
    assert _Size(2) == _Size(2, 1) != _Size(2, 3)
    assert {_Size(2): "there"}[_Size(2, 1)] == "there"
    assert replace(_Size(2), height=3) == _Size(2, 3)
    assert repr(_Size(2)) == "_Size(width=2, height=1)"


def test_they_have_no_other_fields() -> None:
    """A field that is misspelt is found."""
    with pytest.raises(AttributeError, match="depth"):
        _Size(2).depth = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_code_that_changes_one_is_not_accepted() -> None:
    """By pyright, which complains of this file where it has nothing to ignore."""
    size = _Size(2)
    size.width = 3  # pyright: ignore[reportAttributeAccessIssue]
    assert size.width == 3
