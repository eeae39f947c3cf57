"""What `agentmesh bench governor` runs and prints."""

import os
from collections.abc import Mapping

from bench.governor.drive import ClientFailed
from bench.governor.run import BOUND_ADMIT_MS, BOUND_LEASED_US, Load, Report, run
from cli import async_run, servers
from cli.invocation import Invocation
from cli.problem import Problem
from cli.terminal import Terminal
from cli.wording import plural


def bench_governor(invocation: Invocation, load: Load) -> bool:
    """Runs the benchmark, prints the report, and answers whether all was well."""
    if invocation.named_gateway:
        raise Problem(
            "A benchmark starts a mesh of its own: --gateway and --port name another.", exit_code=2
        )
    servers.provide(os.environ)
    try:
        report = async_run.run(run(load, invocation.terminal.progress))
    except ClientFailed as error:
        raise Problem(str(error)) from error
    if invocation.terminal.as_json:
        invocation.terminal.document(report.to_json())
    else:
        show(invocation.terminal, report)
    return report.good


def show(terminal: Terminal, report: Report) -> None:
    """Prints the report for a person."""
    terminal.say(
        f"{report.load.rate:g} calls a second for {report.load.seconds:g} s, through the gateway",
        style="bold",
    )
    terminal.say()
    ways = {"Admit": report.by_itself, "Admit on streams": report.streamed}
    columns = ("", *(name.upper() for name in report.leased_us), "BOUND")
    rows: list[tuple[str, ...]] = []
    for way, asked in ways.items():
        rows.append(_row(f"{way}, ms", "{:,.2f}", asked.admit_ms, f"p99 < {BOUND_ADMIT_MS:g}"))
        rows += (_row(f"  {hop}", "{:,.2f}", each, "") for hop, each in asked.hops_ms.items())
    rows.append(
        _row("under a lease, µs", "{:,.1f}", report.leased_us, f"p99 < {BOUND_LEASED_US:g}")
    )
    terminal.table(columns, rows, right=columns[1:])
    terminal.say()
    for what, p99, most, unit in (
        *((way, asked.admit_ms["p99"], BOUND_ADMIT_MS, "ms") for way, asked in ways.items()),
        ("An admission under a lease", report.leased_us["p99"], BOUND_LEASED_US, "µs"),
    ):
        if p99 >= most:
            terminal.say(
                f"{what} misses its bound: 99 of 100 took up to {p99:,.2f} {unit}, and it"
                f" is under {most:g} {unit}.",
                style="red",
            )
    for way, asked in ways.items():
        cpu = ", ".join(f"{name} {micros:,.0f}" for name, micros in asked.cpu_us_per_call.items())
        terminal.say(f"{way}: CPU µs for an admission, settled with others: {cpu}")
        if asked.errors:
            told = ", ".join(f"{count} {reason}" for reason, count in sorted(asked.errors.items()))
            terminal.say(f"Of {plural(asked.calls, 'call')} some failed: {told}", style="red")


def _row(name: str, form: str, percentiles: Mapping[str, float], bound: str) -> tuple[str, ...]:
    return (name, *(form.format(each) for each in percentiles.values()), bound)
