"""`agentmesh restore`."""

from pathlib import Path

import click

from cli.command import Example, MeshCommand, pass_invocation
from cli.invocation import Invocation


@click.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh restore mesh.backup", "into the usual data directory"),
        Example("agentmesh restore mesh.backup --data-dir /srv/mesh", "into another one"),
    ],
)
@click.argument("file", type=click.Path(path_type=Path))
@pass_invocation
def restore(invocation: Invocation, file: Path) -> None:
    """Restore a backup into a data directory that is empty.

    Then start the mesh with `agentmesh up`: tasks go on where the backup has them. What they did
    after the backup they do again; docs/backup.md says what that means.
    """
    from cli import backup_calls

    backup_calls.restore(invocation, file)
