"""How the comparison with other systems is shown."""

from collections.abc import Sequence
from typing import Any

from bench.peers.closed_loop import Load
from bench.peers.comparison import Ratio, Spread, Summary
from bench.peers.rounds import Outcome
from cli.terminal import Terminal
from cli.wording import plural


def show(
    terminal: Terminal,
    load: Load,
    outcomes: Sequence[Outcome],
    measured: Sequence[Summary],
    compared: Sequence[Ratio],
) -> None:
    """Prints the comparison for a person."""
    terminal.say(
        f"Three recorded steps a task, {load.in_flight} in flight, {load.seconds:g} s a round "
        f"after {load.warm_up_seconds:g} s of warm-up; medians (least to most)",
        style="bold",
    )
    terminal.say()
    if measured:
        _figures(terminal, measured)
    if compared:
        _ratios(terminal, measured, compared)
    if measured:
        terminal.say("How each was set:")
        terminal.fields([(each.title, each.setting) for each in measured])
    for each in outcomes:
        if each.failure:
            after = f" after {plural(len(each.figures), 'round')}" if each.figures else ""
            terminal.say(f"{each.title} was left out{after}: {each.failure}", style="bold red")


def document(
    load: Load,
    outcomes: Sequence[Outcome],
    measured: Sequence[Summary],
    compared: Sequence[Ratio],
) -> dict[str, Any]:
    """The comparison as JSON."""
    return {
        "in_flight": load.in_flight,
        "seconds": load.seconds,
        "warm_up_seconds": load.warm_up_seconds,
        "systems": [each.to_json() for each in measured],
        "ratios": [each.to_json() for each in compared],
        "left_out": [
            {"name": each.name, "reason": each.failure, "rounds": len(each.figures)}
            for each in outcomes
            if each.failure
        ],
    }


def _figures(terminal: Terminal, measured: Sequence[Summary]) -> None:
    columns = ("SYSTEM", "TASKS/MIN", "CPU MS/TASK", "P50 MS", "P99 MS", "CPU BY PART")
    rows = [
        (
            each.title,
            _spread(each.tasks_per_minute, "{:,.0f}"),
            _spread(each.cpu_ms_per_task, "{:.2f}"),
            f"{each.p50_ms.median:,.0f}",
            f"{each.p99_ms.median:,.0f}",
            ", ".join(f"{part} {ms:.2f}" for part, ms in each.cpu_ms.items()),
        )
        for each in measured
    ]
    terminal.table(columns, rows, right=columns[1:5])
    terminal.say()


def _ratios(terminal: Terminal, measured: Sequence[Summary], compared: Sequence[Ratio]) -> None:
    titles = {each.name: each.title for each in measured}
    columns = ("COMPARED", "TIMES THE TASKS", "TIMES THE CPU", "TIMES THE P99")
    rows = [
        (
            f"{titles[each.name]} / {titles[each.peer]}",
            f"{each.tasks_per_minute:.2f}",
            f"{each.cpu_ms_per_task:.2f}",
            f"{each.p99_ms:.2f}",
        )
        for each in compared
    ]
    terminal.table(columns, rows, right=columns[1:])
    terminal.say()


def _spread(value: Spread, form: str) -> str:
    low, high = form.format(value.least), form.format(value.most)
    return f"{form.format(value.median)} ({low} to {high})"
