"""How the report of a benchmark is shown."""

from bench.tasks.chart import blocks
from bench.tasks.drive import CLIENT
from bench.tasks.report import Report, Round, spread
from cli.terminal import Terminal
from cli.wording import plural, seconds

_MEGABYTE = 1e6
_LEAST_WIDTH = 40
_LABEL_WIDTH = 24


def show(terminal: Terminal, report: Report) -> None:
    """Prints the report for a person."""
    mesh = report.plan.mesh
    terminal.say(
        f"{report.plan.title[:1].upper()}{report.plan.title[1:]}: {mesh.tier} tier,"
        f" {plural(mesh.executors, 'executor')}, stub latency {mesh.latency_ms} ms,"
        f" lane {report.plan.lane}, sync {'always' if mesh.flushes else 'default'}"
        f"{', no mTLS' if mesh.no_mtls else ''}",
        style="bold",
    )
    terminal.say()
    if report.rounds:
        _rounds(terminal, report)
        _processes(terminal, report)
        _over_time(terminal, report)
    _special(terminal, report)
    _verdict(terminal, report)


def _rounds(terminal: Terminal, report: Report) -> None:
    columns = (
        "ROUND",
        "TASKS/MIN",
        "P50 MS",
        "P90 MS",
        "P99 MS",
        "P99.9 MS",
        "MAX MS",
        "CPU MS/TASK",
        "CORES",
        "DISK B/TASK",
    )
    rows = [(each.name, *_cells(each)) for each in report.rounds]
    counted = report.counted
    if len(counted) > 1:
        rows += [
            (name, *(_range_cells(counted, index)))
            for index, name in enumerate(("median", "least", "most"))
        ]
    terminal.table(columns, rows, right=columns[1:])
    terminal.say()


def _figures(each: Round) -> list[float]:
    return [
        each.tasks_per_minute,
        *each.latency_ms.values(),
        each.max_ms,
        each.cpu_ms_per_task,
        each.cores,
        each.data_bytes,
    ]


_FORMATS = ("{:,.0f}", *("{:,.1f}",) * 5, "{:.2f}", "{:.2f}", "{:,.0f}")


def _cells(each: Round) -> list[str]:
    return [form.format(value) for form, value in zip(_FORMATS, _figures(each), strict=True)]


def _range_cells(counted: tuple[Round, ...], index: int) -> list[str]:
    figures = [_figures(each) for each in counted]
    return [
        form.format(spread(column)[index])
        for form, column in zip(_FORMATS, zip(*figures, strict=True), strict=True)
    ]


def _processes(terminal: Terminal, report: Report) -> None:
    names = list(report.counted[0].cpu_ms)
    cpu_ms = {
        name: spread(each.cpu_ms.get(name, 0.0) for each in report.counted)[0] for name in names
    }
    total = sum(cpu_ms.values()) or 1.0
    rows = [
        (name, f"{each:.3f}", f"{each / total:.0%}", _megabytes(report.rss_bytes.get(name, 0)))
        for name, each in sorted(cpu_ms.items(), key=lambda item: -item[1])
    ]
    mesh_ms = total - cpu_ms.get(CLIENT, 0.0)
    mesh_bytes = sum(size for name, size in report.rss_bytes.items() if name != CLIENT)
    rows.append(
        ("without the client", f"{mesh_ms:.3f}", f"{mesh_ms / total:.0%}", _megabytes(mesh_bytes))
    )
    columns = ("PROCESS", "CPU MS/TASK", "SHARE", "MEMORY MB")
    terminal.table(columns, rows, right=columns[1:])
    terminal.say()


def _megabytes(size: int) -> str:
    return f"{size / _MEGABYTE:,.0f}"


def _over_time(terminal: Terminal, report: Report) -> None:
    if not report.seconds:
        return
    width = max(terminal.width - _LABEL_WIDTH - 12, _LEAST_WIDTH) if terminal.fancy else 60
    for name, values in (
        ("tasks a second", [float(each.completed) for each in report.seconds]),
        ("p50 ms", [each.p50_ms for each in report.seconds]),
        ("p99 ms", [each.p99_ms for each in report.seconds]),
    ):
        terminal.say(f"{name:<15} {blocks(values, width)} up to {max(values):,.0f}")
    terminal.say()


def _special(terminal: Terminal, report: Report) -> None:
    if report.plan.spike_end is not None:
        took = report.recovery_seconds
        terminal.say(
            "Latency did not come back to the base's range."
            if took is None
            else f"Latency was back in the base's range {took:g} s after the spike."
        )
    if "fairness" in report.extra:
        fair = report.extra["fairness"]
        terminal.say(
            f"The tenant's p99 was {fair['alone_p99_ms']:,.1f} ms alone"
            f" ({plural(fair['tasks_alone'], 'task')}) and {fair['beside_p99_ms']:,.1f} ms beside"
            f" the flood ({plural(fair['tasks_beside'], 'task')}): {fair['p99_ratio']:.2f} times."
            f" {plural(fair['refused'], 'task')} of the flood were refused."
        )
    if "backlog" in report.extra:
        _backlog(terminal, report)


def _backlog(terminal: Terminal, report: Report) -> None:
    found = report.extra["backlog"]
    standings = (found["short"], found["long"])
    rows = [
        (label, "-", *(form.format(each[key]) for each in standings))
        for label, key, form in (
            ("queued", "queued", "{:,}"),
            ("submitted a minute", "submitted_per_minute", "{:,.0f}"),
            ("dispatched a minute", "dispatched_per_minute", "{:,.0f}"),
            ("dispatch, cpu ms a task", "dispatch_cpu_ms_per_task", "{:.3f}"),
        )
    ]
    rows += [
        (
            f"memory of {name}, MB",
            f"{empty:,.1f}",
            *(f"{each['rss_mb'][name]:,.1f}" for each in standings),
        )
        for name, empty in found["empty_rss_mb"].items()
    ]
    rows += [
        (
            f"page of the list, {kind.replace('_', ' ')}, ms",
            "-",
            *(f"{each['list_page_ms'][kind]:,.1f}" for each in standings),
        )
        for kind in found["short"]["list_page_ms"]
    ]
    columns = ("", "EMPTY", "SHORT QUEUE", "BACKLOG")
    terminal.table(columns, rows, right=columns[1:])
    terminal.say()


def _verdict(terminal: Terminal, report: Report) -> None:
    for text, count in sorted(report.errors.items(), key=lambda each: -each[1]):
        terminal.say(f"{plural(count, 'task')} failed: {text}", style="bold red")
    for text in report.deaths:
        terminal.say(text, style="bold red")
    for name in report.empty:
        text = f"No task ended in {name}; --seconds makes rounds longer."
        terminal.say(text, style="bold red")
    for count, what in (
        (report.lost, "lost"),
        (report.doubled, "doubled"),
        (report.unproven, "succeeded for the client alone, not in the log"),
    ):
        if count:
            terminal.say(f"{plural(count, 'task')} {what}", style="bold red")
    for text in report.proof.findings:
        terminal.say(f"Audit: {text}", style="bold red")
    states = ", ".join(f"{count:,} {state}" for state, count in report.proof.tasks.items())
    if report.proof.clean:
        terminal.say(
            f"The audit found nothing: {states or 'no tasks'} ({seconds(report.proof.seconds)}).",
            style="green",
        )
