"""`agentmesh status`."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from cli.command import Example, MeshCommand, pass_invocation
from cli.invocation import Invocation
from cli.own_mesh import own_mesh
from cli.problem import Problem
from cli.wording import moment, seconds
from tier import api as tiers


@click.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh status", "what runs, and what it uses"),
        Example("agentmesh status --json | jq .processes", "the same for a script"),
    ],
)
@pass_invocation
def status(invocation: Invocation) -> None:
    """Show what runs and how it is.

    The exit code is 1 where no mesh runs, or where a part of it is not healthy.
    """
    state = own_mesh(invocation)
    if state is None:
        if invocation.terminal.as_json:
            invocation.terminal.document({"running": False, "data_dir": str(invocation.data_dir)})
            raise click.exceptions.Exit(1)
        raise Problem(
            f"No mesh runs with data directory {invocation.data_dir}.",
            "Start one with `agentmesh up`.",
        )
    processes = asyncio.run(tiers.status(state))
    if invocation.terminal.as_json:
        invocation.terminal.document(
            {
                **state.to_json(),
                "running": True,
                "healthy": all(each.healthy for each in processes),
                "processes": [asdict(each) for each in processes],
                "scale": _scale(invocation),
            }
        )
    else:
        _print(invocation, state, processes)
    if not all(each.healthy for each in processes):
        raise click.exceptions.Exit(1)


def _print(
    invocation: Invocation, state: tiers.MeshState, processes: list[tiers.ProcessStatus]
) -> None:
    terminal = invocation.terminal
    age = (datetime.now(UTC) - state.started).total_seconds()
    terminal.fields(
        [
            ("Mesh", f"{state.tier.value}, version {state.version}"),
            ("Gateway", f"{state.address} (gRPC, gRPC-web, JSON)"),
            ("Admin", str(state.admin_address or "")),
            ("TLS", f"{state.tls_address}, trust {_authority(state)}" if state.tls_address else ""),
            ("Callers", _callers(state)),
            ("Data", str(state.data_dir)),
            ("Config", str(state.config) if state.config else ""),
            ("Scale", _scale_text(invocation)),
            ("Since", f"{moment(state.started)} ({seconds(age)})"),
        ]
    )
    terminal.say()
    terminal.table(
        (
            *("PROCESS", "STATE", "PID", "CPU %", "MB", "CALLS/S", "RESTARTS"),
            *("LISTENS", "VERSION", "DETAIL"),
        ),
        [
            (
                each.name,
                "healthy" if each.healthy else "DOWN",
                str(each.pid or "-"),
                f"{each.cpu_percent:.1f}",
                f"{each.memory_mb:.0f}",
                "-" if each.calls_per_second is None else f"{each.calls_per_second:.1f}",
                str(each.restarts),
                _places(each),
                each.version or "-",
                f"{each.detail}; ended last: {each.last_death}" if each.last_death else each.detail,
            )
            for each in processes
        ],
        right=("PID", "CPU %", "MB", "CALLS/S", "RESTARTS"),
    )
    terminal.say(
        f"Ports without an address are on {tiers.LOOPBACK}, which other machines do not reach."
    )
    for note in state.notes:
        terminal.say(f"Note: {note}", style="yellow")


def _scale(invocation: Invocation) -> Mapping[str, int] | None:
    """How many processes of parts are wanted, where somebody said; None where that is damaged."""
    try:
        return tiers.kept_scale(invocation.data_dir)
    except tiers.ScaleUnreadable:
        return None


def _scale_text(invocation: Invocation) -> str:
    counts = _scale(invocation)
    if counts is None:
        return "unknown to the next `up`: see `agentmesh scale --forget`"
    text = " ".join(f"{part}={count}" for part, count in sorted(counts.items()))
    return f"{text}, also at the next `up`" if text else ""


def _places(process: tiers.ProcessStatus) -> str:
    """Where it listens; ports alone on the loopback interface."""
    found = process.listens or tuple(f"{tiers.LOOPBACK}:{port}" for port in process.ports)
    return " ".join(each.removeprefix(f"{tiers.LOOPBACK}:") for each in found) or "-"


def _authority(state: tiers.MeshState) -> Path:
    return state.data_dir / "certificates" / "authority" / "certificate.pem"


def _callers(state: tiers.MeshState) -> str:
    """Who may call."""
    if state.tls_address is None:
        return "anybody on this machine, as an administrator of any tenant"
    return (
        f"with an API key or a token; the owner's key is {state.data_dir / 'access' / 'local.key'}"
    )
