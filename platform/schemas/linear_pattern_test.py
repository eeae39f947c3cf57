"""Patterns mean what Python takes them for, and none of them takes long."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.linear_pattern import LinearPattern, PatternError

_ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", r"\.", "^", "", "(?:a|b)"])
_PATTERNS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,}", "*?"])).map(
            lambda two: f"(?:{two[0]}){two[1]}"
        ),
    ),
    max_leaves=6,
)


class _Steps:
    def __init__(self) -> None:
        self.made = 0

    def spend(self, steps: int) -> None:
        self.made += steps


def _is_in(pattern: str, text: str) -> bool:
    return LinearPattern(pattern).is_in(text, _Steps().spend)


@settings(deadline=None, max_examples=300)
@given(_PATTERNS, st.booleans(), st.text("ab1.\n", max_size=8))
@example("(?:a|b)*", True, "abba")
@example("^a?", True, "")
def test_a_pattern_matches_what_pythons_matches(pattern: str, ends: bool, text: str) -> None:
    """`$` but for one thing: it is the end, and not a line feed before the end."""
    ours = _is_in(f"(?:{pattern})$" if ends else pattern, text)
    theirs = re.search(f"(?:{pattern})\\Z" if ends else pattern, text)
    assert ours == (theirs is not None)


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        (r"^[a-z]+(-[a-z]+)*$", "a-b-c", "a--b"),
        (r"^[^@\s]+@[^@\s]+\.[^@\s]+$", "a@b.c", "a@b"),
        (r"^\d{4}-\d{2}-\d{2}$", "2026-11-21", "2026-11-2"),
        (r"^(?<year>[0-9]{4})$", "2026", "20261"),
        (r"^[\]\-]$", "]", "["),
        (r"^\u00e4$", "ä", "a"),
        (r"^{$", "{", "}"),
    ],
)
def test_patterns_as_schemas_have_them(pattern: str, fits: str, does_not: str) -> None:
    """Slugs, addresses, dates, names of groups, escapes."""
    assert _is_in(pattern, fits)
    assert not _is_in(pattern, does_not)


@pytest.mark.parametrize(
    "pattern", [r"^(a+)+$", r"^(a|a)*$", r"^(a|aa)+$", r"^a*a*a*a*a*$", r"(.*)*x"]
)
def test_what_makes_others_hang_takes_steps_by_the_length_of_the_text(pattern: str) -> None:
    """Few of them new: the ways through the pattern are remembered."""
    found = LinearPattern(pattern)
    steps = _Steps()
    assert not found.is_in("a" * 5_000 + "!", steps.spend)
    assert steps.made < 1_000


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"(a)\1", r"uses \1, which is not known here"),
        (r"(?=a)", "uses (?, which is not known here but for (?: and (?<name>"),
        (r"\bword", r"uses \b, which is not known here"),
        (r"\p{L}", r"uses \p, which is not known here"),
        ("(a", "has a ( that nothing closes"),
        ("a)", "has a ) without a ("),
        ("[a", "has a [ that nothing closes"),
        ("*a", "repeats nothing"),
        ("a**", "repeats a repetition"),
        ("a{3,2}", "repeats {3,2}: the first number is the larger one"),
        ("(a{99}){99}", "is too large: repeat less, or fewer times"),
        ("a" * 1001, "must have at most 1000 characters"),
        ("(" * 60, "must be nested at most 50 deep"),
    ],
)
def test_what_is_not_known_is_refused_with_why(pattern: str, why: str) -> None:
    """Before anything is matched."""
    with pytest.raises(PatternError) as caught:
        LinearPattern(pattern)
    assert str(caught.value) == why


@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_refused(pattern: str) -> None:
    """It fails in no other way."""
    try:
        found = LinearPattern(pattern)
    except PatternError:
        return
    found.is_in("some text", _Steps().spend)
