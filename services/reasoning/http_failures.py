"""What the status and the headers of a refusal mean, for providers that speak HTTP."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from services.reasoning.provider_failures import Failure

# Who says later than this means no time at all.
_LONGEST_SECONDS: Final = 24 * 3600.0
_SERVER_ERRORS: Final = 500
_FAILURES: Final = {
    401: Failure.UNAUTHORISED,
    402: Failure.UNAUTHORISED,
    403: Failure.UNAUTHORISED,
    404: Failure.NO_MODEL,
    408: Failure.TIMEOUT,
    429: Failure.RATE_LIMITED,
    503: Failure.OVERLOADED,
    504: Failure.TIMEOUT,
    529: Failure.OVERLOADED,
}
# Such as `1m30.5s`, `6m0s`, `20ms`.
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SPAN: Final = re.compile(rf"(?:{_PART.pattern})+")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# What an OpenAI-compatible API counts.
_COUNTED: Final = ("requests", "tokens")


def status_failure(status: int) -> Failure:
    """What went wrong, by the status of a refusal."""
    if status in _FAILURES:
        return _FAILURES[status]
    if status >= _SERVER_ERRORS:
        return Failure.SERVER_ERROR
    # What is neither an answer nor a refusal was not sent by such an API.
    return Failure.REJECTED if status >= 400 else Failure.BROKEN_ANSWER


def retry_after_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """When it may be asked again, from 0 to a day; None where the headers do not say.

    `retry-after-ms`, `retry-after` in seconds or as a date, then the `x-ratelimit-reset-*`
    of what is used up. `headers` by names in any case that the mapping takes in lower case.
    """
    told = _milliseconds(headers.get("retry-after-ms", ""))
    if told is None:
        told = _moment(headers.get("retry-after", ""), now)
    if told is None:
        told = max(
            (
                span
                for each in _COUNTED
                if headers.get(f"x-ratelimit-remaining-{each}", "").strip() == "0"
                and (span := _span(headers.get(f"x-ratelimit-reset-{each}", ""))) is not None
            ),
            default=None,
        )
    return None if told is None else min(max(told, 0.0), _LONGEST_SECONDS)


def _milliseconds(text: str) -> float | None:
    number = _number(text)
    return None if number is None else number / 1000


def _moment(text: str, now: datetime) -> float | None:
    number = _number(text)
    if number is not None:
        return number
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    # A date without a zone is one of Greenwich's.
    return ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()


def _span(text: str) -> float | None:
    text = text.strip()
    if _SPAN.fullmatch(text):
        return sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(text))
    return _number(text)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number
