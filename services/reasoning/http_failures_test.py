"""What a refusal over HTTP means."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reasoning.http_failures import retry_after_seconds, status_failure
from services.reasoning.provider_failures import Failure

_NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
_HEADERS = (
    "retry-after",
    "retry-after-ms",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
)


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (301, Failure.BROKEN_ANSWER),
        (400, Failure.REJECTED),
        (401, Failure.UNAUTHORISED),
        (402, Failure.UNAUTHORISED),
        (403, Failure.UNAUTHORISED),
        (404, Failure.NO_MODEL),
        (408, Failure.TIMEOUT),
        (413, Failure.REJECTED),
        (422, Failure.REJECTED),
        (429, Failure.RATE_LIMITED),
        (500, Failure.SERVER_ERROR),
        (502, Failure.SERVER_ERROR),
        (503, Failure.OVERLOADED),
        (504, Failure.TIMEOUT),
        (529, Failure.OVERLOADED),
    ],
)
def test_a_status_means_one_failure(status: int, failure: Failure) -> None:
    """What callers retry, fall back and break by."""
    assert status_failure(status) is failure


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sun, 01 Mar 2026 11:59:00 GMT"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, 86400.0),
        ({"retry-after": "1e300"}, 86400.0),
        ({"retry-after": "7", "retry-after-ms": "1500"}, 1.5),
        (
            {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m30.5s"},
            90.5,
        ),
        (
            {
                "x-ratelimit-remaining-requests": "3",
                "x-ratelimit-reset-requests": "6m0s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "20ms",
            },
            0.02,
        ),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "?"}, None),
    ],
)
def test_it_says_when_to_come_back(headers: dict[str, str], seconds: float | None) -> None:
    """In whatever of the published ways it is said."""
    assert retry_after_seconds(headers, _NOW) == seconds


@given(headers=st.dictionaries(st.sampled_from(_HEADERS), st.text(max_size=40)))
def test_no_header_breaks_it(headers: dict[str, str]) -> None:
    """Whatever a server writes there, it is a time from 0 to a day, or none."""
    seconds = retry_after_seconds(headers, _NOW)
    assert seconds is None or 0.0 <= seconds <= 86400.0
