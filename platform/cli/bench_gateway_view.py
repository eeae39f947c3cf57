"""How the cost of passing calls on is shown."""

from collections.abc import Callable, Sequence
from typing import Final

from bench.gateway.report import DIRECT, Promise, Report, Summary
from bench.peers.comparison import Spread
from cli.chart import bar
from cli.terminal import Styled, Terminal
from cli.wording import plural

_WIDTH: Final = 40


def show(terminal: Terminal, report: Report) -> None:
    """Prints the report for a person."""
    load = report.load
    terminal.say(
        f"{load.rate:g} calls a second for {load.seconds:g} s, then {load.in_flight} at once on "
        "one core; medians (least to most)",
        style="bold",
    )
    terminal.say()
    if report.systems:
        _figures(terminal, report.systems)
        _charts(terminal, [each for each in report.systems if each.name != DIRECT])
    if report.promises:
        _promises(terminal, report.promises)
    if report.systems:
        terminal.say("How each was set:")
        terminal.fields([(each.title, each.setting) for each in report.systems])
    if not all(each.one_core for each in report.systems):
        terminal.say("This machine has one core: who calls, and the upstream, had a part of it.")
    for each in report.outcomes:
        if each.failure:
            after = f" after {plural(len(each.figures), 'round')}" if each.figures else ""
            terminal.say(f"{each.title} was left out{after}: {each.failure}", style="bold red")


def _figures(terminal: Terminal, systems: Sequence[Summary]) -> None:
    columns = (
        "SYSTEM",
        "CALLS/CORE-S",
        "CALLS/S, 1 CORE",
        "CPU MS/CALL, BUSY",
        "CPU MS/CALL",
        "P50 MS",
        "P99 MS",
        "ALONE MS",
        "FIRST TOKEN MS",
        "CPU BY PROCESS",
    )
    rows = [
        (
            each.title,
            _spread(each.calls_per_core_second, "{:,.0f}") if each.cpu_ms else "-",
            _spread(each.calls_per_second, "{:,.0f}") if each.cpu_ms else "-",
            _spread(each.busy_cpu_ms_per_call, "{:.2f}") if each.cpu_ms else "-",
            _spread(each.cpu_ms_per_call, "{:.2f}") if each.cpu_ms else "-",
            _spread(each.p50_ms, "{:,.2f}"),
            _spread(each.p99_ms, "{:,.1f}"),
            f"{each.alone_p50_ms.median:,.2f}",
            f"{each.first_p50_ms.median:,.2f}",
            ", ".join(f"{part} {ms:.2f}" for part, ms in each.cpu_ms.items() if ms >= 0.005),
        )
        for each in systems
    ]
    terminal.table(columns, rows, right=columns[1:9])
    terminal.say()


def _charts(terminal: Terminal, systems: Sequence[Summary]) -> None:
    _chart(
        terminal, "Calls for a second of a core", systems, lambda each: each.calls_per_core_second
    )
    _chart(terminal, "CPU ms a call, steady", systems, lambda each: each.cpu_ms_per_call)


def _chart(
    terminal: Terminal,
    title: str,
    systems: Sequence[Summary],
    value: Callable[[Summary], Spread],
) -> None:
    values = {each.title: value(each).median for each in systems}
    most = max(values.values(), default=0.0)
    width = max((len(each) for each in values), default=0)
    terminal.say(f"{title}:")
    for name, each in values.items():
        terminal.say(f"  {name:{width}}  {bar([each], most, _WIDTH)}  {each:,.2f}")
    terminal.say()


def _promises(terminal: Terminal, promises: Sequence[Promise]) -> None:
    columns = ("PROMISED", "BOUND", "MEASURED", "")
    rows = [
        (
            each.text,
            f"{'at least' if each.at_least else 'at most'} {each.bound:g}",
            f"{each.value:,.2f}",
            Styled("kept", "green") if each.kept else Styled("missed", "red"),
        )
        for each in promises
    ]
    terminal.table(columns, rows, right=columns[1:3])
    terminal.say()


def _spread(value: Spread, form: str) -> str:
    low, high = form.format(value.least), form.format(value.most)
    return f"{form.format(value.median)} ({low} to {high})"
