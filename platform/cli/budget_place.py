"""Which budget a command line means."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from cli.choices import BUDGET_SCOPES, BUDGET_WINDOWS
from cli.invocation import Invocation
from cli.problem import Problem

if TYPE_CHECKING:
    from agentmesh.governor.v1.budget_pb2 import BudgetScope, BudgetWindow

_OPTIONS: Final = (
    click.option(
        "--window", type=click.Choice(["day", "month"]), help="What it is for: a day or a month."
    ),
    click.option("--task-type", metavar="TYPE", help="Limits a task type of the tenant."),
    click.option("--agent", metavar="AGENT", help="Limits an agent of the tenant."),
    click.option("--session", metavar="SESSION", help="Limits a session, for all of its time."),
    click.option(
        "--global", "everyone", is_flag=True, help="Limits all tenants together; for operators."
    ),
)
# What names may look like, as a pattern and in words.
_SUBJECTS: Final = {
    "task-type": (
        re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"),
        "1 to 63 letters, digits or any of . _ -, a letter or digit first",
    ),
    "agent": (
        re.compile(r"[a-z0-9][a-z0-9-]{0,62}"),
        "1 to 63 lower-case letters, digits or hyphens, no hyphen first, and no version",
    ),
    "session": (
        re.compile(r"[A-Za-z0-9][A-Za-z0-9_~:-]{0,127}"),
        "1 to 128 letters, digits or any of _ ~ : -, a letter or digit first",
    ),
}


@dataclass(frozen=True, slots=True)
class Selection:
    """The options that name a budget by what it limits."""

    everyone: bool
    task_type: str | None
    agent: str | None
    session: str | None
    window: str | None

    @property
    def any_given(self) -> bool:
        """Whether any of them was given."""
        return self != Selection(False, None, None, None, None)


@dataclass(frozen=True, slots=True)
class Place:
    """A budget's name, and what the name says."""

    name: str
    scope: "BudgetScope"
    subject: str
    window: "BudgetWindow"


def selection_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options of a Selection; they come as the argument `selection`."""

    # Name, help and the options given so far are those of `function`.
    @functools.wraps(function)
    def with_selection(
        *arguments: Any,
        everyone: bool,
        task_type: str | None,
        agent: str | None,
        session: str | None,
        window: str | None,
        **others: Any,
    ) -> Any:
        selection = Selection(everyone, task_type, agent, session, window)
        return function(*arguments, selection=selection, **others)

    command: Callable[..., Any] = with_selection
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def place_of(invocation: Invocation, selection: Selection) -> Place:
    """The budget that the options name: the tenant's own where they name nothing narrower.

    Raises Problem where they contradict each other, or leave the window open.
    """
    subjects = {
        "task-type": selection.task_type,
        "agent": selection.agent,
        "session": selection.session,
    }
    named = [(kind, subject) for kind, subject in subjects.items() if subject is not None]
    if len(named) + selection.everyone > 1:
        raise Problem(
            "--global, --task-type, --agent and --session each name a budget: give one.",
            exit_code=2,
        )
    kind, subject = named[0] if named else ("global" if selection.everyone else "tenant", "")
    if named:
        _check_subject(kind, subject)
    window = _window(kind, selection.window)
    parent = "" if selection.everyone else f"{invocation.parent}/"
    return Place(
        f"{parent}budgets/{kind}-{window}" + (f"-{subject}" if subject else ""),
        BUDGET_SCOPES[kind],
        subject,
        BUDGET_WINDOWS[window],
    )


def _check_subject(kind: str, subject: str) -> None:
    shape, said = _SUBJECTS[kind]
    if not shape.fullmatch(subject):
        raise Problem(f"--{kind} must be {said}, not {subject[:80]!r}.", exit_code=2)


def name_of(invocation: Invocation, given: str | None, selection: Selection) -> str:
    """The full name of the budget that is given by name, or else by the options."""
    if given is None:
        if not selection.any_given:
            raise Problem(
                "Say which budget: its name, as `agentmesh budget list` shows it, or whose it is,"
                " such as --window day.",
                exit_code=2,
            )
        return place_of(invocation, selection).name
    if selection.any_given:
        raise Problem("Give the budget's name, or options that say whose it is.", exit_code=2)
    if given.startswith("global-"):
        return f"budgets/{given}"
    return invocation.name("budgets", given)


def _window(kind: str, given: str | None) -> str:
    if kind == "session":
        if given is not None:
            raise Problem(
                "A session's budget is for all of its time: leave --window away.", exit_code=2
            )
        return "lifetime"
    if given is None:
        raise Problem("Say what it is for: --window day or --window month.", exit_code=2)
    return given
