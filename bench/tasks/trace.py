"""Recorded arrivals: one JSON object a line, as in the Azure LLM inference traces.

{"TIMESTAMP": "2023-11-16 18:17:03.9799600", "ContextTokens": 4808, "GeneratedTokens": 10}
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

# A trace is held in memory.
MAX_ARRIVALS: Final = 1_000_000
_COUNTS: Final = ("ContextTokens", "GeneratedTokens")


class BadTrace(Exception):
    """A trace cannot be read; the text says which line, and why."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Arrivals as recorded."""

    # Seconds from the first one, in order.
    times: tuple[float, ...]
    context_tokens: int
    generated_tokens: int


def read_trace(path: Path) -> Trace:
    """The trace in a file. Raises BadTrace."""
    try:
        with path.open(encoding="utf-8") as lines:
            return parse_trace(lines)
    except OSError as error:
        raise BadTrace(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadTrace(f"{path}: is not UTF-8 text") from None
    except BadTrace as error:
        raise BadTrace(f"{path}: {error}") from None


def parse_trace(lines: Iterable[str], *, most: int = MAX_ARRIVALS) -> Trace:
    """The trace in some lines, of `most` arrivals; empty lines are passed over. Raises BadTrace."""
    times: list[float] = []
    tokens = dict.fromkeys(_COUNTS, 0)
    first = last = None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if len(times) >= most:
            raise BadTrace(f"line {number}: a trace has at most {most:,} arrivals")
        moment, counts = _entry(line, number)
        if last is not None and moment < last:
            raise BadTrace(f"line {number}: TIMESTAMP is before that of the line above")
        last = moment
        first = first or moment
        times.append((moment - first).total_seconds())
        for name in _COUNTS:
            tokens[name] += counts[name]
    if not times:
        raise BadTrace("has no arrivals")
    return Trace(tuple(times), *(tokens[name] for name in _COUNTS))


def _entry(line: str, number: int) -> tuple[datetime, dict[str, int]]:
    try:
        entry: Any = json.loads(line)
    except ValueError:
        raise BadTrace(f"line {number}: is not JSON") from None
    if not isinstance(entry, dict):
        raise BadTrace(f"line {number}: must be an object, such as {_EXAMPLE}")
    values = cast("dict[str, Any]", entry)
    counts: dict[str, int] = {}
    for name in _COUNTS:
        value = values.get(name)
        if type(value) is not int or value < 0:
            raise BadTrace(f"line {number}: {name} must be a whole number from 0")
        counts[name] = value
    try:
        moment = datetime.fromisoformat(values["TIMESTAMP"])
    except (KeyError, TypeError, ValueError):
        raise BadTrace(
            f"line {number}: TIMESTAMP must be a time such as 2023-11-16 18:17:03.979"
        ) from None
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return moment, counts


_EXAMPLE: Final = (
    '{"TIMESTAMP": "2023-11-16 18:17:03.979", "ContextTokens": 4808, "GeneratedTokens": 10}'
)
