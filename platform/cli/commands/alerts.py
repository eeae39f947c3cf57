"""`agentmesh alerts`."""

from collections.abc import Sequence
from typing import Final

import click

from cli.command import Example, MeshCommand, pass_invocation
from cli.invocation import Invocation

_KINDS: Final = ("alert", "degrade", "throttle", "shutoff", "velocity", "anomaly")
# There is none above it.
_MOST_SEQUENCE: Final = 2**63 - 1


@click.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh alerts", "the last ones"),
        Example("agentmesh alerts --follow", "those, and then what comes, until Ctrl-C"),
        Example("agentmesh alerts --kind shutoff --kind throttle", "what held up work"),
        Example(
            "agentmesh alerts --follow --after 41 --json", "all that came after one, for a script"
        ),
        Example("agentmesh alerts --all-tenants", "everybody's, for operators"),
    ],
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes.")
@click.option(
    "--after",
    type=click.IntRange(0, _MOST_SEQUENCE),
    metavar="SEQUENCE",
    help="All that came after this one, instead of the last.",
)
@click.option(
    "--limit",
    type=click.IntRange(0, 100_000),
    metavar="N",
    help="How many of the past (default: 20; all of them with --after).",
)
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(_KINDS),
    multiple=True,
    help="Only of this kind; may be repeated.",
)
@click.option("--all-tenants", is_flag=True, help="Those of all tenants; for operators.")
@pass_invocation
def alerts(
    invocation: Invocation,
    follow: bool,
    after: int | None,
    limit: int | None,
    kinds: Sequence[str],
    all_tenants: bool,
) -> None:
    """Show alerts about spending: budgets that fill up, and sudden rises.

    Each is told once. With --follow and --json it is one object a line, each with
    its sequence, after which --after goes on.
    """
    from cli import alert_calls
    from cli.alert_watch import Wanted

    wanted = Wanted(
        parent="tenants/-" if all_tenants else invocation.parent,
        after=after,
        limit=limit,
        kinds=frozenset(kind.upper() for kind in kinds),
    )
    if follow:
        alert_calls.follow(invocation, wanted)
    else:
        alert_calls.show(invocation, wanted)
