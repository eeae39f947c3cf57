"""A process that does nothing but carry the journal into a ledger; only for tests.

    ledger_program.py NATS-URL FOLDER ADDRESS

Prints a line each time that it has written a batch.
"""

import asyncio
import io
import sys
from pathlib import Path

from meshkit import log
from meshkit.bus import Bus
from services.governor.ledger_database import open_ledger
from services.governor.ledger_projector import ledger_projector
from services.governor.ledger_writer import LedgerWriter


async def main(nats_url: str, folder: str, address: str) -> None:
    """Runs until it is killed."""
    journal = log.get("test", stream=io.StringIO())
    database = await open_ledger(address, folder=Path(folder), log=journal)
    async with await Bus.connect(nats_url, name="test") as bus:
        projector = ledger_projector(bus, LedgerWriter(database), journal)
        projector.on_applied(lambda: print("applied", flush=True))
        await projector.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
