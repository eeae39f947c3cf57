"""How long a request wants to wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reasoning.offline.pauses import find_pause


@pytest.mark.parametrize(
    ("clause", "phrase", "seconds"),
    [
        ("wait 5 seconds", "5 seconds", 5),
        ("Wait for 2 minutes", "2 minutes", 120),
        ("please wait 1.5 h", "1.5 h", 5400),
        ("wait 500 ms", "500 ms", 0.5),
        ("pause for an hour", "an hour", 3600),
        ("sleep half an hour", "half an hour", 1800),
        ("Wait one minute and 30 seconds", "one minute and 30 seconds", 90),
        ("then wait 3d", "3d", 259200),
        ("First, wait ten minutes", "ten minutes", 600),
    ],
)
def test_a_length_is_read_in_seconds(clause: str, phrase: str, seconds: float) -> None:
    """Numbers and small number words count, in any unit from milliseconds to days."""
    pause = find_pause(clause)
    assert pause is not None
    assert (pause.phrase, pause.seconds, pause.until) == (phrase, seconds, "")


def test_a_point_in_time_is_passed_on() -> None:
    """A time with its zone is what the tool takes."""
    pause = find_pause("wait until 2026-01-31T12:00:00Z")
    assert pause is not None
    assert (pause.seconds, pause.until) == (0.0, "2026-01-31T12:00:00Z")


@pytest.mark.parametrize(
    "clause",
    [
        "How long do people wait 5 minutes before noon",
        "wait for me",
        "wait until tomorrow",
        "await 5 seconds",
        "wait 0 seconds",
        "the wait is 5 minutes",
    ],
)
def test_other_clauses_wait_for_nothing(clause: str) -> None:
    """Without an instruction to wait, or a length over zero, there is no pause."""
    assert find_pause(clause) is None


@given(st.text(max_size=200))
def test_any_text_can_be_read(text: str) -> None:
    """No text makes it fail, or wait for less than nothing."""
    pause = find_pause(f"wait {text}")
    assert pause is None or pause.until or pause.seconds > 0
