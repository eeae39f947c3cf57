"""The audit of a benchmark's mesh: fast and wrong does not count."""

from collections.abc import Callable
from contextlib import aclosing

from audit import api
from bench.tasks.bench_mesh import broker_url, counters_url, redis_url
from bench.tasks.report import Proof
from meshkit import redis_store
from meshkit.bus import Bus
from tier.api import RunningMesh

_MOST_FINDINGS = 20


async def prove(mesh: RunningMesh, tell: Callable[[str], None]) -> Proof:
    """Reads the mesh's log and stores. Raises DependencyUnavailable."""
    tell("Auditing what the mesh has stored")

    def progress(_events: int, passed: int, horizon: int) -> None:
        tell(f"Auditing: {passed:,} of {horizon:,} events")

    async with (
        aclosing(redis_store.connect(redis_url(mesh))) as redis,
        aclosing(redis_store.connect(counters_url(mesh))) as counters,
        await Bus.connect(broker_url(mesh), name="audit") as bus,
    ):
        report = await api.run(
            bus, redis, counters=counters, progress=progress, most_findings=_MOST_FINDINGS
        )
    return Proof(
        clean=report.clean,
        tasks=dict(report.tasks),
        findings=[each.sentence for each in report.findings],
        seconds=report.seconds,
    )
