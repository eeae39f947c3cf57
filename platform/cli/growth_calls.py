"""What `agentmesh bench growth` runs and prints."""

import os
from collections.abc import Mapping, Sequence

from bench.growth.grid import Axes, cells, crowding
from bench.growth.run import Grown, grow
from bench.tasks.backlog import BacklogFailed
from bench.tasks.drive import ClientFailed
from bench.tasks.options import BadPlan
from cli import async_run, servers
from cli.invocation import Invocation
from cli.problem import Problem
from cli.terminal import Terminal

_COLUMNS = (
    *("EXECUTORS", "REPLICAS", "PARTITIONS", "QUEUED"),
    *("TASKS/MIN", "LEAST", "MOST", "CPU MS/TASK", "CORES", "P99 MS", "AUDIT"),
)


def bench_growth(
    invocation: Invocation, lists: Mapping[str, str], *, seconds: float, sync: str | None
) -> bool:
    """Runs each mesh in turn, prints what each did, and answers whether all was well."""
    if invocation.named_gateway:
        raise Problem(
            "A benchmark starts meshes of its own: --gateway and --port name another.", exit_code=2
        )
    try:
        chosen = cells(Axes(**{name: _numbers(name, text) for name, text in lists.items()}))
    except BadPlan as error:
        raise Problem(f"{error}.", exit_code=2) from None
    servers.provide(os.environ)
    processors = len(os.sched_getaffinity(0))
    if crowd := crowding(chosen, processors):
        invocation.terminal.progress(crowd)
    growing = grow(
        chosen,
        seconds=seconds,
        sync_always=None if sync is None else sync == "always",
        tell=invocation.terminal.progress,
    )
    try:
        grown = async_run.run(growing)
    except (BacklogFailed, ClientFailed) as error:
        raise Problem(str(error)) from error
    if invocation.terminal.as_json:
        invocation.terminal.document(
            {"processors": processors, "meshes": [each.to_json() for each in grown]}
        )
    else:
        _show(invocation.terminal, grown)
    return all(each.report.good for each in grown)


def _numbers(name: str, text: str) -> Sequence[int]:
    try:
        return tuple(int(each) for each in text.split(","))
    except ValueError:
        raise BadPlan(f"--{name}", f"must be numbers with commas between, not {text!r}") from None


def _show(terminal: Terminal, grown: Sequence[Grown]) -> None:
    terminal.table(_COLUMNS, [_row(each) for each in grown], right=_COLUMNS[:-1])
    terminal.say()
    terminal.say(
        "Each mesh differs from the first in one thing. With tasks queued, TASKS/MIN is how fast"
        " they were handed out, and a queue of 10,000 is in the JSON beside it."
    )


def _row(grown: Grown) -> tuple[str, ...]:
    cell, values = grown.cell, grown.to_json()
    least, most = values.get("tasks_per_minute_range", (None, None))
    return (
        *(f"{each:,}" for each in (cell.executors, cell.replicas, cell.partitions, cell.backlog)),
        f"{grown.tasks_per_minute:,.0f}",
        *(_cell("{:,.0f}", each) for each in (least, most)),
        *(_cell("{:.2f}", values.get(key)) for key in ("cpu_ms_per_task", "cores")),
        _cell("{:,.1f}", values.get("p99_ms")),
        "clean" if grown.report.good else "NOT CLEAN",
    )


def _cell(form: str, value: float | None) -> str:
    return "-" if value is None else form.format(value)
