"""Runs a benchmark: a mesh of its own, the load, the audit."""

from collections.abc import Callable
from typing import Final

from bench.tasks.backlog import backlog_of
from bench.tasks.bench_mesh import AGENT, bench_mesh, limit
from bench.tasks.drive import drive
from bench.tasks.load import Load
from bench.tasks.plan import FLOODER, TENANT, Plan
from bench.tasks.proof import prove
from bench.tasks.report import Report, fairness, recovery, rounds
from tier.api import Event, Phase, RunningMesh

# How long a task may take before it counts as an error.
_TASK_SECONDS: Final = 120.0

# Told what is being done, in a line.
Tell = Callable[[str], None]


async def run(plan: Plan, tell: Tell) -> Report:
    """Runs the benchmark. Raises MeshStartError, MeshError, ClientFailed and BacklogFailed."""
    deaths: list[str] = []

    def hear(event: Event) -> None:
        if event.phase in (Phase.DIED, Phase.FAILED):
            deaths.append(event.text)
            tell(event.text)

    tell(f"Starting a {plan.mesh.tier} mesh for {plan.title}")
    tenants = [each.tenant for each in plan.streams] or [TENANT]
    async with bench_mesh(plan.mesh, tenants, hear) as mesh:
        if plan.backlog:
            return await _queue(plan, mesh, tell, deaths)
        if plan.flooder_per_second:
            await limit(mesh.address, FLOODER, plan.flooder_per_second)
        return await _drive(plan, mesh, tell, deaths)


async def _drive(plan: Plan, mesh: RunningMesh, tell: Tell, deaths: list[str]) -> Report:
    load = Load(
        address=mesh.address,
        agent=AGENT,
        client=plan.client,
        streams=plan.streams,
        marks=plan.marks,
        task_seconds=_TASK_SECONDS,
        lane=plan.lane,
    )

    def progress(seconds: float, ended: int, failed: int) -> None:
        wrong = f", {failed:,} failed" if failed else ""
        tell(f"{seconds:.0f} of {plan.seconds:.0f} s: {ended:,} tasks ended{wrong}")

    done = await drive(load, mesh, progress)
    return Report(
        plan=plan,
        rounds=rounds(plan, done),
        submitted=done.outcome.submitted,
        accepted=done.outcome.succeeded,
        errors=done.outcome.errors,
        deaths=deaths,
        proof=await prove(mesh, tell),
        rss_bytes=done.rss_bytes,
        seconds=done.outcome.seconds,
        recovery_seconds=recovery(plan, done.outcome.seconds),
        extra=fairness(plan, done),
    )


async def _queue(plan: Plan, mesh: RunningMesh, tell: Tell, deaths: list[str]) -> Report:
    async with backlog_of(mesh, TENANT, tell) as backlog:
        found = await backlog.compare(plan.backlog)
        submitted = backlog.submitted
    return Report(
        plan=plan,
        rounds=(),
        submitted=submitted,
        accepted=submitted,
        errors={},
        deaths=deaths,
        proof=await prove(mesh, tell),
        rss_bytes=found.long.rss_bytes,
        extra=found.to_json(),
    )
