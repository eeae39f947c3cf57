"""`agentmesh key`."""

from pathlib import Path

import click

from cli.choices import ROLES
from cli.command import Example, MeshCommand, MeshGroup, pass_invocation
from cli.duration import DURATION
from cli.invocation import Invocation

_MAX_TOKEN_SECONDS = 24 * 3600.0


@click.group(
    cls=MeshGroup,
    examples=[
        Example("agentmesh key create ci --scope 'tasks:*' --expires 90d", "a key for a program"),
        Example("agentmesh key list", "which keys there are, and when each was last used"),
        Example("agentmesh key revoke KEY", "end one at once"),
    ],
)
def key() -> None:
    """Make, list and revoke the keys by which callers come in.

    A mesh that asks who calls takes API keys, for programs, and tokens, for a short
    time. KEY is a key's id, its full name (tenants/TENANT/apiKeys/ID), or its text.
    A key acts for the tenant that --tenant names when it is made.
    """


@key.command(
    cls=MeshCommand,
    examples=[
        Example(
            "agentmesh key create nightly --scope tasks:write --scope tasks:read --expires 30d",
            "a key that may submit tasks and follow them, for a month",
        ),
        Example(
            "agentmesh key create ann --role operator --out ann.key",
            "an operator's key, in a file that nobody else can read",
        ),
    ],
)
@click.argument("name", default="", metavar="[NAME]")
@click.option(
    "--role",
    type=click.Choice(list(ROLES)),
    default="user",
    show_default=True,
    help="What its callers may do at most.",
)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="SCOPE",
    help="Limits it to part of what the role may do, such as tasks:read or 'docs:*'; may be given"
    " several times. See `agentmesh policy show`.",
)
@click.option(
    "--expires",
    type=DURATION,
    metavar="DURATION",
    help="After how long it ends by itself, such as 12h or 90d (default: never).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the key to this new file, for its owner alone to read, instead of showing it.",
)
@click.option("--request-id", default="", metavar="ID", help="Makes the call repeatable.")
@pass_invocation
def create(
    invocation: Invocation,
    name: str,
    role: str,
    scopes: tuple[str, ...],
    expires: float | None,
    out: Path | None,
    request_id: str,
) -> None:
    """Make a key, and show it this once: the mesh keeps its hash alone.

    NAME is what people call it.
    """
    from cli import key_calls

    wanted = key_calls.Wanted(name, ROLES[role], scopes, expires)
    key_calls.create(invocation, wanted, out, request_id)


@key.command(
    "list",
    cls=MeshCommand,
    examples=[
        Example("agentmesh key list --all", "those that have ended as well"),
        Example("agentmesh key list --tenant acme", "an admin sees those of every tenant"),
    ],
)
@click.option("--all", "ended", is_flag=True, help="Also keys that expired or were revoked.")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=1000,
    show_default=True,
    metavar="N",
    help="How many, by id.",
)
@pass_invocation
def list_(invocation: Invocation, ended: bool, limit: int) -> None:
    """List the tenant's keys: role, scopes, end, last use, and who made them."""
    from cli import key_calls

    key_calls.list_keys(invocation, ended=ended, limit=limit)


@key.command(
    cls=MeshCommand,
    examples=[Example("agentmesh key revoke 01arz3ndektsv4rrffq69g5fav", "end this key")],
)
@click.argument("names", nargs=-1, required=True, metavar="KEY...")
@pass_invocation
def revoke(invocation: Invocation, names: tuple[str, ...]) -> None:
    """End keys for good; they are refused everywhere within 5 seconds."""
    from cli import key_calls

    key_calls.revoke(invocation, names)


@key.command(
    cls=MeshCommand,
    examples=[
        Example(
            'curl -H "authorization: Bearer $(agentmesh key token)"'
            " http://127.0.0.1:8080/v1/tenants/default/tasks",
            "call the gateway by hand",
        ),
        Example("agentmesh key token --tenant acme --role operator --expires 1h", "for another"),
    ],
)
@click.option(
    "--role",
    type=click.Choice(list(ROLES)),
    default="user",
    show_default=True,
    help="What its caller may do.",
)
@click.option(
    "--subject", metavar="NAME", help="Who calls, as `user:NAME` (default: this machine's user)."
)
@click.option(
    "--expires",
    type=DURATION,
    default="15m",
    show_default=True,
    metavar="DURATION",
    help="How long it is good for, 24h at most. It cannot be revoked.",
)
@pass_invocation
def token(invocation: Invocation, role: str, subject: str | None, expires: float) -> None:
    """Print a short token, signed with the key of the mesh in the data directory.

    It takes no running mesh, but to read that key: so only the mesh's owner can.
    """
    if expires > _MAX_TOKEN_SECONDS:
        raise click.BadParameter(
            "a token is good for 24h at most; make a key instead.", param_hint="--expires"
        )
    from cli import key_token

    key_token.mint(invocation, role=role, subject=subject, seconds=expires)
