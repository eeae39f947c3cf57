"""Tests of the log lines."""

import io
import json

from meshkit import log, trace


def test_a_line_is_json_with_the_trace_it_belongs_to() -> None:
    """A line carries time, level, event, service, details and the trace id."""
    stream = io.StringIO()
    span = trace.child()
    with trace.use(span):
        log.get("tool", stream=stream).bind(tenant="a").warning("tool.slow", seconds=2.5)
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning",
        "event": "tool.slow",
        "service": "tool",
        "tenant": "a",
        "seconds": 2.5,
        "trace_id": span.trace_id,
    }


def test_secrets_are_blanked() -> None:
    """Details whose names speak of secrets never reach the log; counts of tokens do."""
    stream = io.StringIO()
    log.get("tool", stream=stream).info("x", api_key="k", auth_token="t", input_tokens=7)
    line = json.loads(stream.getvalue())
    assert (line["api_key"], line["auth_token"], line["input_tokens"]) == ("***", "***", 7)


def test_an_exception_is_logged_with_its_trace() -> None:
    """The trace is part of the one line."""
    stream = io.StringIO()
    try:
        raise ValueError("boom")
    except ValueError:
        log.get("tool", stream=stream).exception("tool.failed")
    line = json.loads(stream.getvalue())
    assert line["level"] == "error"
    assert "ValueError: boom" in line["exception"]


def test_lines_below_the_level_are_left_out() -> None:
    """A logger at `warning` says nothing of what is merely info."""
    stream = io.StringIO()
    log.get("tool", level="warning", stream=stream).info("x")
    assert stream.getvalue() == ""
