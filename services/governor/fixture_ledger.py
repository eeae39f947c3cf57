"""Test-only: empty ledgers, in a file or on a server, and an empty journal.

The tables of a ledger are made once a module.
"""

import asyncio
import io
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from meshkit import log
from meshkit.bus import Bus
from meshkit.ids import RandomIds
from meshtest.postgres_server import PostgresServer
from services.governor.journal_jetstream import JetStreamJournal
from services.governor.ledger_database import open_ledger
from services.governor.usage_stream import usage_stream_spec
from sqlstore.database import Database


@pytest.fixture(scope="module")
def made_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a ledger in which nothing is, to be copied."""
    folder = tmp_path_factory.mktemp("ledger")
    _make("", folder)
    return folder / "ledger.sqlite"


@pytest.fixture(scope="module")
def made_database(shared_postgres: PostgresServer) -> str:
    """The name of a database of a ledger in which nothing is, to be copied."""
    address = shared_postgres.new_database()
    _make(address, Path())
    return address.rpartition("/")[2]


@pytest.fixture
def ledger_folder(made_file: Path, tmp_path: Path) -> Path:
    """A folder with a ledger of its own."""
    shutil.copy(made_file, tmp_path)
    return tmp_path


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest) -> str:
    """Where a ledger of its own may be: empty for the file in `ledger_folder`."""
    if request.param == "sqlite":
        return ""
    server: PostgresServer = request.getfixturevalue("shared_postgres")
    return server.new_database(like=request.getfixturevalue("made_database"))


@pytest.fixture
async def database(address: str, ledger_folder: Path) -> AsyncIterator[Database]:
    """A ledger of its own, which this process carries."""
    journal = log.get("test", stream=io.StringIO())
    opened = await open_ledger(address, folder=ledger_folder, log=journal)
    await opened.lead()
    yield opened
    await opened.close()


@pytest.fixture
async def bus(nats_url: str) -> AsyncGenerator[Bus]:
    """There is a journal."""
    async with await Bus.connect(nats_url, name="test") as bus:
        await JetStreamJournal(bus, RandomIds()).prepare(
            usage_stream_spec(keep_days=None, max_bytes=None)
        )
        yield bus


def _make(address: str, folder: Path) -> None:
    async def make() -> None:
        journal = log.get("test", stream=io.StringIO())
        await (await open_ledger(address, folder=folder, log=journal)).close()

    # Whatever loop the tests of a module have.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, make()).result()
