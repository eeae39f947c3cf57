"""`agentmesh dlq`."""

from collections.abc import Callable, Sequence
from typing import Any

import click

from cli.choices import LANES
from cli.command import Example, MeshCommand, MeshGroup, pass_invocation
from cli.duration import DURATION
from cli.invocation import Invocation
from cli.problem import Problem


@click.group(
    cls=MeshGroup,
    examples=[
        Example("agentmesh dlq list", "what failed for good, newest first"),
        Example("agentmesh dlq redrive --all --reason DEPENDENCY_UNAVAILABLE", "try them again"),
    ],
)
def dlq() -> None:
    """List, show, redrive and discard dead letters: tasks whose every attempt failed.

    TASK is a task's id or its full name (tenants/TENANT/tasks/ID).
    """


def _filters(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.option("--lane", type=click.Choice(list(LANES)), help="Only of this lane."),
            click.option(
                "--reason",
                default="",
                metavar="REASON",
                help="Only with this reason, such as DEPENDENCY_UNAVAILABLE.",
            ),
            click.option(
                "--min-age", type=DURATION, metavar="TIME", help="Only at least this old, as 30m."
            ),
        )
    ):
        function = option(function)
    return function


@dlq.command(
    "list",
    cls=MeshCommand,
    examples=[
        Example("agentmesh dlq list", "the newest"),
        Example("agentmesh dlq list --lane batch --min-age 1d", "what nobody looked after"),
        Example("agentmesh dlq list --json | jq -r .dead_letters[].reason", "for a script"),
    ],
)
@_filters
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
    invocation: Invocation, lane: str | None, reason: str, min_age: float | None, limit: int
) -> None:
    """List dead letters, newest first, with why they failed."""
    from agentmesh.coordinator.v1.coordinator_service_pb2 import ListDeadLettersRequest
    from cli import dlq_calls

    request = ListDeadLettersRequest(parent=invocation.parent, reason=reason)
    if lane:
        request.lane = LANES[lane]
    if min_age is not None:
        request.min_age.FromNanoseconds(round(min_age * 1e9))
    dlq_calls.list_dead_letters(invocation, request, limit)


@dlq.command(
    cls=MeshCommand,
    examples=[Example("agentmesh dlq show 01k9x", "why it failed, and what came before")],
)
@click.argument("name", metavar="TASK")
@pass_invocation
def show(invocation: Invocation, name: str) -> None:
    """Print a dead letter: its error, its attempts and its history in short."""
    from cli import dlq_calls

    dlq_calls.show(invocation, invocation.name("tasks", name))


@dlq.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh dlq redrive 01k9x 01k9y", "two of them"),
        Example(
            "agentmesh dlq redrive --all --lane batch --rate 5 --yes",
            "all of a lane, five in a second, without a question",
        ),
        Example(
            "agentmesh dlq redrive --all --reason PROVIDER_FAILED --limit 10",
            "ten to see whether it works again",
        ),
    ],
)
@click.argument("names", nargs=-1, metavar="[TASK]...")
@click.option("--all", "everything", is_flag=True, help="All that the filters match.")
@_filters
@click.option("--limit", type=click.IntRange(1), metavar="N", help="How many at most.")
@click.option(
    "--rate",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="How many in a second at most (default: 10).",
)
@click.option("--comment", default="", metavar="TEXT", help="A remark for the logs.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before --all.")
@pass_invocation
def redrive(
    invocation: Invocation,
    names: Sequence[str],
    everything: bool,
    lane: str | None,
    reason: str,
    min_age: float | None,
    limit: int | None,
    rate: int | None,
    comment: str,
    yes: bool,
) -> None:
    """Put dead letters back into their lanes, as new attempts on the same logs.

    What was recorded is not done again. --all asks first where it runs in a
    terminal. The exit code is 1 where one could not be put back.
    """
    if bool(names) == everything:
        raise Problem("Name tasks, or give --all.", exit_code=2)
    if names and (lane or reason or min_age or limit or rate):
        raise Problem("--lane, --reason, --min-age, --limit and --rate go with --all.", exit_code=2)
    tasks = [invocation.name("tasks", name) for name in names]

    from agentmesh.coordinator.v1.coordinator_service_pb2 import RedriveDeadLettersRequest
    from cli import dlq_calls

    if tasks:
        good = dlq_calls.redrive(invocation, tasks, comment)
    else:
        request = RedriveDeadLettersRequest(
            parent=invocation.parent,
            reason=reason,
            limit=limit or 0,
            max_per_second=rate or 0,
            comment=comment,
        )
        if lane:
            request.lane = LANES[lane]
        if min_age is not None:
            request.min_age.FromNanoseconds(round(min_age * 1e9))
        good = dlq_calls.redrive_all(invocation, request, ask=not yes)
    if not good:
        raise click.exceptions.Exit(1)


@dlq.command(
    cls=MeshCommand,
    examples=[
        Example('agentmesh dlq discard 01k9x --comment "asked twice"', "nobody will redrive it")
    ],
)
@click.argument("names", nargs=-1, required=True, metavar="TASK...")
@click.option("--comment", default="", metavar="TEXT", help="A remark for the log.")
@pass_invocation
def discard(invocation: Invocation, names: Sequence[str], comment: str) -> None:
    """Take dead letters off the list for good; their logs stay."""
    tasks = [invocation.name("tasks", name) for name in names]

    from cli import dlq_calls

    if not dlq_calls.discard(invocation, tasks, comment):
        raise click.exceptions.Exit(1)
