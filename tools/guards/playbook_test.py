"""The playbook and the runbooks say what there is: alerts, faults, commands, lines of logs."""

import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner

from agentmesh.errors.v1.reasons_pb2 import ErrorReason
from agentmesh.governor.v1.cost_governor_service_pb2 import WatchAlertsResponse
from cli.app import app
from services.governor.alert import Kind

_ROOT: Final = Path(__file__).parents[2]
_RUNBOOKS: Final = _ROOT / "docs/runbooks"
_PLAYBOOK: Final = _RUNBOOKS / "playbook.md"
_OPERATIONS: Final = _ROOT / "docs/operations.md"
# What each entry says.
_PARTS: Final = ("Sign", "By itself", "Check", "Do", "Over", "Safe meanwhile", "Shown by")
_ENTRY: Final = re.compile(r"^## (.+)\n((?:(?!^#).*\n?)*)", re.M)
_TEST_MODULE: Final = re.compile(r"\"(\w+_test\.py)\"")
_COMMAND: Final = re.compile(r"`(?:\./)?(agentmesh\s[^`]+)`|^\s*(?:\./)?(agentmesh .+)$", re.M)
_SHELL: Final = frozenset({"|", ">", "&&", ";"})
# An event of a log, by its name: a word, a dot, words.
_EVENT: Final = re.compile(r"`([a-z_]+\.[a-z_]+)`")
_FILES: Final = frozenset({"access.log", "proxy-access.log", "postgresql.conf"})
# Settings of services, and fields of what commands print, are written the same way.
_SETTING: Final = re.compile(
    r"(?:coordinator|executor|reasoning|memory|tool|governor|schedule|error)\."
)
_REASON: Final = re.compile(r"`([A-Z]+(?:_[A-Z]+)+)`")


def _entries() -> dict[str, str]:
    return dict(_ENTRY.findall(_PLAYBOOK.read_text("utf-8")))


def _runbooks() -> list[Path]:
    return sorted(_RUNBOOKS.glob("*.md"))


def _commands(page: Path) -> Iterator[str]:
    for inline, line in _COMMAND.findall(page.read_text("utf-8")):
        yield " ".join((inline or line).split())


def test_each_entry_says_everything() -> None:
    """What is seen, what happens by itself, where to look, what to do, its end, what is safe."""
    entries = _entries()
    assert entries
    lacking = {
        title: [part for part in _PARTS if f"**{part}**: " not in text]
        for title, text in entries.items()
    }
    assert {title: parts for title, parts in lacking.items() if parts} == {}


def test_each_kind_of_alert_has_an_entry() -> None:
    """Those that the governor tells, which the contract names."""
    titles = [title.partition(":")[0] for title in _entries()]
    assert [each for each in titles if each.isupper()] == [each.value for each in Kind]
    assert "kind" in WatchAlertsResponse.DESCRIPTOR.fields_by_name


@pytest.mark.parametrize("folder", ["tests/faults", "tests/mesh", "tests/upgrade"])
def test_each_fault_that_is_tested_has_an_entry(folder: str) -> None:
    """A module of these tests is named in the entry of what it brings about."""
    modules = _TEST_MODULE.findall((_ROOT / folder / "BUILD.bazel").read_text("utf-8"))
    assert modules
    shown = " ".join(text.partition("**Shown by**")[2] for text in _entries().values())
    assert [each for each in modules if f"`{folder}/{each}" not in shown] == []


@pytest.mark.parametrize("page", [*_runbooks(), _OPERATIONS], ids=lambda page: page.stem)
def test_each_command_is_one(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken with the options that the page gives it. None is run."""
    monkeypatch.setattr(click.Command, "invoke", _nothing)
    refused: dict[str, str] = {}
    for line in _commands(page):
        words = shlex.split(line, comments=True)[1:]
        given = list(takewhile(lambda word: word not in _SHELL, words))
        result = CliRunner().invoke(app, given, prog_name="agentmesh")
        # Where a page speaks of a command it may leave out what it is given.
        if result.exit_code != 0 and not (len(given) <= 2 and "Missing" in result.output):
            refused[line] = result.output
    assert refused == {}


def _nothing(_command: click.Command, _context: click.Context) -> Any:
    return None


def test_a_command_that_is_none_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another name, or with an option that it does not take."""
    monkeypatch.setattr(click.Command, "invoke", _nothing)
    for words in (["dlq", "rescue"], ["dlq", "list", "--color"], ["queue", "set", "lane"]):
        assert CliRunner().invoke(app, words, prog_name="agentmesh").exit_code == 2, words


def test_each_line_of_a_log_is_written() -> None:
    """What a page tells to look for in a log is in the code that writes it."""
    written = {
        name
        for folder in ("services", "platform")
        for path in (_ROOT / folder).rglob("*.py")
        if not path.name.endswith("_test.py")
        for name in re.findall(r"\"([a-z_]+\.[a-z_]+)\"", path.read_text("utf-8"))
    }
    for page in _runbooks():
        named = set(_EVENT.findall(page.read_text("utf-8"))) - _FILES
        named = {each for each in named if not _SETTING.match(each)}
        assert named - written == set(), page


def test_each_reason_is_one() -> None:
    """Reasons of errors, states and notes in the playbook are those of the contracts."""
    names = ErrorReason.DESCRIPTOR.values_by_name
    reasons = {name.removeprefix("ERROR_REASON_") for name in names}
    notes = {"BUDGET_WAIT", "CONTENT_EXPIRED", "SESSION_SKIPPED", "TIME_LIMIT", "TOOL_SKIPPED"}
    others = {"DECISION_ALLOW", "DEADLINE_EXCEEDED"}
    named = set(_REASON.findall(_PLAYBOOK.read_text("utf-8")))
    assert named - reasons - notes - others == set()


def test_the_page_of_operations_leads_here() -> None:
    """Whoever operates a mesh finds the playbook and the cookbook from there."""
    text = _OPERATIONS.read_text("utf-8")
    assert "(runbooks/playbook.md)" in text
    assert "(cookbook.md)" in text
