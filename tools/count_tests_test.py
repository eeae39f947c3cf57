"""The closing line of a run tells what Bazel's events tell."""

import json
from pathlib import Path

import pytest

from tools import count_tests

PASSED = '<testcase name="a"/>'
FAILED = '<testcase name="b"><failure/></testcase>'
SKIPPED = '<testcase name="c"><skipped/></testcase>'


def result_event(folder: Path, status: str, cases: str, label: str | None = None) -> str:
    """Write a result file and return the event that names it."""
    result = folder / f"{status}.xml"
    result.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    output = {"name": "test.xml", "uri": result.as_uri()}
    event = {
        "id": {"testResult": {"label": label or f"//{status}"}},
        "testResult": {"status": status, "testActionOutput": [output]},
    }
    return json.dumps(event)


def run(folder: Path, *events: str) -> int:
    """Count the events."""
    file = folder / "events.json"
    file.write_text("\n".join(events))
    return count_tests.main(str(file))


def test_counts_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cases are counted, not targets; one that failed makes the run fail."""
    status = run(
        tmp_path,
        result_event(tmp_path, "PASSED", PASSED * 3 + SKIPPED),
        result_event(tmp_path, "FAILED", PASSED + FAILED),
    )
    assert status == 1
    assert capsys.readouterr().out == "4 passed, 1 failed, 1 skipped\n"


def test_all_passed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Skips are not mentioned where there are none."""
    assert run(tmp_path, result_event(tmp_path, "PASSED", PASSED)) == 0
    assert capsys.readouterr().out == "1 passed, 0 failed\n"


def test_the_last_attempt_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A test that passed when it was tried again passed, and is named."""
    status = run(
        tmp_path,
        result_event(tmp_path, "FAILED", PASSED + FAILED, "//a:b"),
        result_event(tmp_path, "PASSED", PASSED * 2, "//a:b"),
    )
    assert status == 0
    assert capsys.readouterr().out == "needed another attempt: //a:b\n2 passed, 0 failed\n"


def test_killed_test_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A test that left no failed case behind still counts as failed."""
    event = json.dumps({"id": {}, "testResult": {"status": "TIMEOUT"}})
    assert run(tmp_path, event) == 1
    assert capsys.readouterr().out == "0 passed, 1 failed\n"


def test_broken_target_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A target that could not be built counts as failed."""
    event = json.dumps({"id": {"targetCompleted": {"label": "//a:b"}}, "aborted": {}})
    assert run(tmp_path, event) == 1
    assert capsys.readouterr().out == "0 passed, 1 failed\n"


def test_nothing_run_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run without any test proves nothing."""
    assert run(tmp_path) == 1
    assert capsys.readouterr().out == "0 passed, 0 failed\n"
