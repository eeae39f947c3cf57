"""Questions about dates are answered by the calendar, and today only by the clock."""

from datetime import date, timedelta
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.reasoning.offline.date_questions import answer_date_question, find_date_question

_TODAY: Final = date(2026, 11, 21)


def _answer(text: str, today: date | None = None) -> str | None:
    question = find_date_question(text)
    assert question is not None, text
    assert question.needs_today == (today is not None)
    return answer_date_question(question, today)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (
            "How many days are there between 2024-01-03 and 2024-03-01?",
            "From 2024-01-03 to 2024-03-01 it is 58 days.",
        ),
        (
            "How many weeks from 1 January 2024 to 1 March 2024",
            "From 2024-01-01 to 2024-03-01 it is 8 weeks and 4 days (60 days).",
        ),
        (
            "What date is 30 days after March 1st, 2024?",
            "30 days after 2024-03-01 is Sunday, 2024-03-31.",
        ),
        (
            "What is 2024-01-31 plus 1 month?",
            "1 month after 2024-01-31 is Thursday, 2024-02-29.",
        ),
        (
            "What is the date 100 days before 2025-01-01?",
            "100 days before 2025-01-01 is Monday, 2024-09-23.",
        ),
        ("What day of the week was 29 February 2024?", "2024-02-29 is a Thursday."),
        ("What day is 13/4/2024?", "2024-04-13 is a Saturday."),
        ("What day is 30 February 2024?", None),
        ("What is 9999-12-31 plus 1 year?", None),
    ],
)
def test_the_calendar_answers(text: str, answer: str | None) -> None:
    """Dates that are all said need no clock; a date that there is not has no answer."""
    assert _answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("how many days until Christmas?", "From 2026-11-21 to 2026-12-25 it is 34 days."),
        ("How many days until 3 March?", "From 2026-11-21 to 2027-03-03 it is 102 days."),
        ("what is the date in 3 weeks?", "3 weeks after 2026-11-21 is Saturday, 2026-12-12."),
        ("when was 2 weeks ago", "2 weeks before 2026-11-21 is Saturday, 2026-11-07."),
        (
            "how many years since 4 July 1776",
            "From 1776-07-04 to 2026-11-21 it is 250 years and 140 days (91,450 days).",
        ),
        ("what day is tomorrow?", "2026-11-22 is a Sunday."),
    ],
)
def test_what_depends_on_today_takes_the_clock(text: str, answer: str) -> None:
    """A day without a year is the next one, or the last, as the question says."""
    assert _answer(text, _TODAY) == answer


@pytest.mark.parametrize(
    "text",
    [
        "What is the date today?",
        "How many days from 3/4/2024 to 5/6/2024?",
        "How many days until the release?",
        "What day is good for you?",
        "How many business days until Christmas?",
        "When is the deadline?",
        "What happened 2 weeks before the outage?",
    ],
)
def test_other_questions_are_left_alone(text: str) -> None:
    """So are dates that may be read in two ways, and days that only documents know."""
    assert find_date_question(text) is None


_DAYS: Final = st.dates(date(1000, 1, 1), date(2999, 12, 31))


@settings(deadline=None)
@given(_DAYS, st.integers(0, 100_000))
def test_so_many_days_later_is_so_many_days_away(day: date, days: int) -> None:
    """Both questions agree with the calendar."""
    later = day + timedelta(days=days)
    moved = _answer(f"What date is {days} days after {day.isoformat()}?")
    assert moved is not None
    assert moved.endswith(f"is {later:%A}, {later.isoformat()}.")
    length = _answer(f"How many days are there between {day.isoformat()} and {later.isoformat()}?")
    assert length is not None
    assert f"it is {days:,} day" in length


@settings(deadline=None)
@given(_DAYS, _DAYS)
def test_months_and_days_add_up(first: date, second: date) -> None:
    """The months and the days that are left over lead from one day to the other."""
    text = f"How many months are there between {first.isoformat()} and {second.isoformat()}?"
    told = _answer(text)
    assert told is not None
    assert "month" in told


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_survived(text: str) -> None:
    """Whatever is written, there is an answer or none."""
    question = find_date_question(text)
    if question is not None:
        answer_date_question(question, _TODAY)
