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
    columns = ("", *(name.upper() for name in report.admit_ms), "BOUND")
    terminal.table(
        columns,
        [
            _row("Admit, ms", "{:,.2f}", report.admit_ms, f"p99 < {BOUND_ADMIT_MS:g}"),
            *(_row(f"  {hop}", "{:,.2f}", each, "") for hop, each in report.hops_ms.items()),
            _row("under a lease, µs", "{:,.1f}", report.leased_us, f"p99 < {BOUND_LEASED_US:g}"),
        ],
        right=columns[1:],
    )
    terminal.say()
    for what, p99, bound, unit in (
        ("Admit", report.admit_ms["p99"], BOUND_ADMIT_MS, "ms"),
        ("An admission under a lease", report.leased_us["p99"], BOUND_LEASED_US, "µs"),
    ):
        if p99 >= bound:
            terminal.say(
                f"{what} misses its bound: 99 of 100 took up to {p99:,.2f} {unit}, and it"
                f" is under {bound:g} {unit}.",
                style="red",
            )
    cpu = ", ".join(f"{name} {micros:,.0f}" for name, micros in report.cpu_us_per_call.items())
    terminal.say(f"CPU µs for an admission, settled with others: {cpu}")
    if report.errors:
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(report.errors.items()))
        terminal.say(f"Of {plural(report.calls, 'call')} some failed: {told}", style="red")


def _row(name: str, form: str, percentiles: Mapping[str, float], bound: str) -> tuple[str, ...]:
    return (name, *(form.format(each) for each in percentiles.values()), bound)
