"""Questions for the time are told from questions about time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reasoning.offline.times import TimeQuestion, TimeQuestions

_ZONES = ["America/New_York", "America/Argentina/Buenos_Aires", "Europe/Berlin", "UTC", "GMT"]


@pytest.mark.parametrize(
    ("clause", "place", "zone"),
    [
        ("What time is it?", "", None),
        ("what's the time", "", None),
        ("What is today's date?", "", None),
        ("What is the current date and time?", "", None),
        ("what day is it today?", "", None),
        ("What time is it in Berlin?", "Berlin", "Europe/Berlin"),
        ("What time is it right now in New York?", "New York", "America/New_York"),
        ("What's the time in new york right now, please?", "new york", "America/New_York"),
        ("current time in Buenos Aires", "Buenos Aires", "America/Argentina/Buenos_Aires"),
        ("What time is it in Europe/Berlin?", "Europe/Berlin", "Europe/Berlin"),
        ("Tell me the time in UTC", "UTC", "UTC"),
        ("What time is it in Germany?", "Germany", "Europe/Berlin"),
        ("What time is it in Gondor?", "Gondor", None),
    ],
)
def test_a_question_for_the_time_names_its_zone(clause: str, place: str, zone: str | None) -> None:
    """Cities, countries and IANA names are known; other places are kept as they are called."""
    assert TimeQuestions(lambda: _ZONES).find(clause) == TimeQuestion(place, zone)


@pytest.mark.parametrize(
    "clause",
    [
        "What is the time limit of the interactive lane?",
        "How much time does a step have?",
        "Which date format do we use?",
        "When does the token expire?",
        "What is the current timeout?",
    ],
)
def test_a_question_about_time_is_none_for_the_clock(clause: str) -> None:
    """Limits, formats and durations are looked up, not asked of a clock."""
    assert TimeQuestions(lambda: _ZONES).find(clause) is None


def test_the_zones_are_read_with_the_first_question_and_once() -> None:
    """Reading the time zone database costs milliseconds that most processes never need."""
    reads: list[int] = []

    def zones() -> list[str]:
        reads.append(1)
        return _ZONES

    times = TimeQuestions(zones)
    times.find("What is the refund policy in Berlin?")
    assert len(reads) == 0
    times.find("What time is it in Berlin?")
    times.find("What time is it in Paris?")
    assert len(reads) == 1


@given(st.text(max_size=300))
def test_any_text_is_survived(text: str) -> None:
    """A question's place is a part of its text."""
    found = TimeQuestions(lambda: _ZONES).find(text)
    assert found is None or found.place in text
