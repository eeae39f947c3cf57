"""`agentmesh model`."""

import click

from cli.command import Example, MeshCommand, MeshGroup, pass_invocation
from cli.invocation import Invocation


@click.group(
    cls=MeshGroup,
    examples=[Example("agentmesh model list", "what answers, at which price")],
)
def model() -> None:
    """List models."""


@model.command(
    "list",
    cls=MeshCommand,
    examples=[Example("agentmesh model list --json", "for a script")],
)
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List the models of the mesh, with their tiers, prices and states."""
    from cli import model_calls

    model_calls.list_models(invocation)
