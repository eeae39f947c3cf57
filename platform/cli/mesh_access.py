"""Which mesh a command talks to: the one named, the one that runs, or one of its own."""

import os
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cli import servers
from cli.credentials import gateway_at
from cli.gateway_address import GatewayAddress
from cli.invocation import Invocation
from cli.own_mesh import state_of
from cli.problem import Problem
from tier import api as tier


@dataclass(frozen=True, slots=True)
class Mesh:
    """A mesh that is ready."""

    address: GatewayAddress
    # Whether it was started for this command alone.
    embedded: bool
    # How long it took until it was ready; 0 where it ran already.
    ready_seconds: float = 0.0


def address_of(invocation: Invocation) -> GatewayAddress:
    """The gateway of the mesh that is named or runs, with what it is to be shown.

    Raises Problem where no mesh is, or what was named to be shown is no good.
    """
    address = invocation.named_gateway or _running(invocation)
    if address is None:
        raise Problem(
            f"No mesh runs with data directory {invocation.data_dir}.",
            "Start one with `agentmesh up`, or name one with --gateway HOST:PORT.",
        )
    return gateway_at(invocation, address)


@asynccontextmanager
async def running_or_embedded(invocation: Invocation) -> AsyncGenerator[Mesh]:
    """The mesh that is named or runs, else one of its own, which is gone at the end.

    Raises tier.MeshStartError where it cannot be started.
    """
    address = _answering(invocation)
    if address:
        yield Mesh(gateway_at(invocation, address), embedded=False)
        return
    started = time.monotonic()
    invocation.terminal.progress("No mesh runs, so one is started for this question:")
    servers.provide(os.environ)
    options = tier.MeshOptions(data_dir=invocation.data_dir, port=invocation.port or 0)
    mesh = await tier.start(options, lambda event: show_start(invocation, event))
    try:
        ready_seconds = time.monotonic() - started
        yield Mesh(GatewayAddress(mesh.address), embedded=True, ready_seconds=ready_seconds)
    finally:
        await mesh.stop(lambda event: None)  # the user has the answer and waits for nothing


def show_start(invocation: Invocation, event: tier.Event) -> None:
    """A step of starting. What ends because a start failed, or was interrupted, is told as one."""
    ending = event.phase in (tier.Phase.STOPPING, tier.Phase.STOPPED)
    if not ending or (event.part, event.phase) == ("mesh", tier.Phase.STOPPING):
        show(invocation, event)


def show(invocation: Invocation, event: tier.Event) -> None:
    """A step of starting or stopping, as a line."""
    bad = event.phase in (tier.Phase.DIED, tier.Phase.FAILED)
    line = f"{event.seconds:7.3f} s  {event.part:<11}  {event.text}"
    invocation.terminal.progress(line, style="red" if bad else "dim")


def _running(invocation: Invocation) -> str | None:
    state = state_of(invocation.data_dir)
    return state.address if state else None


def _answering(invocation: Invocation) -> str | None:
    if invocation.gateway:
        return invocation.gateway
    if invocation.port is None:
        return _running(invocation)
    # A named port is that of a running mesh, or the one to use.
    try:
        socket.create_connection(("127.0.0.1", invocation.port), timeout=1.0).close()
    except OSError:
        return None
    return invocation.named_gateway
