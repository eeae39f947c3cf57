"""Traces are read as they were recorded; a bad line is named by its number."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.tasks.trace import BadTrace, Trace, parse_trace, read_trace

_GOOD = '{"TIMESTAMP": "2023-11-16 18:17:03.9799600", "ContextTokens": 4808, "GeneratedTokens": 10}'
_LATER = '{"TIMESTAMP": "2023-11-16 18:17:05.2299600", "ContextTokens": 2, "GeneratedTokens": 8}'


def test_a_trace_is_read_from_its_first_arrival_on() -> None:
    """Times count from the first, tokens are added up, and empty lines mean nothing."""
    assert parse_trace([_GOOD, "", _LATER, "\n"]) == Trace((0.0, 1.25), 4810, 18)


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50), st.booleans())
def test_what_is_written_is_read_again(gaps: list[int], zoned: bool) -> None:
    """Whatever the gaps, to the microsecond, with a time zone or without."""
    moment = datetime(2023, 11, 16)
    lines: list[str] = []
    times: list[float] = []
    passed = timedelta()
    for number, gap in enumerate(gaps):
        passed += timedelta(microseconds=gap if number else 0)
        times.append(passed.total_seconds())
        written = (moment + passed).isoformat(" ") + ("+01:00" if zoned else "")
        lines.append(
            json.dumps({"TIMESTAMP": written, "ContextTokens": number, "GeneratedTokens": 0})
        )
    assert parse_trace(lines).times == tuple(times)


@settings(deadline=None)
@given(st.text())
def test_no_line_does_worse_than_being_refused(line: str) -> None:
    """Anything that is no arrival is refused with its number."""
    try:
        parse_trace([_GOOD, line, _LATER])
    except BadTrace as error:
        told = str(error)
    else:
        told = ""
    assert told.startswith("line 2: ") or not line.strip()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "is not JSON"),
        (
            "[1]",
            'must be an object, such as {"TIMESTAMP": "2023-11-16 18:17:03.979",'
            ' "ContextTokens": 4808, "GeneratedTokens": 10}',
        ),
        ('{"TIMESTAMP": "2023-11-16"}', "ContextTokens must be a whole number from 0"),
        (
            '{"ContextTokens": 1, "GeneratedTokens": -1}',
            "GeneratedTokens must be a whole number from 0",
        ),
        (
            '{"ContextTokens": true, "GeneratedTokens": 1}',
            "ContextTokens must be a whole number from 0",
        ),
        (
            '{"ContextTokens": 1, "GeneratedTokens": 1, "TIMESTAMP": "soon"}',
            "TIMESTAMP must be a time such as 2023-11-16 18:17:03.979",
        ),
        (
            '{"ContextTokens": 1, "GeneratedTokens": 1}',
            "TIMESTAMP must be a time such as 2023-11-16 18:17:03.979",
        ),
        (
            '{"TIMESTAMP": "2023-11-16 18:17:03", "ContextTokens": 1, "GeneratedTokens": 1}',
            "TIMESTAMP is before that of the line above",
        ),
    ],
)
def test_a_bad_line_is_named(line: str, why: str) -> None:
    """With its number, from 1, and what is wrong with it."""
    with pytest.raises(BadTrace) as caught:
        parse_trace([_GOOD, line])
    assert str(caught.value) == f"line 2: {why}"


def test_a_trace_without_arrivals_is_refused() -> None:
    """There is nothing to replay."""
    with pytest.raises(BadTrace, match=r"^has no arrivals$"):
        parse_trace(["", "\n"])


def test_a_trace_that_is_too_long_is_refused() -> None:
    """At the first line that is too many."""
    with pytest.raises(BadTrace, match=r"^line 3: a trace has at most 2 arrivals$"):
        parse_trace([_GOOD] * 3, most=2)


def test_a_file_is_named(tmp_path: Path) -> None:
    """One that is not there, one that is no text, and one with a bad line."""
    missing, binary, bad = (tmp_path / name for name in ("missing", "binary", "bad"))
    binary.write_bytes(b"\xff\xfe")
    bad.write_text("x\n", "utf-8")
    for path, why in (
        (missing, "No such file or directory"),
        (binary, "is not UTF-8 text"),
        (bad, "line 1: is not JSON"),
    ):
        with pytest.raises(BadTrace) as caught:
            read_trace(path)
        assert str(caught.value) == f"{path}: {why}"
