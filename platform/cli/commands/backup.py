"""`agentmesh backup`."""

from pathlib import Path

import click

from cli.command import Example, MeshCommand, MeshGroup, pass_invocation
from cli.invocation import Invocation


class _Backup(MeshGroup):
    """What is no subcommand is the place for a backup."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """`verify` where that is what comes first; `save` for everything else."""
        if args and args[0] not in self.commands:
            return "save", save, args
        return super().resolve_command(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """As it is called."""
        return ["[OPTIONS]", "PLACE"]


@click.group(
    cls=_Backup,
    examples=[
        Example("agentmesh backup /var/backups", "save all state, under a name with the time"),
        Example("agentmesh backup before-upgrade.backup", "the same, in a file of this name"),
        Example("agentmesh backup verify before-upgrade.backup", "whether it is whole and sound"),
    ],
)
def backup() -> None:
    """Save all that the mesh keeps in one file.

    The mesh may be at work, or stopped. PLACE is a folder, or a file that is not there yet.
    A backup holds secrets: keys, certificates' authority, and what tenants said.
    docs/backup.md says what is in it, and what happens to tasks that are under way.
    """


@backup.command(
    cls=MeshCommand,
    hidden=True,
    examples=[
        Example("agentmesh backup save /var/backups", "the same as `agentmesh backup /var/backups`")
    ],
)
@click.argument("place", type=click.Path(path_type=Path))
@pass_invocation
def save(invocation: Invocation, place: Path) -> None:
    """Save all that the mesh keeps in PLACE: a folder, or a file that is not there yet."""
    from cli import backup_calls

    backup_calls.save(invocation, place)


@backup.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh backup verify mesh.backup", "read it all, and compare the digests"),
        Example("agentmesh backup verify mesh.backup --json | jq .streams", "what is in it"),
    ],
)
@click.argument("file", type=click.Path(path_type=Path))
@pass_invocation
def verify(invocation: Invocation, file: Path) -> None:
    """Read a backup, and say whether it is whole and as it was written."""
    from cli import backup_calls

    backup_calls.verify(invocation, file)
