"""The options that describe a task, for all commands that make one."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from cli.amount import DOLLARS
from cli.choices import LANES
from cli.duration import DURATION
from cli.labels import parse_labels
from cli.problem import Problem

if TYPE_CHECKING:
    from agentmesh.coordinator.v1.task_pb2 import Task

_OPTIONS: Final = (
    click.option(
        "--agent",
        default="",
        metavar="AGENT",
        help="Who does it, such as assistant or assistant@2.",
    ),
    click.option(
        "--task-type",
        metavar="TYPE",
        help="What kind of work it is, for budgets and reports (default: its agent's name).",
    ),
    click.option(
        "--lane",
        type=click.Choice(list(LANES)),
        help="Which queue to wait in (default: the agent's).",
    ),
    click.option(
        "--priority",
        type=click.IntRange(0, 9),
        help="Order inside the lane; 9 goes first (default: 0).",
    ),
    click.option("--session", metavar="NAME", help="Remember the conversation under this name."),
    click.option(
        "--label",
        "labels",
        multiple=True,
        metavar="KEY=VALUE",
        help="A label to filter by; repeatable.",
    ),
    click.option(
        "--time-limit",
        type=DURATION,
        metavar="TIME",
        help="How long it may take, such as 30s or 5m, waiting for people, timers and children"
        " not counted.",
    ),
    click.option(
        "--budget",
        "budget_micros",
        type=DOLLARS,
        metavar="DOLLARS",
        help="The most it may spend, such as 0.05.",
    ),
    click.option(
        "--budget-micros",
        "budget_in_micros",
        type=click.IntRange(1),
        metavar="N",
        help="The same in millionths of a US dollar.",
    ),
)


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What the options say; what they leave out is None or empty."""

    agent: str
    task_type: str | None
    lane: str | None
    priority: int | None
    session: str | None
    labels: dict[str, str]
    time_limit: float | None
    budget_micros: int | None

    @property
    def any_given(self) -> bool:
        """Whether they say anything."""
        return self != TaskOptions("", None, None, None, None, {}, None, None)

    def apply(self, task: "Task") -> None:
        """Writes what was given into `task`, and leaves the rest as it is."""
        if self.agent:
            task.agent = self.agent
        if self.task_type is not None:
            task.task_type = self.task_type
        if self.lane:
            task.lane = LANES[self.lane]
        if self.priority is not None:
            task.priority = self.priority
        if self.session is not None:
            task.session = self.session
        if self.labels:
            task.labels.clear()
            task.labels.update(self.labels)
        if self.time_limit is not None:
            task.time_limit.FromNanoseconds(round(self.time_limit * 1e9))
        if self.budget_micros is not None:
            task.budget_micros = self.budget_micros


def task_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options; they come as the argument `options`."""

    # Name, help and the options given so far are those of `function`.
    @functools.wraps(function)
    def with_options(
        *arguments: Any,
        agent: str,
        task_type: str | None,
        lane: str | None,
        priority: int | None,
        session: str | None,
        labels: Sequence[str],
        time_limit: float | None,
        budget_micros: int | None,
        budget_in_micros: int | None,
        **others: Any,
    ) -> Any:
        if budget_micros and budget_in_micros:
            raise Problem("--budget and --budget-micros are the same: give one.", exit_code=2)
        options = TaskOptions(
            agent,
            task_type,
            lane,
            priority,
            session,
            parse_labels(labels),
            time_limit,
            budget_micros or budget_in_micros,
        )
        return function(*arguments, options=options, **others)

    command: Callable[..., Any] = with_options
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
