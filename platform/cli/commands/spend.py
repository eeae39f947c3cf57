"""`agentmesh spend`."""

import click

from cli.command import Example, MeshCommand, pass_invocation
from cli.invocation import Invocation


@click.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh spend", "today and this month, against the budget"),
        Example("agentmesh spend --tenant acme --json", "another tenant's, for a script"),
    ],
)
@pass_invocation
def spend(invocation: Invocation) -> None:
    """Show what the tenant spent today and this month."""
    from cli import spend_calls

    spend_calls.show_spend(invocation)
