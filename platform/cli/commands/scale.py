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
    ],
)
@click.argument("parts", metavar="PART=COUNT...", nargs=-1, required=True)
@pass_invocation
def scale(invocation: Invocation, parts: tuple[str, ...]) -> None:
    """Change how many processes parts of a running staging mesh have.

    PART is executor, governor, reasoning or tool; coordinator and memory where
    what they keep is in a database that several can share. New processes get
    calls once they serve; those that go get no more, and end when the calls that
    they have are done. The next `up` starts with what it is told itself.
    """
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
