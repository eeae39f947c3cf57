"""The calls of `agentmesh read-model`, and what they print."""

from collections.abc import AsyncIterable
from typing import Final

from agentmesh.coordinator.v1.read_model_service_pb2 import (
    GetReadModelRequest,
    GetReadModelResponse,
    RebuildReadModelRequest,
    RebuildReadModelResponse,
)
from cli.gateway import CALL_SECONDS, Gateway, call
from cli.invocation import Invocation
from cli.mesh_access import address_of
from cli.plain import to_plain
from cli.problem import Problem
from cli.terminal import Terminal

# As long as the gateway lets a stream last.
_REBUILD_SECONDS: Final = 3600.0
_MEGABYTE: Final = 1_000_000


def status(invocation: Invocation) -> None:
    """Prints how the read model stands."""

    async def run(gateway: Gateway) -> GetReadModelResponse:
        return await gateway.read_model.GetReadModel(GetReadModelRequest(), timeout=CALL_SECONDS)

    found = call(address_of(invocation), invocation.tenant, run)
    terminal = invocation.terminal
    if terminal.as_json:
        terminal.document(to_plain(found))
        return
    terminal.say(f"{found.kind}, {found.size_bytes / _MEGABYTE:,.1f} MB")
    columns = ("STREAM", "POSITION", "LAST", "BEHIND", "SECONDS")
    terminal.table(
        columns,
        [
            (
                each.stream,
                f"{each.position:,}",
                f"{each.last:,}",
                f"{each.events_behind:,}",
                f"{each.behind.ToTimedelta().total_seconds():.1f}",
            )
            for each in found.streams
        ],
        right=columns[1:],
    )


def rebuild(invocation: Invocation) -> None:
    """Has the read model built again, and shows how far it is."""

    async def run(gateway: Gateway) -> RebuildReadModelResponse:
        steps = gateway.read_model.RebuildReadModel(
            RebuildReadModelRequest(), timeout=_REBUILD_SECONDS
        )
        return await _show(invocation.terminal, steps)

    last = call(address_of(invocation), invocation.tenant, run)
    if not last.done:
        raise Problem(
            "The mesh stopped telling how far it is.",
            "See whether it is done with `agentmesh read-model status`.",
        )
    if not invocation.terminal.as_json:
        invocation.terminal.say(f"The read model is built again, from {last.total:,} events.")


async def _show(
    terminal: Terminal, steps: AsyncIterable[RebuildReadModelResponse]
) -> RebuildReadModelResponse:
    """Shows each step, with a bar where a person waits; the last one."""
    last = RebuildReadModelResponse()
    if not terminal.fancy_progress:
        async for last in steps:
            if terminal.as_json:
                terminal.line(to_plain(last))
        return last

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("events"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=terminal.err_console, transient=True) as bar:
        job = bar.add_task("", total=None)
        async for last in steps:
            bar.update(job, completed=last.passed, total=last.total or None)
    return last
