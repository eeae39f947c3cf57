"""`agentmesh bench governor`."""

import click

from cli.command import Example, MeshCommand, pass_invocation
from cli.invocation import Invocation


@click.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh bench governor", "500 calls a second for 20 seconds"),
        Example("agentmesh bench governor --rate 1000 --json", "twice as many, for a script"),
        Example("agentmesh bench governor --sync default", "without what the disk takes"),
    ],
)
@click.option(
    "--rate",
    type=click.FloatRange(1, 20_000),
    default=500.0,
    show_default=True,
    metavar="N",
    help="Calls a second, at random distances.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    default=20.0,
    show_default=True,
    metavar="S",
    help="How long it is measured.",
)
@click.option(
    "--warm-up",
    type=click.FloatRange(0, 3600),
    default=3.0,
    show_default=True,
    metavar="S",
    help="Load before that which does not count.",
)
@click.option(
    "--sync",
    type=click.Choice(["always", "default"]),
    help="Whether NATS and Redis flush each write before they acknowledge (default: as staging "
    "does, always).",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the random distances.")
@pass_invocation
def governor(
    invocation: Invocation,
    rate: float,
    seconds: float,
    warm_up: float,
    sync: str | None,
    seed: int,
) -> None:
    """Measure what it takes to ask whether a model call may be made.

    Admit goes through the gateway to the governor and to Redis, as it does for whoever has no
    lease: first each call by itself, then those of one moment together on streams, as reasoning
    asks. A latency counts from when the call was due, in a client process of its own. What was
    admitted is settled in batches meanwhile. Beneath stands where the time went, by the logs of
    gateway and governor. Under a lease reasoning admits a call by itself: that is measured in this
    process.
    The exit code is 1 where a call failed.
    """
    from bench.governor.run import Load
    from cli import bench_governor_calls

    load = Load(
        rate=rate,
        seconds=seconds,
        warm_up_seconds=warm_up,
        seed=seed,
        sync_always=None if sync is None else sync == "always",
    )
    if not bench_governor_calls.bench_governor(invocation, load):
        raise click.exceptions.Exit(1)
