"""`agentmesh task`."""

from collections.abc import Sequence

import click

from cli.choices import LANES, STATES
from cli.command import Example, MeshCommand, MeshGroup, pass_invocation
from cli.commands.task_signal import signal
from cli.commands.task_submit import submit
from cli.invocation import Invocation
from cli.labels import parse_labels
from cli.problem import Problem


@click.group(
    cls=MeshGroup,
    examples=[
        Example('agentmesh task submit "Summarise our runbooks" --lane batch', "hand over work"),
        Example("agentmesh task list --state running", "what is under way"),
        Example("agentmesh task list --waiting", "what waits for a person, a time or other tasks"),
    ],
)
def task() -> None:
    """Submit, follow, list, signal and cancel tasks.

    TASK is a task's id, as `submit` and `list` print it, or its full name
    (tenants/TENANT/tasks/ID).
    """


task.add_command(submit)


@task.command(
    cls=MeshCommand,
    examples=[Example("agentmesh task get 01k9x", "the state of one task and its output")],
)
@click.argument("name", metavar="TASK")
@pass_invocation
def get(invocation: Invocation, name: str) -> None:
    """Print a task: where it stands, what it waits for and how to answer, its output."""
    from cli import task_calls

    task_calls.get(invocation, invocation.name("tasks", name))


@task.command(
    "list",
    cls=MeshCommand,
    examples=[
        Example("agentmesh task list --limit 10", "the newest"),
        Example("agentmesh task list --state failed --state dead_lettered", "what went wrong"),
        Example("agentmesh task list --waiting", "what is waited for, and since when"),
        Example("agentmesh task list --label team=ops --json", "with a label, for a script"),
    ],
)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(list(STATES), case_sensitive=False),
    help="Only tasks in this state; repeatable.",
)
@click.option("--waiting", is_flag=True, help="Only tasks that wait, and what they wait for.")
@click.option("--agent", default="", metavar="AGENT", help="Only tasks of this agent.")
@click.option("--session", default="", metavar="NAME", help="Only tasks of this session.")
@click.option("--lane", type=click.Choice(list(LANES)), help="Only tasks of this lane.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only tasks with this label; repeatable.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=20,
    show_default=True,
    metavar="N",
    help="How many, newest first.",
)
@pass_invocation
def list_(
    invocation: Invocation,
    states: Sequence[str],
    waiting: bool,
    agent: str,
    session: str,
    lane: str | None,
    labels: Sequence[str],
    limit: int,
) -> None:
    """List tasks, newest first."""
    pairs = parse_labels(labels)
    if waiting and states:
        raise Problem("--waiting is --state waiting with more to see: give one.", exit_code=2)

    from agentmesh.coordinator.v1.coordinator_service_pb2 import ListTasksRequest
    from cli import task_calls

    request = ListTasksRequest(parent=invocation.parent, agent=agent, session=session, labels=pairs)
    request.states.extend(STATES[each] for each in (["waiting"] if waiting else states))
    if lane:
        request.lane = LANES[lane]
    if waiting:
        task_calls.list_waiting(invocation, request, limit)
    else:
        task_calls.list_tasks(invocation, request, limit)


@task.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh task watch 01k9x", "its events from the first, until it ends"),
        Example("agentmesh task watch 01k9x --after 7", "go on after event 7"),
    ],
)
@click.argument("name", metavar="TASK")
@click.option(
    "--after", type=click.IntRange(0), default=0, metavar="N", help="Only events after this one."
)
@pass_invocation
def watch(invocation: Invocation, name: str, after: int) -> None:
    """Follow a task to its end, an event a line.

    A connection that breaks is taken up again without gap or repeat. Where the
    task waits for a person, the command line that answers it is shown. The exit
    code is 1 where the task ends without a result.
    """
    from cli import task_calls

    _exit_unless(task_calls.watch(invocation, invocation.name("tasks", name), after))


@task.command(
    cls=MeshCommand,
    examples=[Example("agentmesh task events 01k9x --json", "the audit log, an event a line")],
)
@click.argument("name", metavar="TASK")
@click.option(
    "--after", type=click.IntRange(0), default=0, metavar="N", help="Only events after this one."
)
@pass_invocation
def events(invocation: Invocation, name: str, after: int) -> None:
    """Print what is recorded about a task so far: its audit log."""
    from cli import task_calls

    task_calls.events(invocation, invocation.name("tasks", name), after)


task.add_command(signal)


@task.command(
    cls=MeshCommand,
    examples=[Example('agentmesh task cancel 01k9x --reason "asked twice"', "stop a task")],
)
@click.argument("name", metavar="TASK")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the log.")
@pass_invocation
def cancel(invocation: Invocation, name: str, reason: str) -> None:
    """Ask for a task to stop; one that has ended stays as it is."""
    from cli import task_calls

    task_calls.cancel(invocation, invocation.name("tasks", name), reason)


def _exit_unless(good: bool) -> None:
    if not good:
        raise click.exceptions.Exit(1)
