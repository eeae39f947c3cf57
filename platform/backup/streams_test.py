"""Streams are saved while others write to them and read from them, and nothing is lost thereby."""

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from backup.streams import BrokerRefused, connected
from meshkit.bus import Bus, ConsumerSpec, Delivery, StreamSpec
from meshkit.bus_blobs import STREAM as BLOBS
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer

pytest_plugins = ["meshtest.fixtures"]

_SPEC = StreamSpec("THINGS", ("things.*",), "Things.")
_READER = ConsumerSpec(
    stream="THINGS",
    durable="reader",
    subject_filter="things.*",
    acknowledge_wait_seconds=30,
    max_acknowledge_pending=64,
    description="A reader.",
)


class _Kept:
    """A place for a stream."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.chunks.append(data)


@pytest_asyncio.fixture
async def other(tmp_path: Path) -> AsyncGenerator[NatsServer]:
    """A broker that has nothing."""
    server = NatsServer(tmp_path / "other")
    server.start()
    yield server
    server.kill()


async def _take(bus: Bus, count: int) -> list[Delivery]:
    """The next deliveries of the reader, not acknowledged."""
    taken: list[Delivery] = []
    async for each in bus.consume(_READER, max_in_flight=64):
        taken.append(each)
        if len(taken) == count:
            break
    return taken


async def _texts(bus: Bus) -> Sequence[tuple[int, str, bytes]]:
    return [
        (each.sequence, each.subject, each.payload) async for each in bus.read("THINGS", "things.*")
    ]


async def test_what_is_written_meanwhile_is_there_up_to_some_moment(
    nats_server: NatsServer, other: NatsServer
) -> None:
    """No message is missing between the first and the last, and each has its sequence."""
    async with await Bus.connect(nats_server.url, name="test") as bus:
        await bus.ensure_stream(_SPEC)
        for number in range(200):
            await bus.publish(f"things.{number}", os.urandom(50_000), message_id=f"{number}")
        is_saved = asyncio.Event()

        async def write() -> None:
            number = 200
            while not is_saved.is_set():
                await bus.publish(f"things.{number}", b"late", message_id=f"{number}")
                number += 1

        writing = asyncio.create_task(write())
        kept = _Kept()
        async with connected(nats_server.url) as broker:
            stream = await broker.save("THINGS", "streams/THINGS", kept)
        is_saved.set()
        await writing
        before = await _texts(bus)
    # Else the broker was never asked to wait.
    assert len(kept.chunks) > 20
    async with connected(other.url) as broker:
        await broker.restore(stream, kept.chunks)
    async with await Bus.connect(other.url, name="test") as bus:
        after = await _texts(bus)
        assert len(after) >= stream.messages >= 200
        assert after == before[: len(after)]
        # Whoever makes it again changes nothing.
        await bus.ensure_stream(_SPEC)
        assert await bus.publish("things.new", b"", message_id="new") == len(after) + 1


async def test_readers_go_on_where_they_were_before_it_was_saved(
    nats_server: NatsServer, other: NatsServer
) -> None:
    """What they had not acknowledged by then comes again; what they had does not."""
    async with await Bus.connect(nats_server.url, name="test") as bus:
        await bus.ensure_stream(_SPEC)
        for number in range(10):
            await bus.publish(f"things.{number}", b"", message_id=f"{number}")
        taken = await _take(bus, 6)
        for each in taken[:4]:
            await each.acknowledge()
        kept = _Kept()
        async with connected(nats_server.url) as broker:

            async def acknowledged() -> bool:
                (reader,) = await broker.consumers("THINGS")
                return reader.acknowledged == 4

            await eventually(acknowledged)
            stream = await broker.save("THINGS", "streams/THINGS", kept)
    async with connected(other.url) as broker:
        await broker.restore(stream, kept.chunks)
        await broker.restore_consumers(stream)
    async with await Bus.connect(other.url, name="test") as bus:
        assert [each.subject for each in await _take(bus, 6)] == [
            f"things.{number}" for number in range(4, 10)
        ]


async def test_readers_of_what_is_new_only_go_on_too(
    nats_server: NatsServer, other: NatsServer
) -> None:
    """They get what came after what they had, and not only what comes after the restore."""
    spec = ConsumerSpec(
        stream="THINGS",
        durable="reader",
        subject_filter="things.*",
        acknowledge_wait_seconds=30,
        max_acknowledge_pending=64,
        description="A reader.",
        only_new=True,
    )
    async with await Bus.connect(nats_server.url, name="test") as bus:
        await bus.ensure_stream(_SPEC)
        await bus.publish("things.0", b"", message_id="0")
        await bus.ensure_consumer(spec)
        await bus.publish("things.1", b"", message_id="1")
        kept = _Kept()
        async with connected(nats_server.url) as broker:
            stream = await broker.save("THINGS", "streams/THINGS", kept)
    async with connected(other.url) as broker:
        await broker.restore(stream, kept.chunks)
        await broker.restore_consumers(stream)
    async with await Bus.connect(other.url, name="test") as bus:
        async for each in bus.consume(spec, max_in_flight=1):
            assert each.subject == "things.1"
            break


async def test_large_content_comes_along(nats_server: NatsServer, other: NatsServer) -> None:
    """An object store is a stream as others are."""
    content = os.urandom(300_000)
    kept = _Kept()
    async with (
        await Bus.connect(nats_server.url, name="test") as bus,
        connected(nats_server.url) as broker,
    ):
        reference = await bus.put_blob("acme.t1", content, "text/plain")
        stream = await broker.save(BLOBS, "streams/blobs", kept)
    async with connected(other.url) as broker:
        await broker.restore(stream, kept.chunks)
        assert await broker.stream_names() == [BLOBS]
    async with await Bus.connect(other.url, name="test") as bus:
        assert await bus.get_blob("acme.t1", reference) == content


async def test_a_damaged_stream_is_refused(nats_server: NatsServer, other: NatsServer) -> None:
    """The broker looks at what it is given, and says that it is not whole."""
    async with (
        await Bus.connect(nats_server.url, name="test") as bus,
        connected(nats_server.url) as broker,
    ):
        await bus.ensure_stream(_SPEC)
        await bus.publish("things.1", os.urandom(1000), message_id="1")
        kept = _Kept()
        stream = await broker.save("THINGS", "streams/THINGS", kept)
    async with connected(other.url) as broker:
        with pytest.raises(BrokerRefused):
            await broker.restore(stream, [b"".join(kept.chunks)[:-200]])


async def test_a_broker_that_is_away_is_told(nats_server: NatsServer) -> None:
    """At once, with what is wrong."""
    nats_server.kill()
    with pytest.raises(BrokerRefused, match="no connection"):
        async with connected(nats_server.url):
            pass
