"""Tests of the log lines."""

import io
import json
from pathlib import Path

from meshkit import log, trace
from meshtest.eventually import eventually


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


async def test_lines_to_a_file_gather_until_one_must_not_be_lost(tmp_path: Path) -> None:
    """Harmless lines wait for company for a moment; a warning takes them along at once."""
    path = tmp_path / "log"
    with path.open("w") as stream:
        logger = log.get("tool", stream=stream)
        logger.info("first")
        assert path.read_text() == ""
        logger.warning("second")
        assert [json.loads(each)["event"] for each in path.read_text().splitlines()] == [
            "first",
            "second",
        ]
        logger.info("third")
        await eventually(lambda: "third" in path.read_text())


def test_outside_of_a_loop_lines_are_written_at_once(tmp_path: Path) -> None:
    """Where nothing would write them later, lines do not wait."""
    path = tmp_path / "log"
    with path.open("w") as stream:
        log.get("tool", stream=stream).info("x")
        assert '"event":"x"' in path.read_text()
