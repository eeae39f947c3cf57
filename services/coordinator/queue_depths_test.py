"""When queues are looked at, and what is counted in between."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agentmesh.common.v1 import tier_pb2
from meshkit.errors import DependencyUnavailable
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from services.coordinator.queue_depths import QueueDepths
from tasklog.queues import Depth
from tasklog.subjects import Queue

pytest_plugins = ["meshtest.fixtures"]

_STANDARD = tier_pb2.LANE_STANDARD


class Queues:
    """A source whose answers the test sets and counts."""

    def __init__(self) -> None:
        self.depths: dict[Queue, Depth] = {}
        self.looks = 0
        self.fails = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    def set(self, queued: int, *, priority: int = 0, delivered: int = 0) -> None:
        """How acme's standard queue of a priority stands."""
        self.depths[Queue("acme", _STANDARD, priority)] = Depth(
            queued=queued, held=1, redelivered=0, delivered=delivered
        )

    async def all(self) -> AsyncIterator[tuple[Queue, Depth]]:
        """What was set, when the test lets it through."""
        self.looks += 1
        found = dict(self.depths)
        await self.may_answer.wait()
        if self.fails:
            raise DependencyUnavailable("away", metadata={"dependency": "nats"})
        for each in found.items():
            yield each


@pytest.fixture
def queues() -> Queues:
    """No queues yet."""
    return Queues()


@pytest.fixture
async def depths(queues: Queues, clock: FakeClock) -> AsyncIterator[QueueDepths]:
    """Looking at `queues` by the fake clock."""
    made = QueueDepths(queues, clock)
    keeping = asyncio.create_task(made.keep())
    yield made
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_priorities_of_a_lane_count_together(queues: Queues, depths: QueueDepths) -> None:
    """A tenant's part of a lane is the sum of its queues."""
    queues.set(3)
    queues.set(4, priority=9)
    assert await depths.queued("acme", _STANDARD) == 7
    assert await depths.queued("acme", tier_pb2.LANE_BATCH) == 0
    assert await depths.queued("other", _STANDARD) == 0
    assert (await depths.look()).line("acme", _STANDARD).held == 2


async def test_nobody_asks_nobody_looks(
    queues: Queues, depths: QueueDepths, clock: FakeClock
) -> None:
    """An idle coordinator does not look; one look serves a second of questions."""
    await clock.advance(3600)
    assert queues.looks == 0
    for _ in range(100):
        await depths.queued("acme", _STANDARD)
    assert queues.looks == 1


async def test_accepted_tasks_count_until_a_look_has_seen_them(
    queues: Queues, depths: QueueDepths, clock: FakeClock
) -> None:
    """Those counted while a look is under way are counted once more, never lost."""
    assert await depths.queued("acme", _STANDARD) == 0
    depths.count("acme", _STANDARD)
    depths.count("acme", _STANDARD)
    assert await depths.queued("acme", _STANDARD) == 2
    queues.set(2)
    queues.may_answer.clear()
    await clock.advance(1)
    asking = asyncio.create_task(depths.queued("acme", _STANDARD))
    await eventually(lambda: queues.looks == 2)
    depths.count("acme", _STANDARD)
    queues.may_answer.set()
    assert await asking == 3


async def test_nobody_waits_for_a_look_that_comes_early_enough(
    queues: Queues, depths: QueueDepths, clock: FakeClock
) -> None:
    """From half a second on the next look is taken beside those who ask."""
    queues.set(1)
    assert await depths.queued("acme", _STANDARD) == 1
    queues.set(2)
    queues.may_answer.clear()
    await clock.advance(0.6)
    assert await depths.queued("acme", _STANDARD) == 1
    await eventually(lambda: queues.looks == 2)
    assert await depths.queued("acme", _STANDARD) == 1
    queues.may_answer.set()
    await eventually(lambda: _is(depths, 2))
    assert queues.looks == 2


async def test_a_look_that_fails_leaves_the_one_before(
    queues: Queues, depths: QueueDepths, clock: FakeClock
) -> None:
    """And the next question tries again."""
    queues.set(5)
    assert await depths.queued("acme", _STANDARD) == 5
    queues.fails = True
    await clock.advance(2)
    assert await depths.queued("acme", _STANDARD) == 5
    queues.fails = False
    queues.set(6)
    assert await depths.queued("acme", _STANDARD) == 6


async def test_draining_is_what_executors_took_between_two_looks(
    queues: Queues, depths: QueueDepths, clock: FakeClock
) -> None:
    """However much was submitted meanwhile."""
    queues.set(100, delivered=1_000)
    await depths.look()
    assert depths.drained_per_second("acme", _STANDARD) is None
    await clock.advance(2)
    queues.set(500, delivered=1_080)
    await depths.look()
    assert depths.drained_per_second("acme", _STANDARD) == 40.0
    assert depths.drained_per_second("other", _STANDARD) == 0.0


async def _is(depths: QueueDepths, queued: int) -> bool:
    return await depths.queued("acme", _STANDARD) == queued
