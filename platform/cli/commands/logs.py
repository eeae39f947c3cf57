"""`agentmesh logs`."""

import click

from cli.command import Example, MeshCommand, pass_invocation
from cli.invocation import Invocation
from cli.log_tail import follow, last_lines
from cli.own_mesh import own_mesh
from cli.problem import Problem
from tier import api as tiers


@click.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh logs", "the last lines of every process"),
        Example("agentmesh logs nats --lines 200", "more of one"),
        Example("agentmesh logs mesh --follow", "go on until Ctrl-C"),
    ],
)
@click.argument("process", required=False)
@click.option(
    "--follow", "-f", "following", is_flag=True, help="Go on with what is written, until Ctrl-C."
)
@click.option(
    "--lines",
    type=click.IntRange(0, 1_000_000),
    default=20,
    show_default=True,
    metavar="N",
    help="How many of the last lines of each process.",
)
@pass_invocation
def logs(invocation: Invocation, process: str | None, following: bool, lines: int) -> None:
    """Show what the mesh's processes wrote, also after the mesh has ended.

    `access` is the gateway's line for each call, in JSON.
    """
    own_mesh(invocation)
    files = tiers.log_files(invocation.data_dir)
    if not files:
        raise Problem(
            f"There are no logs in {invocation.data_dir}.", "Start a mesh with `agentmesh up`."
        )
    if process is not None:
        if process not in files:
            raise Problem(f"There is no log of {process!r}; there are {', '.join(files)}.")
        files = {process: files[process]}
    width = max(map(len, files)) if len(files) > 1 else 0
    for name, path in files.items():
        for line in last_lines(path, lines):
            _write(invocation, name, line, width)
    if following:
        for name, line in follow(files):
            _write(invocation, name, line, width)


def _write(invocation: Invocation, process: str, line: str, width: int) -> None:
    if invocation.terminal.as_json:
        invocation.terminal.line({"process": process, "line": line})
    else:
        invocation.terminal.say(f"{process:<{width}}  {line}" if width else line)
