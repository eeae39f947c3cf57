"""What the journal says that was charged."""

from contextlib import aclosing
from typing import Final

from agentmesh.governor.v1.usage_record_pb2 import UsageRecord, UsageRecords
from meshkit.bus import Bus

_STREAM: Final = "USAGE"
_SUBJECT: Final = "usage"

# A tenant, and the key under which a call was settled.
Key = tuple[str, str]


async def charges(nats_url: str) -> dict[Key, UsageRecord]:
    """Every charge, by its key; of repeats the first counts, as it does in the ledger."""
    found: dict[Key, UsageRecord] = {}
    async with (
        await Bus.connect(nats_url, name="test") as bus,
        aclosing(bus.read(_STREAM, _SUBJECT)) as messages,
    ):
        async for message in messages:
            for record in UsageRecords.FromString(message.payload).records:
                found.setdefault((record.tenant, record.key), record)
    return found
