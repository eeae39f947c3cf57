"""A process that carries the journal into a ledger and tells alerts; only for tests.

    alert_program.py NATS-URL FOLDER ADDRESS LIMIT

Every tenant has a daily budget of LIMIT micro-USD, with thresholds of 25, 50, 75 and 100 %.
Prints a line for each alert that it has told.
"""

import asyncio
import sys
from pathlib import Path

from meshkit import log
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from services.governor import alert_stream
from services.governor.alert_finder import AlertFinder
from services.governor.alert_recorder import AlertRecorder
from services.governor.alert_store_sql import SqlAlerts
from services.governor.alert_teller import AlertTeller
from services.governor.budget import Budget, Scope, ScopeKind, Thresholds
from services.governor.budgets import Budgets
from services.governor.ledger_database import open_ledger
from services.governor.ledger_projector import ledger_projector
from services.governor.ledger_writer import LedgerWriter
from services.governor.window import WindowKind


async def main(nats_url: str, folder: str, address: str, limit: str) -> None:
    """Runs until it is killed."""
    lines = log.get("test", stream=sys.stdout, pretty=False)

    def budgets_of(tenant: str) -> list[Budget]:
        thresholds = Thresholds(25, 50, 75, 100)
        scope = Scope(ScopeKind.TENANT, tenant)
        return [Budget(scope, WindowKind.DAY, int(limit), thresholds=thresholds)]

    recorder = AlertRecorder(AlertFinder(Budgets(budgets_of), SystemClock()))
    database = await open_ledger(address, folder=Path(folder), log=lines)
    async with await Bus.connect(nats_url, name="test") as bus:
        await bus.ensure_stream(alert_stream.stream_spec(90))
        teller = AlertTeller(bus, SqlAlerts(database), lines)
        recorder.on_recorded(teller.wake)
        projector = ledger_projector(bus, LedgerWriter(database, companions=[recorder]), lines)
        async with asyncio.TaskGroup() as group:
            group.create_task(teller.run())
            group.create_task(projector.run())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
