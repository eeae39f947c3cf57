"""`agentmesh audit`."""

import click

from cli.command import Example, MeshCommand, pass_invocation
from cli.invocation import Invocation


@click.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh audit", "prove that nothing was lost, and nothing done twice"),
        Example("agentmesh audit --tenant acme --blobs", "one tenant's tasks, large content too"),
        Example("agentmesh audit --json | jq .findings", "what is wrong, for a script"),
        Example(
            "agentmesh audit --nats nats://nats:4222 --redis redis://redis:6379",
            "the stores of a mesh that runs elsewhere",
        ),
    ],
)
@click.option("--nats", metavar="URL", help="The broker (default: that of the running mesh).")
@click.option("--redis", metavar="URL", help="Redis (default: that of the running mesh).")
@click.option(
    "--counters",
    metavar="URL",
    help="The Redis of the counters of budgets, where it is another one, as in staging.",
)
@click.option(
    "--ledger",
    metavar="PLACE",
    help="The governor's ledger: its file, or postgresql://USER@HOST:PORT/DATABASE"
    " (default: that of the running mesh).",
)
@click.option(
    "--blobs",
    is_flag=True,
    help="Read all large content, too (default: see only whether it is there).",
)
@click.option(
    "--findings",
    type=click.IntRange(1, 1_000_000),
    default=1000,
    show_default=True,
    metavar="N",
    help="How many findings to list.",
)
@click.pass_context
@pass_invocation
def audit(
    invocation: Invocation,
    context: click.Context,
    nats: str | None,
    redis: str | None,
    counters: str | None,
    ledger: str | None,
    blobs: bool,
    findings: int,
) -> None:
    """Read the log and the stores of a mesh, and prove its promises.

    The mesh may be at work, and nothing is written. Without --tenant the tasks of all tenants
    are looked at. The exit code is 1 where a promise is broken; docs/audit.md
    says what each finding means and what to do.
    """
    from cli import audit_calls

    stores = audit_calls.stores(invocation, nats, redis, counters, ledger)
    tenant: str = context.meta.get("cli.tenant") or ""
    if not audit_calls.audit(
        invocation, stores, tenant=tenant, read_blobs=blobs, most_findings=findings
    ):
        raise click.exceptions.Exit(1)
