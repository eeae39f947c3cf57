"""Tables in terminals of any width."""

import io

import click
import pytest

from cli.terminal import Terminal

_COLUMNS = ("TASK", "STATE", "INPUT")
_ROW = ("51qh5e3sjch521avgn7303d8b4", "SUCCEEDED", "What is 17.5% of 2,480?")


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> _Screen:
    monkeypatch.setenv("TERM", "xterm")
    return _Screen()


def _shown(screen: _Screen, *, one_line: bool = True) -> list[str]:
    terminal = Terminal(as_json=False, out=screen, err=screen)
    terminal.table(_COLUMNS, [_ROW], one_line=one_line)
    return [line.rstrip() for line in click.unstyle(screen.getvalue()).splitlines()]


def test_only_the_last_column_is_cut(screen: _Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the terminal is narrow the last column gives way, and no other loses a letter."""
    monkeypatch.setenv("COLUMNS", "53")
    assert _shown(screen) == [
        "TASK                        STATE      INPUT",
        "51qh5e3sjch521avgn7303d8b4  SUCCEEDED  What is 17.5%…",
    ]


def test_the_last_column_wraps_without_one_line(
    screen: _Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A last column that need not stay in one line is shown to its end."""
    monkeypatch.setenv("COLUMNS", "53")
    assert _shown(screen, one_line=False)[1:] == [
        "51qh5e3sjch521avgn7303d8b4  SUCCEEDED  What is 17.5%",
        f"{'':39}of 2,480?",
    ]


def test_a_table_that_cannot_fit_runs_on(screen: _Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the other columns alone are too wide nothing is lost: the terminal wraps the lines."""
    monkeypatch.setenv("COLUMNS", "40")
    assert _shown(screen) == [
        "TASK                        STATE      INPUT",
        "51qh5e3sjch521avgn7303d8b4  SUCCEEDED  What is 17.5% of 2,480?",
    ]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("y\n", True), ("Yes \n", True), ("\n", False), ("no\n", False), ("", False), ("yo\n", False)],
)
def test_only_a_yes_is_one(screen: _Screen, typed: str, meant: bool) -> None:
    """Enter, the end of input and everything else leave things as they are."""
    terminal = Terminal(as_json=False, out=screen, err=screen, typed=_Screen(typed))
    assert terminal.interactive
    assert terminal.confirm("Put 2 dead letters back?") is meant
    assert screen.getvalue() == "Put 2 dead letters back? [y/N] "


def test_nobody_is_asked_where_nobody_sees_it(screen: _Screen) -> None:
    """A pipe at either end, or JSON, is no person."""
    person, pipe = _Screen(), io.StringIO()
    assert not Terminal(as_json=True, out=screen, err=screen, typed=person).interactive
    assert not Terminal(as_json=False, out=pipe, err=screen, typed=person).interactive
    assert not Terminal(as_json=False, out=screen, err=pipe, typed=person).interactive
    assert not Terminal(as_json=False, out=screen, err=screen, typed=pipe).interactive
