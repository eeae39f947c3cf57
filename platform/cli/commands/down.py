"""`agentmesh down`."""

import click

from cli.command import Example, MeshCommand, pass_invocation
from cli.invocation import Invocation
from cli.mesh_access import show
from cli.own_mesh import own_mesh
from tier import api as tiers


@click.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh down", "stop the mesh of the default data directory"),
        Example("agentmesh down --data-dir /tmp/try", "stop another one"),
    ],
)
@pass_invocation
def down(invocation: Invocation) -> None:
    """Stop the mesh that `up` started.

    Calls in flight are finished first. Tasks that are not done yet go on after
    the next `up`. Stopping what does not run is no error.
    """
    own_mesh(invocation)
    stopped = tiers.stop_detached(invocation.data_dir, lambda event: show(invocation, event))
    if invocation.terminal.as_json:
        invocation.terminal.document({"stopped": stopped, "data_dir": str(invocation.data_dir)})
    elif stopped:
        invocation.terminal.say(f"The mesh is down. Its state stays in {invocation.data_dir}.")
    else:
        invocation.terminal.say(f"No mesh runs with data directory {invocation.data_dir}.")
