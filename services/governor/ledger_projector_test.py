"""The ledger follows the journal in small steps: who reads it admits calls, too."""

import asyncio
import io
from collections.abc import AsyncGenerator, Mapping, Sequence

import pytest

from agentmesh.governor.v1.usage_record_pb2 import UsageRecord
from meshkit import log
from meshkit.bus import Bus
from meshkit.ids import RandomIds
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from services.governor.journal_jetstream import JetStreamJournal
from services.governor.ledger_charge import Charge
from services.governor.ledger_projector import ledger_projector
from services.governor.usage_stream import usage_stream_spec
from sqlstore.positions import Place

pytest_plugins = ["meshtest.fixtures"]

_BATCH = 50
_BATCHES = 60
# What is cut off is cut off between two batches of settlements.
_MOST_AT_A_TIME = 256 + _BATCH


class _Steps:
    """A ledger that only notes what is brought to it at a time."""

    def __init__(self) -> None:
        self.steps: list[list[str]] = []

    async def lead(self) -> None:
        """At once."""

    async def resign(self) -> None:
        """Nobody else is there."""

    async def places(self) -> Mapping[str, Place]:
        """From the beginning."""
        return {}

    async def apply(
        self, entries: Sequence[Sequence[Charge]], *, stream: str, before: Place, after: Place
    ) -> None:
        """Gives the event loop away, as a database does."""
        self.steps.append([charge.key for charges in entries for charge in charges])
        await asyncio.sleep(0)

    async def clear(self, stream: str) -> None:
        """Never called."""
        raise AssertionError(stream)


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncGenerator[Bus]:
    """With a journal that the ledger has seen nothing of yet."""
    async with await Bus.connect(nats_server.url, name="test") as bus:
        journal = JetStreamJournal(bus, RandomIds())
        await journal.prepare(usage_stream_spec(keep_days=None, max_bytes=None))
        for batch in range(_BATCHES):
            await journal.append(
                [
                    UsageRecord(tenant="acme", key=f"{batch}-{number}", model="m")
                    for number in range(_BATCH)
                ]
            )
        yield bus


async def test_a_ledger_that_is_behind_catches_up_in_small_steps(bus: Bus) -> None:
    """All charges in their order, and never more at a time than are read in a millisecond or two.

    Between two steps the event loop does what others have waiting.
    """
    ledger = _Steps()
    lines = log.get("test", stream=io.StringIO())
    run = asyncio.create_task(ledger_projector(bus, ledger, lines).run())
    try:
        await eventually(lambda: sum(map(len, ledger.steps)) == _BATCHES * _BATCH, 30.0)
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
    assert [key for step in ledger.steps for key in step] == [
        f"{batch}-{number}" for batch in range(_BATCHES) for number in range(_BATCH)
    ]
    assert max(map(len, ledger.steps)) <= _MOST_AT_A_TIME
