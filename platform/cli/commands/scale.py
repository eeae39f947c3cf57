"""`agentmesh scale`."""

import asyncio
from collections.abc import Mapping

import click

from cli.command import Example, MeshCommand, pass_invocation
from cli.invocation import Invocation
from cli.own_mesh import own_mesh
from cli.problem import Problem
from tier import api as tiers


@click.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh scale reasoning=3", "three processes of reasoning"),
        Example("agentmesh scale executor=4 tool=2", "several parts at once"),
        Example("agentmesh scale executor=1", "back to one; what goes finishes what it does"),
        Example("agentmesh scale --forget", "the next `up` starts one of each again"),
    ],
)
@click.argument("parts", metavar="PART=COUNT...", nargs=-1)
@click.option(
    "--forget",
    is_flag=True,
    help="Have the next `up` start one process of each part; what runs goes on.",
)
@pass_invocation
def scale(invocation: Invocation, parts: tuple[str, ...], forget: bool) -> None:
    """Change how many processes parts of a running staging mesh have.

    PART is executor, governor, reasoning or tool; coordinator and memory where
    what they keep is in a database that several can share. New processes get
    calls once they serve; those that go get no more, and end when the calls that
    they have are done. The next `up` starts as many, unless it is told otherwise.
    """
    if forget:
        if parts:
            raise click.UsageError("--forget takes no PART=COUNT.")
        _forget(invocation)
        return
    if not parts:
        raise click.UsageError("Missing argument 'PART=COUNT...'.")
    wanted = _wanted(parts)
    state = own_mesh(invocation)
    if state is None:
        raise Problem(
            f"No mesh runs with data directory {invocation.data_dir}.",
            "Start one with `agentmesh up --tier staging`.",
        )
    if state.tier is not tiers.Tier.STAGING:
        raise Problem(
            "The prototype runs everything in one process.",
            "Start a mesh with `agentmesh up --tier staging`.",
        )
    try:
        scaled = asyncio.run(tiers.scale(invocation.data_dir, wanted))
    except (ConnectionError, TimeoutError) as error:
        raise Problem(
            f"The mesh (pid {state.pid}) does not answer: {str(error) or 'it takes too long'}.",
            "See `agentmesh status`.",
        ) from None
    if invocation.terminal.as_json:
        document = {part: {"before": one, "now": other} for part, (one, other) in scaled.items()}
        invocation.terminal.document({"scaled": document})
        return
    for part, (before, now) in scaled.items():
        invocation.terminal.say(
            f"{part}: {now} as before" if before == now else f"{part}: {now} instead of {before}"
        )


def _forget(invocation: Invocation) -> None:
    own_mesh(invocation)
    forgotten = tiers.forget_scale(invocation.data_dir)
    if invocation.terminal.as_json:
        invocation.terminal.document({"forgotten": forgotten})
    else:
        invocation.terminal.say("The next `agentmesh up` starts one process of each part.")


def _wanted(parts: tuple[str, ...]) -> Mapping[str, int]:
    wanted: dict[str, int] = {}
    for each in parts:
        part, _, count = each.partition("=")
        if not part or not count.isascii() or not count.isdigit():
            raise click.UsageError(f"{each!r} is no PART=COUNT, such as reasoning=3.")
        if part in wanted:
            raise click.UsageError(f"{part} stands there twice.")
        wanted[part] = int(count)
    return wanted
