"""The keys of calls that are made for one call."""

import pytest

from services.reasoning.spend_keys import key_of_another

_LONG = "k" * 200


@pytest.mark.parametrize(
    ("key", "what", "another"),
    [("", "hedge", ""), ("t/1/1", "hedge", "t/1/1#hedge"), ("t", "m" * 198, "t#" + "m" * 198)],
)
def test_a_key_says_whose_other_call_it_is(key: str, what: str, another: str) -> None:
    """A call that is charged each time stays one."""
    assert key_of_another(key, what) == another


def test_no_key_is_longer_than_the_governor_takes() -> None:
    """It would refuse a call that is paid already. They stay apart, and the same."""
    keys = [key_of_another(_LONG, what) for what in ("a", "b")]
    keys += [key_of_another(keys[0], "hedge"), key_of_another("k" * 199, "hedge")]
    assert [len(each) for each in keys] == [200] * 4
    assert len(set(keys)) == 4
    assert key_of_another(_LONG, "a") == keys[0]
