"""A mesh's stores as data, to be put into fresh servers with one thing changed."""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import nats
from redis.asyncio import Redis

from agentmesh.governor.v1.usage_record_pb2 import UsageRecord, UsageRecords
from audit import usage_jetstream
from meshkit.bus import Bus, StoredMessage, StreamSpec
from meshkit.bus_blobs import STREAM as BLOBS
from tasklog.partitions import WHOLE

_SPEND: Final = "governor:{spend}:"
# What becomes of a message of the log on its way into the copy: None removes it,
# and leaves its place empty.
Change = Callable[[StoredMessage], StoredMessage | None]


@dataclass(frozen=True, slots=True)
class Consumer:
    """A queue, and how far it had got."""

    durable: str
    subject_filter: str
    acknowledged: int


@dataclass(frozen=True, slots=True)
class Stores:
    """Everything that an audit reads."""

    messages: Sequence[StoredMessage]
    blobs: Sequence[StoredMessage]
    # One of each key: a busy machine settles some more than once.
    usage: Sequence[UsageRecord]
    consumers: Sequence[Consumer]
    # By name: what DUMP gave, and for how many milliseconds it is kept.
    keys: Mapping[bytes, tuple[bytes, int]] = field(repr=False)


async def read(bus: Bus, redis: Redis) -> Stores:
    """Everything, as it stands."""
    client: Any = redis
    return Stores(
        [message async for message in bus.read(WHOLE.stream, WHOLE.all_events)],
        [message async for message in bus.read(BLOBS, "$O.>")],
        await _charges(bus),
        [
            Consumer(
                info["name"],
                info["config"]["filter_subject"],
                int(info["ack_floor"]["stream_seq"]),
            )
            async for info in bus.consumers(WHOLE.stream)
            # Not those of readers, which go with them.
            if "durable_name" in info["config"]
        ],
        {
            key: (await client.dump(key), max(0, await client.pttl(key)))
            async for key in client.scan_iter()
        },
    )


async def _charges(bus: Bus) -> list[UsageRecord]:
    found: dict[tuple[str, str], UsageRecord] = {}
    async for message in bus.read(usage_jetstream.STREAM, usage_jetstream.SUBJECT):
        for record in UsageRecords.FromString(message.payload).records:
            found.setdefault((record.tenant, record.key), record)
    return list(found.values())


async def give_back(redis: Redis) -> None:
    """Gives back what is reserved, as the governor does with the first call after its time."""
    client: Any = redis
    for call in await client.zrange(f"{_SPEND}expiry", 0, -1):
        await client.delete(f"{_SPEND}call:{call.decode()}")
    await client.delete(f"{_SPEND}expiry")
    async for key in client.scan_iter(f"{_SPEND}tenant:*"):
        await client.hset(key, "reserved", 0)


async def write(stores: Stores, bus: Bus, redis: Redis, nats_url: str, change: Change) -> None:
    """Puts it into empty servers. Every message has its old stream sequence."""
    await bus.ensure_stream(WHOLE.stream_spec())
    await bus.ensure_blobs()
    await bus.ensure_stream(
        StreamSpec(usage_jetstream.STREAM, (usage_jetstream.SUBJECT,), "Usage.")
    )
    for record in stores.usage:
        await settle(bus, record)
    removed: list[int] = []
    for message in stores.messages:
        changed = change(message)
        if changed is None:
            removed.append(message.sequence)
        await append(bus, changed or message, expected=message.sequence)
    for message in stores.blobs:
        await append(bus, message)
    client = await nats.connect(nats_url)  # pyright: ignore[reportUnknownMemberType]
    for sequence in removed:
        await _ask(client, f"STREAM.MSG.DELETE.{WHOLE.stream}", {"seq": sequence})
    for each in stores.consumers:
        await _ask(
            client,
            f"CONSUMER.CREATE.{WHOLE.stream}.{each.durable}",
            {
                "stream_name": WHOLE.stream,
                "config": {
                    "durable_name": each.durable,
                    "name": each.durable,
                    "filter_subject": each.subject_filter,
                    "ack_policy": "explicit",
                    "deliver_policy": "by_start_sequence",
                    "opt_start_seq": each.acknowledged + 1,
                },
            },
        )
    await client.close()
    store: Any = redis
    for key, (content, keep_ms) in stores.keys.items():
        await store.restore(key, keep_ms, content)


async def append(bus: Bus, message: StoredMessage, *, expected: int = 0) -> None:
    """Stores a message without asking what stood there before."""
    # Never recognised as a repeat: some faults are repeats.
    number = await bus.publish(message.subject, message.payload, message_id=uuid.uuid4().hex)
    assert expected in (0, number)


async def settle(bus: Bus, record: UsageRecord) -> None:
    """Writes a record into the journal of usage."""
    payload = UsageRecords(records=[record]).SerializeToString()
    await bus.publish(usage_jetstream.SUBJECT, payload, message_id=uuid.uuid4().hex)


async def _ask(client: Any, what: str, request: Mapping[str, Any]) -> None:
    answer = await client.request(f"$JS.API.{what}", json.dumps(request).encode(), timeout=30)
    assert "error" not in json.loads(answer.data), answer.data
