"""The audit of a benchmark's mesh: fast and wrong does not count."""

from audit import api
from bench.tasks.bench_mesh import broker_url, redis_url
from bench.tasks.report import Proof
from meshkit import redis_store
from meshkit.bus import Bus
from tier.api import RunningMesh

_MOST_FINDINGS = 20


async def prove(mesh: RunningMesh) -> Proof:
    """Reads the mesh's log and stores. Raises DependencyUnavailable."""
    redis = redis_store.connect(redis_url(mesh))
    try:
        async with await Bus.connect(broker_url(mesh), name="audit") as bus:
            report = await api.run(bus, redis, most_findings=_MOST_FINDINGS)
    finally:
        await redis.aclose()
    return Proof(
        clean=report.clean,
        tasks=dict(report.tasks),
        findings=[each.sentence for each in report.findings],
        seconds=report.seconds,
    )
