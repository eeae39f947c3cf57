"""`agentmesh policy`."""

from pathlib import Path

import click

from cli.command import Example, MeshCommand, MeshGroup, pass_invocation
from cli.invocation import Invocation


@click.group(
    cls=MeshGroup,
    examples=[
        Example("agentmesh policy show", "who may call what"),
        Example("agentmesh policy check mesh/policy.yaml", "before a change is put in force"),
    ],
)
def policy() -> None:
    """See who may call what, and check a change to it.

    All of it stands in mesh/policy.yaml. The gateway of staging goes by it from the next
    `agentmesh up`; the rules between services stand in mesh/envoy/proxy.yaml as well, and are
    the same.
    """


@policy.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh policy show", "every RPC"),
        Example("agentmesh policy show --role operator", "what an operator may call"),
        Example("agentmesh policy show --scope tasks:read", "what a key with this scope may call"),
        Example(
            "agentmesh policy show --json | jq '.rpcs[] | select(.services != [])'", "a script"
        ),
    ],
)
@click.option(
    "--role",
    type=click.Choice(["user", "operator", "admin"]),
    help="What this role may call, with what lower roles may.",
)
@click.option("--scope", metavar="SCOPE", help="What this scope of an API key lets through.")
@pass_invocation
def show(invocation: Invocation, role: str | None, scope: str | None) -> None:
    """Show who may call each RPC: the lowest role, the scope of API keys, and which services.

    An operator may do what a user may, an admin everything. A key that is limited to scopes
    needs the scope and the role. Services call each other by their names alone, and what does
    not stand here is refused.
    """
    from cli import policy_calls

    policy_calls.show(invocation.terminal, role=role, scope=scope)


@policy.command(
    cls=MeshCommand,
    examples=[Example("agentmesh policy check mesh/policy.yaml", "names the line of a mistake")],
)
@click.argument("file", type=click.Path(path_type=Path))
@pass_invocation
def check(invocation: Invocation, file: Path) -> None:
    """Check the policy in FILE against the contracts, and change nothing.

    The exit code is 1 where it is wrong: an RPC is unknown, stands in two lists or in none.
    """
    from cli import policy_calls

    policy_calls.check(invocation.terminal, file)
