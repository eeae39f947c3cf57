"""`agentmesh bench tasks`."""

from pathlib import Path
from typing import Any

import click

from cli.choices import LANES
from cli.command import Example, MeshCommand, pass_invocation
from cli.invocation import Invocation


@click.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh bench tasks", "closed loop, 64 in flight, three rounds of ten seconds"),
        Example(
            "agentmesh bench tasks --rate 5000 --seconds 20",
            "5,000 a minute, as independent users send them",
        ),
        Example("agentmesh bench tasks --arrivals spike", "how soon a spike is forgotten"),
        Example(
            "agentmesh bench tasks --trace conv.jsonl --speed 10 --chart conv.svg",
            "recorded arrivals, ten times as fast, with a chart",
        ),
        Example("agentmesh bench tasks --flood", "one tenant's latency beside another's flood"),
        Example("agentmesh bench tasks --backlog 1000000", "what a million queued tasks cost"),
        Example("agentmesh bench tasks --json | jq .tasks_per_minute", "for a script"),
    ],
)
@click.option("--seconds", type=float, metavar="S", help="Length of a round (default 10).")
@click.option("--rounds", type=int, metavar="N", help="How many rounds to measure (default 3).")
@click.option(
    "--warm-up",
    type=float,
    default=5.0,
    show_default=True,
    metavar="S",
    help="Load before the first round that does not count.",
)
@click.option(
    "--in-flight",
    type=int,
    metavar="N",
    help="Closed loop: so many callers, each with the next task when its last has ended "
    "(default 64).",
)
@click.option(
    "--rate",
    type=float,
    metavar="N",
    help="Open loop: tasks a minute, whether earlier ones have ended or not. With --flood: those "
    "of the tenant that is measured (default 300).",
)
@click.option(
    "--arrivals",
    type=click.Choice(["constant", "poisson", "spike", "trace"]),
    help="Open loop: how tasks arrive (default poisson with --rate, trace with --trace).",
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Replay recorded arrivals: JSON lines with TIMESTAMP, ContextTokens, GeneratedTokens.",
)
@click.option("--speed", type=float, metavar="X", help="Replay so many times as fast (default 1).")
@click.option("--base", type=float, metavar="N", help="Spike: tasks a minute around it (50).")
@click.option("--peak", type=float, metavar="N", help="Spike: tasks a minute in it (5000).")
@click.option("--base-seconds", type=float, metavar="S", help="Spike: how long before it (30).")
@click.option("--peak-seconds", type=float, metavar="S", help="Spike: how long it lasts (20).")
@click.option("--after-seconds", type=float, metavar="S", help="Spike: how long after it (30).")
@click.option(
    "--flood",
    is_flag=True,
    help="Fairness: a tenant's latency alone, and beside one that submits 100 times as much; "
    "--seconds (60) for each.",
)
@click.option(
    "--backlog",
    type=int,
    metavar="N",
    help="Queue N tasks while nothing takes them, and see what they cost.",
)
@click.option(
    "--latency-ms",
    type=int,
    default=0,
    show_default=True,
    metavar="MS",
    help="How long each call of the stub model and of the stub tool takes.",
)
@click.option("--executors", type=int, default=1, show_default=True, metavar="N", help="How many.")
@click.option(
    "--tier",
    type=click.Choice(["prototype", "staging"]),
    default="staging",
    show_default=True,
    help="prototype: all services in one process. staging: a process a service.",
)
@click.option(
    "--sync",
    type=click.Choice(["always", "default"]),
    help="Whether NATS flushes each write before it acknowledges (default: as the tier does, "
    "always in staging).",
)
@click.option("--no-mtls", is_flag=True, help="Staging without TLS between its processes.")
@click.option(
    "--client",
    type=click.Choice(["run", "follow", "batch"]),
    default="run",
    show_default=True,
    help="How a client waits for its result. run: RunTask, the result alone. follow: RunTask with "
    "every event. batch: BatchSubmitTasks for those that come together, and WatchTask.",
)
@click.option(
    "--lane",
    type=click.Choice(list(LANES)),
    help="That tasks name (default: standard). In batch those of RunTask wait a moment for "
    "company, which costs some time and saves processor time where few are under way.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the random arrivals.")
@click.option(
    "--chart",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    metavar="FILE.svg",
    help="Also draw throughput and latency over time.",
)
@pass_invocation
def tasks(invocation: Invocation, chart: Path | None, **options: Any) -> None:
    """Measure how many durable tasks a mesh runs, how soon, and what they cost.

    The reference task is a model step, a tool step and a model step of stubs that answer at once,
    each recorded before the next, through the gateway and all services. Percentiles of an open
    loop count from when a task was meant to begin. The mesh's own audit follows every run; the
    exit code is 1 where a task failed or was lost, a process died, or the audit found anything.
    """
    from cli import bench_calls

    if not bench_calls.bench_tasks(invocation, options, chart):
        raise click.exceptions.Exit(1)
