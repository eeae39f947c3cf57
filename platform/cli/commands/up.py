"""`agentmesh up`."""

import os
from pathlib import Path
from threading import Event

import click

from cli import servers
from cli.command import Example, MeshCommand, pass_invocation
from cli.invocation import Invocation
from cli.mesh_access import show, show_start
from cli.problem import Problem
from tier import api as tiers


@click.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh up", "run a mesh until Ctrl-C"),
        Example("agentmesh up --detach", "run it in the background; `agentmesh down` stops it"),
        Example("agentmesh up --tier staging --executors 2", "a process for each service"),
        Example(
            "agentmesh up --data-dir /tmp/try --port 9080 --detach", "run a second one beside it"
        ),
    ],
)
@click.option(
    "--tier",
    type=click.Choice([each.value for each in tiers.Tier]),
    default=tiers.Tier.PROTOTYPE.value,
    show_default=True,
    help="prototype: all services in one process. staging: a process a service.",
)
@click.option("--detach", is_flag=True, help="Return when the mesh is ready, and leave it running.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings of the services, in YAML.",
)
@click.option(
    "--task-partitions",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Into how many streams a new task log is cut, by tenant; one that is there stays as it is."
    "  [default: 1]",
)
@click.option(
    "--executors",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Executor processes of staging.  [default: as last time, else 1]",
)
@click.option(
    "--replicas",
    type=click.IntRange(1, 16),
    metavar="N",
    help="Processes of staging for governor, reasoning and tool each; for the coordinator, too,"
    " where its read model is in PostgreSQL.  [default: as last time, else 1]",
)
@click.option(
    "--listen",
    default=tiers.LOOPBACK,
    show_default=True,
    metavar="ADDRESS",
    help="Where staging's gateway takes TLS; beyond this machine with credentials only.",
)
@click.option(
    "--no-postgres", is_flag=True, help="Staging without the PostgreSQL that this machine has."
)
@click.option("--no-auth", is_flag=True, help="Staging without credentials: anybody may call.")
@click.option("--no-mtls", is_flag=True, help="Staging without TLS between its processes.")
@pass_invocation
def up(
    invocation: Invocation,
    tier: str,
    detach: bool,
    config: Path | None,
    task_partitions: int | None,
    executors: int | None,
    replicas: int | None,
    listen: str,
    no_postgres: bool,
    no_auth: bool,
    no_mtls: bool,
) -> None:
    """Start a mesh on this machine.

    It keeps its state in the data directory: `down` and `up` again loses
    nothing. The gateway takes gRPC, gRPC-web and JSON on port 8080; --port
    moves it. Staging takes TLS, too, on 8443, and asks for an API key or a
    token on both; the command sends the key that its data directory holds.
    """
    if invocation.gateway:
        raise Problem("--gateway names a mesh that runs already; `up` takes --port.", exit_code=2)
    if config is not None and not config.is_file():
        raise Problem(f"{config}: no such file.", "Check the path given with --config.")
    servers.provide(os.environ)
    options = tiers.MeshOptions(
        tier=tiers.Tier(tier),
        data_dir=invocation.data_dir,
        port=tiers.MeshOptions().port if invocation.port is None else invocation.port,
        config=config.absolute() if config else None,
        task_partitions=task_partitions,
        executors=executors,
        replicas=replicas,
        postgres=None if no_postgres else tiers.find_postgres(os.environ),
        listen=listen,
        no_auth=no_auth,
        no_mtls=no_mtls,
    )
    ready = Event()
    try:
        if detach:
            state = tiers.start_detached(options, lambda event: show_start(invocation, event))
            _tell(invocation, state, "It runs in the background; `agentmesh down` stops it.")
        else:
            from cli import async_run

            async_run.run(_hold(invocation, options, ready))
    except KeyboardInterrupt:
        # Once it is ready that is the ordinary way to end it.
        if not ready.is_set():
            raise Problem(
                "Interrupted: the mesh was not ready yet, and what was started of it has ended.",
                exit_code=130,
            ) from None


async def _hold(invocation: Invocation, options: tiers.MeshOptions, ready: Event) -> None:
    mesh = await tiers.start(options, lambda event: show_start(invocation, event))
    ready.set()
    try:
        _tell(invocation, mesh.state, "Ctrl-C stops it.")
        await mesh.wait()
    finally:
        await mesh.stop(lambda event: show(invocation, event))


def _tell(invocation: Invocation, state: tiers.MeshState, how_to_end: str) -> None:
    if invocation.terminal.as_json:
        invocation.terminal.line(state.to_json())
    else:
        invocation.terminal.say(f"The mesh is ready at {state.address}. {how_to_end}", style="bold")
