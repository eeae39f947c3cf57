"""What `agentmesh audit` reads, and what it prints."""

from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit import api
from audit.report import Report
from cli import async_run
from cli.invocation import Invocation
from cli.own_mesh import state_of
from cli.problem import Problem
from cli.terminal import Terminal
from cli.wording import dollars, plural, seconds, zoned_moment
from meshkit import redis_store
from meshkit.bus import Bus
from tasklog.partitions import WHOLE
from tier import api as tiers


@dataclass(frozen=True, slots=True)
class Stores:
    """Where a mesh keeps everything."""

    nats_url: str
    redis_url: str
    # The Redis that has the counters of budgets.
    counters_url: str
    # A file or an address; empty where nobody knows.
    ledger: str


def stores(
    invocation: Invocation,
    nats: str | None,
    redis: str | None,
    counters: str | None,
    ledger: str | None,
) -> Stores:
    """The stores that were named, or else those of the mesh that runs."""
    if nats and redis:
        return Stores(nats, redis, counters or redis, ledger or "")
    if nats or redis or counters:
        raise Problem("--nats and --redis belong together: give both, or none.", exit_code=2)
    if invocation.gateway:
        raise Problem(
            "An audit reads the stores, and a gateway does not lead to them.",
            "Name them with --nats and --redis.",
            exit_code=2,
        )
    state = state_of(invocation.data_dir)
    if state is None:
        raise Problem(
            f"No mesh runs with data directory {invocation.data_dir}.",
            "Start one with `agentmesh up`, or name its stores with --nats and --redis.",
        )
    ports = {each.name: each.ports[0] for each in state.processes if each.ports}
    own = tiers.own_ledger(state)
    return Stores(
        f"nats://127.0.0.1:{ports['nats']}",
        f"redis://127.0.0.1:{ports['redis']}",
        f"redis://127.0.0.1:{ports.get('redis-counters', ports['redis'])}",
        ledger or (own if "://" in own or Path(own).exists() else ""),
    )


def audit(
    invocation: Invocation, given: Stores, *, tenant: str, read_blobs: bool, most_findings: int
) -> bool:
    """Audits, prints the report, and answers whether every invariant holds."""
    terminal = invocation.terminal

    def progress(events: int, passed: int, horizon: int) -> None:
        terminal.progress(f"{events:,} events, {passed / horizon:.0%} of the log")

    async def run() -> Report:
        async with (
            aclosing(redis_store.connect(given.redis_url)) as redis,
            aclosing(redis_store.connect(given.counters_url)) as counters,
            await Bus.connect(given.nats_url, name="audit") as bus,
        ):
            return await api.run(
                bus,
                redis,
                counters=counters,
                ledger=given.ledger,
                tenant=tenant,
                progress=progress,
                read_blobs=read_blobs,
                most_findings=most_findings,
            )

    report = async_run.run(run())
    if terminal.as_json:
        terminal.document(_document(report))
    else:
        show(terminal, report)
    return report.clean


def _document(report: Report) -> dict[str, Any]:
    return {
        "clean": report.clean,
        "tenant": report.tenant,
        "horizon": report.horizon,
        "horizons": dict(report.horizons),
        "looked_at_until": report.looked_at_until.isoformat(),
        "judged_until": report.judged_until.isoformat(),
        "seconds": round(report.seconds, 3),
        "tasks": dict(report.tasks),
        "counts": dict(report.counts),
        "remarks": list(report.remarks),
        "findings": [
            {
                "invariant": each.invariant.value,
                "tenant": each.tenant,
                "task": each.task_id,
                "stream": each.stream,
                "stream_sequences": list(each.stream_sequences),
                "sentence": each.sentence,
                "remedy": each.remedy,
            }
            for each in report.findings
        ],
        "findings_left_off": report.findings_left_off,
    }


def show(terminal: Terminal, report: Report) -> None:
    """Prints the report for a person."""
    counts = report.counts
    tasks = ", ".join(f"{count:,} {state}" for state, count in report.tasks.items())
    took = seconds(report.seconds)
    if report.seconds >= 1:
        took += f" ({counts.get('events', 0) / report.seconds:,.0f} events a second)"
    terminal.fields(
        [
            ("Tenant", report.tenant or "all"),
            ("Tasks", tasks or "none"),
            (
                "Events",
                f"{counts.get('events', 0):,} ({counts.get('event_bytes', 0):,} bytes), up to"
                f" {_up_to(report)}",
            ),
            (
                "Charges",
                f"{counts.get('charges', 0):,} ({dollars(counts.get('charged_micros', 0))});"
                f" {counts.get('charged_steps', 0):,} steps with a cost",
            ),
            (
                "Counters",
                f"{counts.get('counters', 0):,}, of {counts.get('settlements', 0):,} settlements;"
                f" {counts.get('reservations', 0):,} reservations",
            ),
            (
                "Ledger",
                f"{counts['ledger_charges']:,} charges"
                if "ledger_charges" in counts
                else "not compared (name it with --ledger)",
            ),
            (
                "Tool calls",
                f"{counts.get('tool_calls', 0):,} in the log,"
                f" {counts.get('call_records', 0):,} records",
            ),
            (
                "Content",
                f"{counts.get('blobs', 0):,} ({counts.get('blob_bytes', 0):,} bytes)"
                " outside the log",
            ),
            ("Time", took),
        ]
    )
    for remark in report.remarks:
        terminal.say(f"Note: {remark}", style="yellow")
    terminal.say()
    recent = _recent(report)
    if recent:
        terminal.say(recent, style="yellow")
    if report.clean:
        until = zoned_moment(report.looked_at_until)
        terminal.say(f"Every invariant holds, looked at until {until}.", style="green")
        return
    terminal.table(
        ("INVARIANT", "TENANT", "TASK", "SEQUENCES", "FINDING"),
        [
            (
                each.invariant.value,
                each.tenant or "-",
                each.task_id or "-",
                _where(each) or "-",
                each.sentence,
            )
            for each in report.findings
        ],
    )
    terminal.say()
    remedies = {(each.invariant.value, each.remedy): None for each in report.findings}
    for invariant, remedy in remedies:
        terminal.say(f"{invariant}: {remedy}")
    total = len(report.findings) + report.findings_left_off
    left = f" {report.findings_left_off:,} are not listed." if report.findings_left_off else ""
    terminal.say(
        f"{plural(total, 'finding')}.{left} See docs/audit.md for what each means.",
        style="bold red",
    )


def _recent(report: Report) -> str:
    """What was too recent to be judged; empty where nothing was."""
    steps, settled = (report.counts.get(f"recent_{name}", 0) for name in ("steps", "settlements"))
    left_out = [
        *([f"{plural(steps, 'step')} with a cost"] if steps else []),
        *([f"{plural(settled, 'charge')} against the counters"] if settled else []),
    ]
    if not left_out:
        return ""
    return (
        f"Too recent to be judged, after {zoned_moment(report.judged_until)}:"
        f" {' and '.join(left_out)}. Audit again in a minute."
    )


def _up_to(report: Report) -> str:
    if len(report.horizons) <= 1:
        return f"stream sequence {report.horizon:,}"
    return " and ".join(f"{last:,} of {stream}" for stream, last in report.horizons.items())


def _where(found: api.Finding) -> str:
    """The stream sequences, after their stream where there are several."""
    sequences = " ".join(map(str, found.stream_sequences))
    return sequences if found.stream in ("", WHOLE.stream) else f"{found.stream}: {sequences}"
