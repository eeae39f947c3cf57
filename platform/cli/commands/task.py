"""`agentmesh task`."""

from collections.abc import Sequence

import click

from cli.choices import LANES, STATES
from cli.command import Example, MeshCommand, MeshGroup, pass_invocation
from cli.duration import DURATION
from cli.invocation import Invocation
from cli.labels import parse_labels
from cli.task_input import checked_text


@click.group(
    cls=MeshGroup,
    examples=[
        Example('agentmesh task submit "Summarise our runbooks" --lane batch', "hand over work"),
        Example("agentmesh task list --state running", "what is under way"),
    ],
)
def task() -> None:
    """Submit, follow, list and cancel tasks.

    TASK is a task's id, as `submit` and `list` print it, or its full name
    (tenants/TENANT/tasks/ID).
    """


@task.command(
    cls=MeshCommand,
    examples=[
        Example('agentmesh task submit "What is 17.5% of 2,480?" --wait', "wait for the answer"),
        Example(
            'agentmesh task submit "Nightly report" --lane batch --request-id report-2026-11-21',
            "the same id again finds the same task, and starts nothing twice",
        ),
    ],
)
@click.argument("text")
@click.option(
    "--agent", default="", metavar="AGENT", help="Who does it, such as assistant or assistant@2."
)
@click.option(
    "--lane", type=click.Choice(list(LANES)), help="Which queue to wait in (default: the agent's)."
)
@click.option(
    "--priority", type=click.IntRange(0, 9), default=0, help="Order inside the lane; 9 goes first."
)
@click.option(
    "--session", default="", metavar="NAME", help="Remember the conversation under this name."
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="KEY=VALUE",
    help="A label to filter by; repeatable.",
)
@click.option(
    "--time-limit", type=DURATION, metavar="TIME", help="How long it may take, such as 30s or 5m."
)
@click.option(
    "--budget-micros",
    type=click.IntRange(1),
    metavar="N",
    help="The most it may spend, in millionths of a US dollar.",
)
@click.option("--request-id", default="", metavar="ID", help="Makes the submission repeatable.")
@click.option("--wait", is_flag=True, help="Follow the task to its end and print its result.")
@pass_invocation
def submit(
    invocation: Invocation,
    text: str,
    agent: str,
    lane: str | None,
    priority: int,
    session: str,
    labels: Sequence[str],
    time_limit: float | None,
    budget_micros: int | None,
    request_id: str,
    wait: bool,
) -> None:
    """Submit a task and print it.

    When this returns the task is stored durably: it will end, whatever crashes
    meanwhile. With `-` the text is read from stdin.
    """
    text = checked_text(text)
    pairs = parse_labels(labels)

    from agentmesh.coordinator.v1.coordinator_service_pb2 import SubmitTaskRequest
    from cli import task_calls

    request = SubmitTaskRequest(parent=invocation.parent, request_id=request_id)
    request.task.input.text = text
    request.task.agent = agent
    if lane:
        request.task.lane = LANES[lane]
    request.task.priority = priority
    request.task.session = session
    request.task.labels.update(pairs)
    if time_limit is not None:
        request.task.time_limit.FromNanoseconds(round(time_limit * 1e9))
    request.task.budget_micros = budget_micros or 0
    _exit_unless(task_calls.submit(invocation, request, wait=wait))


@task.command(
    cls=MeshCommand,
    examples=[Example("agentmesh task get 01k9x", "the state of one task and its output")],
)
@click.argument("name", metavar="TASK")
@pass_invocation
def get(invocation: Invocation, name: str) -> None:
    """Print a task."""
    from cli import task_calls

    task_calls.get(invocation, invocation.name("tasks", name))


@task.command(
    "list",
    cls=MeshCommand,
    examples=[
        Example("agentmesh task list --limit 10", "the newest"),
        Example("agentmesh task list --state failed --state dead_lettered", "what went wrong"),
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
    agent: str,
    session: str,
    lane: str | None,
    labels: Sequence[str],
    limit: int,
) -> None:
    """List tasks, newest first."""
    pairs = parse_labels(labels)

    from agentmesh.coordinator.v1.coordinator_service_pb2 import ListTasksRequest
    from cli import task_calls

    request = ListTasksRequest(parent=invocation.parent, agent=agent, session=session, labels=pairs)
    request.states.extend(STATES[each] for each in states)
    if lane:
        request.lane = LANES[lane]
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

    A connection that breaks is taken up again without gap or repeat. The exit
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
