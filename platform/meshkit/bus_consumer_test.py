"""Tests of pulling, against a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from meshkit import bus_consumer
from meshkit.bus import Bus, ConsumerSpec, Delivery, StreamSpec
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from meshtest.proxy import FaultProxy

pytest_plugins = ["meshtest.fixtures"]

_STREAM = StreamSpec("WORK", ("work.>",), "Tests.")
_SPEC = ConsumerSpec(
    stream="WORK",
    durable="workers",
    subject_filter="work.>",
    acknowledge_wait_seconds=30,
    max_acknowledge_pending=1000,
    description="Tests.",
)


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """A bus with the stream WORK."""
    async with await Bus.connect(nats_server.url, name="test") as bus:
        await bus.ensure_stream(_STREAM)
        yield bus


async def _publish(bus: Bus, count: int, start: int = 0) -> None:
    await asyncio.gather(
        *(
            bus.publish(f"work.{each}", b"%d" % each, message_id=str(each))
            for each in range(start, start + count)
        )
    )


class _Worker:
    """Takes deliveries, and keeps them until told otherwise."""

    def __init__(self, bus: Bus, spec: ConsumerSpec = _SPEC, limit: int = 8) -> None:
        self.taken: list[Delivery] = []
        self.limit = limit
        self._bus = bus
        self._spec = spec
        self._task = asyncio.ensure_future(self._work())

    async def _work(self) -> None:
        async with aclosing(
            self._bus.consume(self._spec, max_in_flight=lambda: self.limit)
        ) as deliveries:
            async for delivery in deliveries:
                self.taken.append(delivery)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_deliveries_come_once_and_in_order(bus: Bus) -> None:
    """Each message is delivered once, and not again after its acknowledgement."""
    await _publish(bus, 300)
    seen: list[int] = []
    async with aclosing(bus.consume(_SPEC, max_in_flight=64)) as deliveries:
        async for delivery in deliveries:
            seen.append(delivery.sequence)
            assert delivery.delivery_count == 1
            await delivery.acknowledge()
            if len(seen) == 300:
                break
    assert seen == list(range(1, 301))

    async def settled() -> bool:
        info = await bus.consumer_info("WORK", "workers")
        return (info["num_pending"], info["num_ack_pending"]) == (0, 0)

    await eventually(settled)


async def test_no_more_is_pulled_than_there_are_free_slots(bus: Bus) -> None:
    """Unsettled deliveries never exceed the limit; a settled one makes room for the next."""
    await _publish(bus, 20)
    worker = _Worker(bus, limit=5)
    await eventually(lambda: len(worker.taken) == 5)
    info = await bus.consumer_info("WORK", "workers")
    assert info["num_ack_pending"] == 5
    await worker.taken[0].acknowledge()
    await eventually(lambda: len(worker.taken) == 6)
    await worker.stop()


async def test_a_raised_limit_is_noticed_when_nudged(bus: Bus) -> None:
    """A limit that grew is asked for again after a nudge."""
    await _publish(bus, 20)
    worker = _Worker(bus, limit=1)
    await eventually(lambda: len(worker.taken) == 1)
    worker.limit = 4
    bus.nudge()
    await eventually(lambda: len(worker.taken) == 4)
    await worker.stop()


async def test_new_messages_reach_a_waiting_consumer(bus: Bus) -> None:
    """A pull that waits gets what is stored later."""
    worker = _Worker(bus)
    await _publish(bus, 3)
    await eventually(lambda: len(worker.taken) == 3)
    await worker.stop()


async def test_what_was_stored_before_is_not_delivered_where_it_is_not_wanted(bus: Bus) -> None:
    """A consumer of new messages alone begins when it is made, and goes on where it was."""
    await _publish(bus, 3)
    spec = replace(_SPEC, only_new=True)
    await bus.ensure_consumer(spec)
    await _publish(bus, 2, start=3)
    worker = _Worker(bus, spec)
    await eventually(lambda: len(worker.taken) == 2)
    assert [each.payload for each in worker.taken] == [b"3", b"4"]
    await worker.stop()


async def test_not_now_delivers_again_after_the_delay(bus: Bus) -> None:
    """A message that was put off comes again and counts its deliveries."""
    await _publish(bus, 1)
    worker = _Worker(bus)
    await eventually(lambda: worker.taken)
    await worker.taken[0].not_now(0.01)
    await eventually(lambda: len(worker.taken) == 2)
    assert [each.delivery_count for each in worker.taken] == [1, 2]
    await worker.taken[1].acknowledge()
    await worker.stop()


async def test_a_rejected_message_does_not_come_again(bus: Bus) -> None:
    """A message that can never be handled leaves the queue."""
    await _publish(bus, 1)
    worker = _Worker(bus)
    await eventually(lambda: worker.taken)
    await worker.taken[0].reject()

    async def settled() -> bool:
        return (await bus.consumer_info("WORK", "workers"))["num_ack_pending"] == 0

    await eventually(settled)
    assert len(worker.taken) == 1
    await worker.stop()


async def test_work_in_progress_is_not_given_to_others(bus: Bus) -> None:
    """Unsettled work comes again after the wait, unless it is said to be in progress."""
    spec = ConsumerSpec("WORK", "quick", "work.>", 0.3, 1000, "Tests.")
    await _publish(bus, 2)
    worker = _Worker(bus, spec)
    await eventually(lambda: len(worker.taken) == 2)
    kept, left = worker.taken

    async def left_again() -> bool:
        await kept.in_progress()
        return len(worker.taken) > 2

    await eventually(left_again)
    assert worker.taken[2].sequence == left.sequence
    assert worker.taken[2].delivery_count == 2
    await worker.stop()


async def test_a_consumer_that_stops_gives_back_what_it_pulled(bus: Bus) -> None:
    """What was pulled and not given out goes to another at once."""
    await _publish(bus, 8)
    deliveries = bus.consume(_SPEC, max_in_flight=8)
    first = await anext(deliveries)
    await first.acknowledge()
    await deliveries.aclose()
    other = _Worker(bus)
    await eventually(lambda: len(other.taken) == 7)
    await other.stop()


async def test_deliveries_go_on_after_the_server_was_killed(
    bus: Bus, nats_server: NatsServer
) -> None:
    """A consumer survives a crash of the server without being told."""
    await _publish(bus, 1)
    worker = _Worker(bus)
    await eventually(lambda: len(worker.taken) == 1)
    await worker.taken[0].acknowledge()
    nats_server.restart()
    await _publish(bus, 3, start=1)
    await eventually(lambda: {each.sequence for each in worker.taken} == {1, 2, 3, 4})
    await worker.stop()


async def test_a_deleted_consumer_is_made_again(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the consumer disappears from the server, it is set up anew."""
    monkeypatch.setattr(bus_consumer, "_SETUP_PAUSE_SECONDS", 0.01)
    worker = _Worker(bus)
    await _publish(bus, 1)
    await eventually(lambda: len(worker.taken) == 1)
    await worker.taken[0].acknowledge()
    await bus.delete_consumer("WORK", "workers")
    await _publish(bus, 1, start=1)
    await eventually(lambda: any(each.payload == b"1" for each in worker.taken))
    await worker.stop()


async def test_a_silent_connection_is_noticed(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When heartbeats stop, pulling starts anew although the connection looks alive."""
    monkeypatch.setattr(bus_consumer, "_HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(bus_consumer, "_SILENCE_SECONDS", 0.25)
    monkeypatch.setattr(bus_consumer, "_SETUP_PAUSE_SECONDS", 0.01)
    async with (
        FaultProxy(nats_server.port) as proxy,
        await Bus.connect(f"nats://127.0.0.1:{proxy.port}", name="far") as far,
        await Bus.connect(nats_server.url, name="near") as near,
    ):
        await near.ensure_stream(_STREAM)
        spec = ConsumerSpec("WORK", "quick", "work.>", 2.0, 1000, "Tests.")
        worker = _Worker(far, spec)
        await _publish(near, 1)
        await eventually(lambda: len(worker.taken) == 1)
        await worker.taken[0].acknowledge()
        proxy.swallow_answers = True
        await _publish(near, 1, start=1)

        async def lost() -> bool:
            return (await near.consumer_info("WORK", "quick"))["num_ack_pending"] == 1

        await eventually(lost)
        proxy.swallow_answers = False
        await eventually(lambda: b"1" in [each.payload for each in worker.taken])
        await worker.stop()
