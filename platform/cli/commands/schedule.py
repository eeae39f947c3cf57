"""`agentmesh schedule`."""

from collections.abc import Callable
from typing import Any

import click

from cli.choices import MISSED_RUNS, OVERLAPS
from cli.command import Example, MeshCommand, MeshGroup, pass_invocation
from cli.invocation import Invocation
from cli.problem import Problem
from cli.task_input import checked_text
from cli.task_options import TaskOptions, task_options


@click.group(
    cls=MeshGroup,
    examples=[
        Example(
            'agentmesh schedule create nightly "Summarise our runbooks" --cron "0 3 * * *"',
            "a task every night at three, UTC",
        ),
        Example("agentmesh schedule list", "what is submitted when"),
    ],
)
def schedule() -> None:
    """Submit tasks at set times.

    SCHEDULE is a schedule's id, or its full name (tenants/TENANT/schedules/ID).
    """


def _when(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--overlap",
            type=click.Choice(list(OVERLAPS)),
            help="What happens while the task of the run before is still open (default: allow).",
        ),
        click.option(
            "--missed",
            type=click.Choice(list(MISSED_RUNS)),
            help="What happens to times that passed while no coordinator ran (default: run-last).",
        ),
        click.option(
            "--time-zone",
            metavar="ZONE",
            help="Zone that CRON is read in, such as Europe/Berlin (default: UTC).",
        ),
    ):
        function = option(function)
    return function


@schedule.command(
    cls=MeshCommand,
    examples=[
        Example(
            'agentmesh schedule create report "Write the report" --cron "0 9 * * 1-5"'
            " --time-zone Europe/Berlin",
            "on working days at nine in Berlin",
        ),
        Example(
            'agentmesh schedule create tidy "Tidy up" --cron "*/15 * * * *" --lane batch'
            " --overlap skip --missed skip",
            "every quarter of an hour, unless the one before is still at it",
        ),
    ],
)
@click.argument("schedule_id", metavar="ID")
@click.argument("text")
@click.option(
    "--cron",
    required=True,
    metavar="CRON",
    help="Minute, hour, day of month, month and day of week, such as '0 9 * * 1-5'.",
)
@_when
@task_options
@click.option("--paused", is_flag=True, help="Submit nothing until `schedule resume`.")
@click.option("--request-id", default="", metavar="ID", help="Makes the call repeatable.")
@pass_invocation
def create(
    invocation: Invocation,
    schedule_id: str,
    text: str,
    cron: str,
    time_zone: str | None,
    missed: str | None,
    overlap: str | None,
    options: TaskOptions,
    paused: bool,
    request_id: str,
) -> None:
    """Create a schedule that submits a task with TEXT, and show its next runs.

    With `-` the text is read from stdin.
    """
    text = checked_text(text)

    from agentmesh.coordinator.v1.schedule_service_pb2 import CreateScheduleRequest
    from cli import schedule_calls

    request = CreateScheduleRequest(
        parent=invocation.parent, schedule_id=schedule_id, request_id=request_id
    )
    made = request.schedule
    made.cron = cron
    made.time_zone = time_zone or ""
    if missed:
        made.missed_runs = MISSED_RUNS[missed]
    if overlap:
        made.overlap = OVERLAPS[overlap]
    made.paused = paused
    made.task.input.text = text
    options.apply(made.task)
    schedule_calls.create(invocation, request)


@schedule.command(
    cls=MeshCommand,
    examples=[Example("agentmesh schedule get report", "when it runs, and what became of it")],
)
@click.argument("name", metavar="SCHEDULE")
@pass_invocation
def get(invocation: Invocation, name: str) -> None:
    """Print a schedule: its next runs, its last one, its task."""
    from cli import schedule_calls

    schedule_calls.get(invocation, invocation.name("schedules", name))


@schedule.command(
    "list",
    cls=MeshCommand,
    examples=[Example("agentmesh schedule list --json", "with all their settings")],
)
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=100,
    show_default=True,
    metavar="N",
    help="How many, by id.",
)
@pass_invocation
def list_(invocation: Invocation, limit: int) -> None:
    """List the tenant's schedules."""
    from cli import schedule_calls

    schedule_calls.list_schedules(invocation, limit)


@schedule.command(
    cls=MeshCommand,
    examples=[
        Example('agentmesh schedule update report --cron "30 8 * * 1-5"', "half an hour earlier"),
        Example("agentmesh schedule update report --lane batch --priority 3", "another queue"),
    ],
)
@click.argument("name", metavar="SCHEDULE")
@click.option("--text", metavar="TEXT", help="What its tasks are asked.")
@click.option("--cron", metavar="CRON", help="When it runs.")
@_when
@task_options
@pass_invocation
def update(
    invocation: Invocation,
    name: str,
    text: str | None,
    cron: str | None,
    time_zone: str | None,
    missed: str | None,
    overlap: str | None,
    options: TaskOptions,
) -> None:
    """Change what is named of a schedule; the rest stays. Tasks that were submitted go on."""
    if text is not None:
        text = checked_text(text)
    given = (text, cron, time_zone, missed, overlap)
    if all(each is None for each in given) and not options.any_given:
        raise Problem("Say what to change.", "See `agentmesh schedule update --help`.", exit_code=2)

    from agentmesh.coordinator.v1.schedule_service_pb2 import Schedule
    from cli import schedule_calls

    def edit(changed: Schedule) -> None:
        if text is not None:
            changed.task.input.text = text
        if cron is not None:
            changed.cron = cron
        if time_zone is not None:
            changed.time_zone = time_zone
        if missed:
            changed.missed_runs = MISSED_RUNS[missed]
        if overlap:
            changed.overlap = OVERLAPS[overlap]
        options.apply(changed.task)

    schedule_calls.update(invocation, invocation.name("schedules", name), edit)


@schedule.command(
    cls=MeshCommand,
    examples=[Example("agentmesh schedule pause report", "submit nothing for now")],
)
@click.argument("name", metavar="SCHEDULE")
@pass_invocation
def pause(invocation: Invocation, name: str) -> None:
    """Submit nothing until `resume`; times that pass are not made up for."""
    _set_paused(invocation, name, paused=True)


@schedule.command(
    cls=MeshCommand,
    examples=[Example("agentmesh schedule resume report", "go on with its next time")],
)
@click.argument("name", metavar="SCHEDULE")
@pass_invocation
def resume(invocation: Invocation, name: str) -> None:
    """Go on with the next time of a paused schedule."""
    _set_paused(invocation, name, paused=False)


@schedule.command(
    cls=MeshCommand,
    examples=[Example("agentmesh schedule delete report", "its tasks stay")],
)
@click.argument("name", metavar="SCHEDULE")
@pass_invocation
def delete(invocation: Invocation, name: str) -> None:
    """Remove a schedule; the tasks that it submitted stay."""
    from cli import schedule_calls

    schedule_calls.delete(invocation, invocation.name("schedules", name))


def _set_paused(invocation: Invocation, name: str, *, paused: bool) -> None:
    from agentmesh.coordinator.v1.schedule_service_pb2 import Schedule
    from cli import schedule_calls

    def edit(changed: Schedule) -> None:
        changed.paused = paused

    schedule_calls.update(invocation, invocation.name("schedules", name), edit)
