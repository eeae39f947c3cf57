"""`agentmesh bench growth`."""

import click

from cli.command import Example, MeshCommand, pass_invocation
from cli.invocation import Invocation


@click.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh bench growth", "executors, services, partitions and backlog in turn"),
        Example(
            "agentmesh bench growth --executors 1,2,4 --replicas 1 --partitions 1 --backlogs 0",
            "executors alone",
        ),
        Example("agentmesh bench growth --backlogs 0,100000,1000000", "up to a million queued"),
    ],
)
@click.option("--executors", default="1,2,4", show_default=True, metavar="N,N", help="Executors.")
@click.option(
    "--replicas",
    default="1,2",
    show_default=True,
    metavar="N,N",
    help="Processes of governor, reasoning and tool each.",
)
@click.option(
    "--partitions",
    default="1,4",
    show_default=True,
    metavar="N,N",
    help="Streams into which the task log is cut.",
)
@click.option(
    "--backlogs",
    default="0,100000",
    show_default=True,
    metavar="N,N",
    help="Tasks that are queued beforehand.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    default=10.0,
    show_default=True,
    metavar="S",
    help="Length of a round; each mesh has three.",
)
@click.option(
    "--sync",
    type=click.Choice(["always", "default"]),
    help="Whether NATS flushes each write before it acknowledges (default: always).",
)
@pass_invocation
def growth(invocation: Invocation, seconds: float, sync: str | None, **lists: str) -> None:
    """Measure how throughput grows with processes, partitions and backlog.

    The first number of each list makes the first mesh; every other mesh differs from it in one
    thing. The load is a closed loop of 64 reference tasks of 16 tenants. On one machine all
    processes share its processors: this shows what a further process costs there, not what it
    brings on a machine of its own, and a line says so first where there are more of them than
    processors. The exit code is 1 where a task failed or an audit found
    anything.
    """
    from cli import growth_calls

    if not growth_calls.bench_growth(invocation, lists, seconds=seconds, sync=sync):
        raise click.exceptions.Exit(1)
