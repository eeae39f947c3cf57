"""`agentmesh bench gateway`."""

import click

from cli.command import Example, MeshCommand, pass_invocation
from cli.invocation import Invocation

# As in bench.gateway.run, which takes longer to load than this help may.
_NAMES = ("upstream", "agentmesh", "agentmesh-streams", "litellm")


@click.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh bench gateway", "three rounds at 200 calls a second"),
        Example("agentmesh bench gateway --skip litellm --rounds 1", "ours alone, once"),
        Example("agentmesh bench gateway --rate 100 --json | jq .promises", "for a script"),
    ],
)
@click.option(
    "--skip", type=click.Choice(_NAMES), multiple=True, help="Leave this one out; may be repeated."
)
@click.option(
    "--rate",
    type=click.FloatRange(1, 20_000),
    default=200.0,
    show_default=True,
    metavar="N",
    help="Calls a second, at random distances.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    default=10.0,
    show_default=True,
    metavar="S",
    help="How long calls come at that rate; the other measurements take half as long each.",
)
@click.option(
    "--warm-up",
    type=click.FloatRange(0.1, 3600),
    default=2.0,
    show_default=True,
    metavar="S",
    help="Load before that which does not count.",
)
@click.option(
    "--in-flight",
    type=click.IntRange(1, 1000),
    default=32,
    show_default=True,
    metavar="N",
    help="So many calls at once, where it is measured how many there can be.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 100),
    default=3,
    show_default=True,
    metavar="N",
    help="How often each is measured, in turn with the others.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the random distances.")
@pass_invocation
def gateway(
    invocation: Invocation,
    skip: tuple[str, ...],
    rate: float,
    seconds: float,
    warm_up: float,
    in_flight: int,
    rounds: int,
    seed: int,
) -> None:
    """Measure what it costs to pass a call on to a model, beside the LiteLLM proxy.

    A stub that speaks OpenAI's API answers at once. It is called directly, through reasoning
    behind Envoy, and through the LiteLLM proxy: at a steady rate, where a latency counts from
    when the call was due; one at a time; as streams, up to the first token; and so many at once
    that the system is busy, with all of its processes on one core. CPU is that of every process
    of the system, for a call at the steady rate. Medians of the rounds are shown.

    LiteLLM is installed by pip when it is first measured, from a lock with hashes, into
    ~/.cache/agentmesh/peers, and nothing else here needs it. It runs without keys and telemetry,
    and listens on this machine alone. The exit code is 1 where a system could not be measured.
    """
    from bench.gateway.rounds import Load
    from cli import bench_gateway_calls

    load = Load(
        rate=rate,
        seconds=seconds,
        warm_up_seconds=warm_up,
        in_flight=in_flight,
        seed=seed,
    )
    names = [each for each in _NAMES if each not in skip]
    if not bench_gateway_calls.bench_gateway(invocation, names, load, rounds):
        raise click.exceptions.Exit(1)
