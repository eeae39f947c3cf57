"""A key is known again, for a while, and memory has a bound."""

from services.reasoning.seen_keys import SeenKeys


def test_a_key_is_new_once() -> None:
    """For each tenant."""
    seen = SeenKeys(10)
    assert seen.add("acme", "k")
    assert not seen.add("acme", "k")
    assert seen.add("globex", "k")


def test_the_last_keys_are_known_and_old_ones_forgotten() -> None:
    """At least as many as its size, and never twice as many."""
    seen = SeenKeys(10)
    for number in range(100):
        assert seen.add("acme", str(number))
        assert not seen.add("acme", str(max(0, number - 9)))
    assert seen.add("acme", "79")
