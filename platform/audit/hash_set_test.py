"""A set of names by their hashes."""

from hypothesis import given
from hypothesis import strategies as st

from audit.hash_set import HashSet


def test_many_names_are_known_and_others_are_not() -> None:
    """Also after the table grew."""
    names = HashSet()
    for number in range(5_000):
        assert names.add(("acme", number))
    assert len(names) == 5_000
    assert all(("acme", number) in names for number in range(5_000))
    assert not any(("acme", number) in names for number in range(5_000, 6_000))


@given(st.lists(st.text("abcä€", max_size=2)))
def test_it_is_a_set(names: list[str]) -> None:
    """A name is new once; the empty one, whose hash is 0, is a name like others."""
    real: set[str] = set()
    ours = HashSet()
    for name in names:
        assert (name in ours) == (name in real)
        assert ours.add(name) == (name not in real)
        real.add(name)
    assert len(ours) == len(real)
