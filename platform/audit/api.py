"""Auditing a mesh: all that others use of this package."""

from datetime import timedelta
from typing import Final

from redis.asyncio import Redis

from audit.auditor import Auditor, Progress
from audit.blob_examination import BlobExamination
from audit.blobs_jetstream import JetStreamBlobs
from audit.budget_words_jetstream import JetStreamBudgetWords
from audit.call_records_redis import RedisCallRecords
from audit.charge_examination import ChargeExamination
from audit.effect_examination import EffectExamination
from audit.family_examination import FamilyExamination
from audit.finding import SAYS, Finding, Invariant
from audit.ledger_examination import LedgerExamination
from audit.ledger_sql import SqlLedger
from audit.log_jetstream import JetStreamLog
from audit.lost_examination import LostExamination
from audit.remembered import Remembered
from audit.report import Report
from audit.spend_counters_redis import RedisSpendCounters
from audit.spend_examination import SpendExamination
from audit.usage_jetstream import JetStreamUsage
from meshkit.bus import Bus
from meshkit.clock import Clock, SystemClock

# What the tool service remembers, less an hour for the audit itself.
_CALLS_REMEMBERED: Final = Remembered(
    shortest=timedelta.min, longest=timedelta(days=7) - timedelta(hours=1)
)

__all__ = ["SAYS", "Finding", "Invariant", "Progress", "Report", "run"]


async def run(
    bus: Bus,
    redis: Redis,
    *,
    counters: Redis | None = None,
    ledger: str = "",
    tenant: str = "",
    clock: Clock | None = None,
    progress: Progress = lambda events, passed, horizon: None,
    read_blobs: bool = False,
    most_findings: int = 1000,
) -> Report:
    """Reads the log and the stores of a mesh, which may be running, and writes nothing.

    Args:
        bus: The mesh's broker.
        redis: The mesh's Redis.
        counters: The one that has the counters of spending; None where that is the same.
        ledger: Where the governor's ledger is, a file or an address; empty to leave it out.
        tenant: Whose tasks to look at; empty for all.
        clock: The machine's where None.
        progress: Told now and then how far the log was read.
        read_blobs: Read all large content, instead of only seeing whether it is there.
        most_findings: How many findings are listed.

    Raises:
        DependencyUnavailable: The broker, Redis or the ledger does not answer.
    """
    clock = clock or SystemClock()
    log = await JetStreamLog.open(bus)
    journal = JetStreamUsage(bus)
    auditor = Auditor(
        log=log,
        examinations=(
            LostExamination(log, log),
            ChargeExamination(journal, log, clock, tenant=tenant),
            SpendExamination(
                journal,
                RedisSpendCounters(counters or redis),
                JetStreamBudgetWords(bus),
                clock,
                tenant=tenant,
            ),
            *([LedgerExamination(journal, SqlLedger(ledger), tenant=tenant)] if ledger else []),
            EffectExamination(
                RedisCallRecords(redis), log, clock, tenant=tenant, remembered=_CALLS_REMEMBERED
            ),
            BlobExamination(JetStreamBlobs(bus), log, read_all=read_blobs),
            FamilyExamination(log, clock),
        ),
        clock=clock,
        tenant=tenant,
        most_findings=most_findings,
    )
    return await auditor.run(progress)
