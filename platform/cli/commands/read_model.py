"""`agentmesh read-model`."""

import click

from cli.command import Example, MeshCommand, MeshGroup, pass_invocation
from cli.invocation import Invocation


@click.group(
    "read-model",
    cls=MeshGroup,
    examples=[
        Example("agentmesh read-model status", "where it is kept, and how far it is behind"),
        Example("agentmesh read-model rebuild", "build it again from the log, while it answers"),
    ],
)
def read_model() -> None:
    """See the copy of the log that lists of tasks come from, and build it again.

    Nothing is in it that is not in the log, so it may be built again at any time.
    """


@read_model.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh read-model status", "a line for each stream of the log"),
        Example("agentmesh read-model status --json | jq .streams", "for a script"),
    ],
)
@pass_invocation
def status(invocation: Invocation) -> None:
    """Show where the read model is kept, its size, and how far it is behind the log."""
    from cli import read_model_calls

    read_model_calls.status(invocation)


@read_model.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh read-model rebuild", "with a bar that tells how far it is"),
        Example("agentmesh read-model rebuild --json", "an object a line, the last one with done"),
    ],
)
@pass_invocation
def rebuild(invocation: Invocation) -> None:
    """Build the read model again from the log, and put it in use at once.

    Lists are answered from the former one until then. Ctrl-C ends the showing, and
    not the rebuilding; the same command shows it again.
    """
    from cli import read_model_calls

    read_model_calls.rebuild(invocation)
