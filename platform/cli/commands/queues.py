"""`agentmesh queue`."""

from collections.abc import Sequence
from pathlib import Path

import click

from cli.choices import LANES
from cli.command import Example, MeshCommand, MeshGroup, pass_invocation
from cli.invocation import Invocation
from cli.problem import Problem
from cli.settings_given import parse_settings


@click.group(
    cls=MeshGroup,
    examples=[
        Example("agentmesh queue stats", "how long the queues are"),
        Example("agentmesh queue set lane batch workers=32", "more workers for a lane, at once"),
    ],
)
def queue() -> None:
    """See the queues, and change the limits of lanes and tenants while they run.

    A change reaches every coordinator and executor within a second; tasks that
    run or wait keep their place.
    """


@queue.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh queue stats", "the tenant's queues, against its limits"),
        Example("agentmesh queue stats --all-tenants", "those of all tenants together"),
    ],
)
@click.option("--all-tenants", is_flag=True, help="All tenants together; for operators.")
@pass_invocation
def stats(invocation: Invocation, all_tenants: bool) -> None:
    """Show how many tasks wait and run in each lane."""
    from cli import queue_calls

    queue_calls.stats(invocation, "tenants/-" if all_tenants else invocation.parent)


@queue.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh queue policy > policy.yaml", "to be edited and applied"),
        Example("agentmesh queue policy --json | jq .lanes", "for a script"),
    ],
)
@pass_invocation
def policy(invocation: Invocation) -> None:
    """Print the policy in force: the limits of lanes and tenants, as YAML."""
    from cli import queue_calls

    queue_calls.policy(invocation)


@queue.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh queue apply policy.yaml --dry-run", "what it would change"),
        Example("agentmesh queue apply policy.yaml", "change it"),
    ],
)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--dry-run", is_flag=True, help="Show the difference, and change nothing.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@pass_invocation
def apply(invocation: Invocation, file: Path, dry_run: bool, yes: bool) -> None:
    """Put the policy in FILE in force, as `queue policy` prints it; shows the difference first.

    It is refused where the policy has changed since FILE was written, by the
    etag in it; without one, where it changes between the difference and its end.
    In a terminal it asks first.
    """
    from cli import queue_calls

    if not queue_calls.apply(invocation, file, dry_run=dry_run, ask=not yes):
        raise click.exceptions.Exit(1)


@queue.group(
    "set",
    cls=MeshGroup,
    examples=[
        Example("agentmesh queue set lane batch workers=32", "a lane"),
        Example("agentmesh queue set tenant acme --tier enterprise", "a tenant"),
    ],
)
def set_() -> None:
    """Change single limits; nothing else of the policy changes."""


@set_.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh queue set lane batch workers=32 max_concurrent=128", "more workers"),
        Example("agentmesh queue set lane interactive time_limit=45s", "more time"),
        Example("agentmesh queue set lane standard linger=40ms", "less processor time, some delay"),
    ],
)
@click.argument("name", type=click.Choice(list(LANES)), metavar="LANE")
@click.argument("settings", nargs=-1, required=True, metavar="KEY=VALUE...")
@pass_invocation
def lane(invocation: Invocation, name: str, settings: Sequence[str]) -> None:
    """Change how a lane works.

    Keys are workers, max_concurrent, max_attempts, time_limit, step_time_limit,
    retry_base, retry_max, wait_limit and linger; times are such as 500ms, 30s or 7d.
    """
    given = parse_settings(settings)

    from cli import queue_calls

    queue_calls.set_lane(invocation, name, given)


@set_.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh queue set tier free weight=2 max_queued=5000", "a larger share"),
        Example("agentmesh queue set tier enterprise retention=none", "keep logs for ever"),
        Example("agentmesh queue set tier free requests_per_second=5", "less at the gateway"),
    ],
)
@click.argument("name", metavar="TIER")
@click.argument("settings", nargs=-1, required=True, metavar="KEY=VALUE...")
@pass_invocation
def tier(invocation: Invocation, name: str, settings: Sequence[str]) -> None:
    """Change what tenants of a tier may use.

    Keys are weight, max_concurrent, max_queued, submits_per_second, submit_burst,
    retention (or none), retention_bytes, day_limit_micros, month_limit_micros,
    allowed_model_tiers (such as fast,balanced; nothing for all), requests_per_second,
    request_burst and fail_closed. New tiers are added with `apply`.
    """
    given = parse_settings(settings)

    from cli import queue_calls

    queue_calls.set_tier(invocation, name, given)


@set_.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh queue set tenant acme --tier enterprise", "move a tenant"),
        Example("agentmesh queue set tenant acme --default", "back to the default tier"),
    ],
)
@click.argument("name", metavar="TENANT")
@click.option("--tier", "tier_id", metavar="TIER", help="The tier it belongs to from now on.")
@click.option("--default", "back", is_flag=True, help="The tier of tenants that nobody moved.")
@pass_invocation
def tenant(invocation: Invocation, name: str, tier_id: str | None, back: bool) -> None:
    """Say which tier a tenant belongs to."""
    if (tier_id is not None) == back:
        raise Problem("Give --tier TIER or --default, one of them.", exit_code=2)

    from cli import queue_calls

    queue_calls.set_tenant(invocation, name, tier_id)
