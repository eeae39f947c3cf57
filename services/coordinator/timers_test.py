"""How a coordinator settles what the broker delivers to it."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from google.protobuf.message import DecodeError

from meshkit import log
from meshkit.bus import Delivery
from meshkit.errors import CorruptData, DependencyUnavailable
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from services.coordinator.timers import Attend, Timers, unlimited

pytest_plugins = ["meshtest.fixtures"]


class Delivered:
    """A delivery that remembers how it was settled."""

    subject = "task.acme.t1.control"

    def __init__(self) -> None:
        self.settled = ""

    async def acknowledge(self) -> None:
        self.settled = "acknowledged"

    async def not_now(self, delay_seconds: float) -> None:
        self.settled = f"in {delay_seconds:g} s"

    async def reject(self) -> None:
        self.settled = "rejected"


class Broker:
    """A bus that delivers what it is given, and nothing more."""

    def __init__(self, deliveries: Sequence[Delivered]) -> None:
        self._deliveries = deliveries

    async def consume(self, *_: object, **__: object) -> AsyncGenerator[Delivered]:
        for delivery in self._deliveries:
            yield delivery
        await asyncio.Event().wait()


async def settled(clock: FakeClock, *attends: Attend) -> list[str]:
    """How a delivery each is settled."""
    deliveries = [Delivered() for _ in attends]
    waiting = iter(attends)

    async def attend(delivery: Delivery) -> datetime | None:
        return await next(waiting)(delivery)

    bus: Any = Broker(deliveries)
    spec = unlimited("TASKS", "control", "task.*.*.control", "Test.")
    timers = Timers(bus, spec, attend, clock=clock, log=log.get("test"))
    running = asyncio.create_task(timers.run())
    try:
        await eventually(lambda: all(each.settled for each in deliveries))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return [each.settled for each in deliveries]


def answers(when: datetime | None) -> Attend:
    """Attends by saying when to look again."""

    async def attend(_: Delivery) -> datetime | None:
        return when

    return attend


def fails(error: Exception) -> Attend:
    """Attends by failing."""

    async def attend(_: Delivery) -> datetime | None:
        raise error

    return attend


async def test_what_is_done_is_acknowledged_and_the_rest_comes_back_in_time(
    clock: FakeClock,
) -> None:
    """To the millisecond; what is overdue comes back at once."""
    now = clock.now()
    assert await settled(
        clock,
        answers(None),
        answers(now + timedelta(seconds=1.25)),
        answers(now),
        answers(now - timedelta(days=1)),
    ) == ["acknowledged", "in 1.25 s", "in 0 s", "in 0 s"]


async def test_no_delay_is_longer_than_an_hour(clock: FakeClock) -> None:
    """A clock that jumped while the delay was set costs an hour at most."""
    assert await settled(clock, answers(clock.now() + timedelta(days=30))) == ["in 3600 s"]


async def test_what_fails_is_tried_again_and_what_cannot_be_read_is_not(clock: FakeClock) -> None:
    """And neither keeps the next delivery from being attended to."""
    assert await settled(
        clock,
        fails(DependencyUnavailable("NATS is away.")),
        fails(ValueError("our fault")),
        fails(CorruptData("A blob is gone.")),
        fails(DecodeError("That is no event.")),
        answers(None),
    ) == ["in 5 s", "in 60 s", "rejected", "rejected", "acknowledged"]


async def test_a_process_that_ends_hands_its_deliveries_on(clock: FakeClock) -> None:
    """Another coordinator has them at once, not after the wait."""
    delivery = Delivered()
    begun = asyncio.Event()

    async def attend(_: Delivery) -> datetime | None:
        begun.set()
        await asyncio.Event().wait()
        return None

    bus: Any = Broker([delivery])
    spec = unlimited("TASKS", "control", "task.*.*.control", "Test.")
    running = asyncio.create_task(Timers(bus, spec, attend, clock=clock, log=log.get("test")).run())
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert delivery.settled == "in 0 s"
