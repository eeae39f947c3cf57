"""Long questions leave the ledger free for short ones."""

import asyncio
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from meshkit.errors import DependencyUnavailable
from meshtest.eventually import eventually
from services.governor.ledger_database import LedgerFile
from services.governor.ledger_turns import InTurns


async def test_one_long_question_at_a_time(tmp_path: Path) -> None:
    """The next one waits, also for one whose asker has given up; a short one does not."""
    database = await LedgerFile.open(tmp_path / "ledger.sqlite")
    turns, go_on, under_way = InTurns(database), threading.Event(), list[str]()

    def long(name: str) -> str:
        under_way.append(name)
        assert go_on.wait(10)
        return name

    first = asyncio.create_task(turns.read(lambda _: long("first")))
    await eventually(lambda: under_way == ["first"])
    second = asyncio.create_task(turns.read(lambda _: long("second")))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert await database.read(lambda on: on.scalar(sa.select(1))) == 1
    assert under_way == ["first"]
    go_on.set()
    assert await second == "second"
    await database.close()


async def test_who_fails_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Its asker is told."""
    database = await LedgerFile.open(tmp_path / "ledger.sqlite")
    turns = InTurns(database)
    for _ in range(2):
        with pytest.raises(DependencyUnavailable) as caught:
            await turns.read(lambda on: on.execute(sa.text("SELECT * FROM nowhere")))
        assert str(caught.value) == "Failed to use the ledger: no such table: nowhere."
    await database.close()
