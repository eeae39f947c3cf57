"""Auditing a mesh: all that others use of this package."""

from redis.asyncio import Redis

from audit.auditor import Auditor, Progress
from audit.finding import SAYS, Finding, Invariant
from audit.log_jetstream import JetStreamLog
from audit.report import Report
from meshkit.bus import Bus
from meshkit.clock import Clock, SystemClock

__all__ = ["SAYS", "Finding", "Invariant", "Progress", "Report", "run"]


async def run(
    bus: Bus,
    redis: Redis,
    *,
    tenant: str = "",
    clock: Clock | None = None,
    progress: Progress = lambda events, stream_sequence, horizon: None,
    most_findings: int = 1000,
) -> Report:
    """Reads the log and the stores of a mesh, which may be running, and writes nothing.

    Args:
        bus: The mesh's broker.
        redis: The mesh's Redis.
        tenant: Whose tasks to look at; empty for all.
        clock: The machine's where None.
        progress: Told now and then how far the log was read.
        most_findings: How many findings are listed.

    Raises:
        DependencyUnavailable: The broker or Redis does not answer.
    """
    auditor = Auditor(
        log=JetStreamLog(bus),
        clock=clock or SystemClock(),
        tenant=tenant,
        most_findings=most_findings,
    )
    return await auditor.run(progress)
