"""The journal of usage over a real broker."""

import pytest

from agentmesh.governor.v1.usage_record_pb2 import UsageRecord, UsageRecords
from meshkit.bus import Bus
from meshkit.errors import DependencyUnavailable
from meshkit.ids import RandomIds
from meshtest.nats_server import NatsServer
from services.governor.journal_jetstream import JetStreamJournal
from services.governor.usage_stream import STREAM, SUBJECT, usage_stream_spec

pytest_plugins = ["meshtest.fixtures"]


def _records(*keys: str) -> list[UsageRecord]:
    return [UsageRecord(tenant="acme", key=key, model="m") for key in keys]


async def test_a_batch_is_one_message_and_appending_gives_its_place(nats_url: str) -> None:
    """Each batch has the sequence that the ledger will have passed when it holds it."""
    async with await Bus.connect(nats_url, name="test") as bus:
        journal = JetStreamJournal(bus, RandomIds())
        await journal.prepare(usage_stream_spec(keep_days=90, max_bytes=None))
        assert await journal.append(_records("a", "b")) == 1
        assert await journal.append(_records("b")) == 2
        stored = [message async for message in bus.read(STREAM, SUBJECT)]
    keys = [
        [record.key for record in UsageRecords.FromString(message.payload).records]
        for message in stored
    ]
    assert keys == [["a", "b"], ["b"]]


async def test_what_was_appended_outlives_a_broker_that_is_killed(
    nats_url: str, shared_nats: NatsServer
) -> None:
    """An acknowledged record is on disk."""
    async with await Bus.connect(nats_url, name="test") as bus:
        journal = JetStreamJournal(bus, RandomIds())
        await journal.prepare(usage_stream_spec(keep_days=None, max_bytes=None))
        await journal.append(_records("a"))
        shared_nats.restart()
        assert await journal.append(_records("b")) == 2


async def _fill(journal: JetStreamJournal) -> None:
    for _ in range(100):
        await journal.append(_records("k" * 200))


async def test_a_full_journal_refuses_and_forgets_nothing(nats_url: str) -> None:
    """A record that the ledger may still need is never dropped for a new one."""
    async with await Bus.connect(nats_url, name="test") as bus:
        journal = JetStreamJournal(bus, RandomIds())
        await journal.prepare(usage_stream_spec(keep_days=90, max_bytes=2_000))
        with pytest.raises(DependencyUnavailable) as caught:
            await _fill(journal)
        assert str(caught.value) == (
            "Failed to write to the journal of usage: Failed to publish to usage:"
            " maximum bytes exceeded."
        )
        assert caught.value.metadata == {"dependency": "journal"}
        kept = [message.sequence async for message in bus.read(STREAM, SUBJECT)]
        assert kept == list(range(1, kept[-1] + 1))
