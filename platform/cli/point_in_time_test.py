"""Times on the command line."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.point_in_time import parse_time

pytest_plugins = ["cli.fixture_zone"]

# It is half past midnight of the 21st where the person sits.
pytestmark = pytest.mark.usefixtures("berlin")

_NOW = datetime(2026, 11, 20, 23, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("7d", "2026-11-13T23:30:00+00:00"),
        ("90m", "2026-11-20T22:00:00+00:00"),
        ("today", "2026-11-20T23:00:00+00:00"),
        ("month", "2026-10-31T23:00:00+00:00"),
        ("2026-07-01", "2026-06-30T22:00:00+00:00"),
        ("2026-11-20T14:30", "2026-11-20T13:30:00+00:00"),
        ("2026-11-20T14:30Z", "2026-11-20T14:30:00+00:00"),
        ("2026-11-20T14:30-05:00", "2026-11-20T19:30:00+00:00"),
    ],
)
def test_a_time_is_read_in_the_local_zone(text: str, meant: str) -> None:
    """Days and months begin where the person is, also across a change of clocks."""
    found = parse_time(text, _NOW)
    assert found is not None
    assert found.astimezone(UTC).isoformat() == meant


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "99999999999d", "7", "-7d"])
def test_what_is_no_time_is_none(text: str) -> None:
    """Nothing is guessed."""
    assert parse_time(text, _NOW) is None


@given(st.text(max_size=20))
def test_any_text_is_a_time_or_none(text: str) -> None:
    """A time that is read has a zone."""
    found = parse_time(text, _NOW)
    assert found is None or found.tzinfo is not None
