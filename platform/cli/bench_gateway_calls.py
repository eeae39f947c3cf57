"""What `agentmesh bench gateway` runs."""

import os
from collections.abc import Sequence

from bench.gateway.rounds import Load
from bench.gateway.run import run
from cli import async_run, bench_gateway_view, servers
from cli.invocation import Invocation
from cli.problem import Problem


def bench_gateway(invocation: Invocation, names: Sequence[str], load: Load, rounds: int) -> bool:
    """Runs the benchmark, prints the report, and answers whether all were measured."""
    if invocation.named_gateway:
        raise Problem(
            "A benchmark starts a mesh of its own: --gateway and --port name another.", exit_code=2
        )
    if not names:
        raise Problem("Nothing is left to measure.", "Say less with --skip.", exit_code=2)
    servers.provide(os.environ)
    report = async_run.run(run(names, load, rounds, invocation.terminal.progress))
    if invocation.terminal.as_json:
        invocation.terminal.document(report.to_json())
    else:
        bench_gateway_view.show(invocation.terminal, report)
    return report.good
