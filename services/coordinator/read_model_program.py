"""A process that does nothing but keep a read model, and build it again; only for tests.

    read_model_program.py NATS-URL FOLDER ADDRESS

Prints a line each time that it begins to rebuild.
"""

import asyncio
import io
import sys
from pathlib import Path

from meshkit import log
from meshkit.bus import Bus
from meshkit.errors import Conflict
from meshkit.ids import RandomIds
from services.coordinator.projector import task_projector
from services.coordinator.read_model_database import PURPOSE
from services.coordinator.read_model_file import SqliteFiles
from services.coordinator.read_model_postgres import PostgresCopies
from services.coordinator.read_model_rebuild import Rebuild
from services.coordinator.read_model_writer import ReadModelWriter
from sqlstore.postgres_schema import parse_address
from tasklog.partitions import Partitions


async def open_copies(folder: Path, address: str) -> SqliteFiles | PostgresCopies:
    """The read model at an address, or in a folder where that is empty."""
    if address:
        journal = log.get("test", stream=io.StringIO())
        return await PostgresCopies.open(parse_address(address, setting=PURPOSE.setting), journal)
    return await SqliteFiles.open(folder, RandomIds())


async def main(nats_url: str, folder: str, address: str) -> None:
    """Runs until it is killed."""
    copies = await open_copies(Path(folder), address)
    journal, partitions = log.get("test", stream=io.StringIO()), Partitions().all
    async with await Bus.connect(nats_url, name="test") as bus, asyncio.TaskGroup() as group:
        rebuild = Rebuild(bus, copies, journal, partitions=partitions)
        projector = task_projector(bus, ReadModelWriter(copies), journal, partitions=partitions)
        group.create_task(projector.run())
        group.create_task(rebuild.run())
        while True:
            print("rebuilding", flush=True)
            try:
                async for _ in rebuild.follow():
                    pass
            except Conflict:
                # The server has not noticed yet that another process is dead, or it lives.
                await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
