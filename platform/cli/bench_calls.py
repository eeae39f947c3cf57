"""What `agentmesh bench tasks` runs."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.tasks.backlog import BacklogFailed
from bench.tasks.chart import svg
from bench.tasks.drive import ClientFailed
from bench.tasks.options import BadPlan, Options
from bench.tasks.plan import make_plan
from bench.tasks.report import Report
from bench.tasks.run import run
from cli import async_run, bench_view, servers
from cli.invocation import Invocation
from cli.problem import Problem


def bench_tasks(invocation: Invocation, given: Mapping[str, Any], chart: Path | None) -> bool:
    """Runs the benchmark, prints the report, and answers whether all was well."""
    if invocation.named_gateway:
        raise Problem(
            "A benchmark starts a mesh of its own: --gateway and --port name another.", exit_code=2
        )
    if chart is not None and chart.suffix != ".svg":
        raise Problem(f"--chart must name a file that ends in .svg, not {chart}.", exit_code=2)
    if chart is not None and not chart.absolute().parent.is_dir():
        raise Problem(f"--chart: there is no folder {chart.absolute().parent}.", exit_code=2)
    try:
        plan = make_plan(Options(**given))
    except BadPlan as error:
        raise Problem(f"{error}.", exit_code=2) from None
    servers.provide(os.environ)
    try:
        report: Report = async_run.run(run(plan, invocation.terminal.progress))
    except (BacklogFailed, ClientFailed) as error:
        raise Problem(str(error)) from error
    if chart is not None:
        chart.write_text(svg(report.plan.title, report.seconds), "utf-8")
    if invocation.terminal.as_json:
        invocation.terminal.document(report.to_json())
    else:
        bench_view.show(invocation.terminal, report)
        if chart is not None:
            invocation.terminal.progress(f"The chart is in {chart}.")
    return report.good
