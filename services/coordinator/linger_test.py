"""Tasks wait for company where there is some, for as long as their lane allows."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from agentmesh.common.v1 import tier_pb2
from meshtest.clock import FakeClock
from services.coordinator.linger import Linger
from tasklog.policy import Policy, built_in, policy_of

_LINGER_SECONDS = 0.05


class _Policies:
    def __init__(self) -> None:
        message = built_in()
        message.lanes[1].linger.FromMilliseconds(50)
        message.lanes[2].ClearField("linger")
        self.current: Policy = policy_of(message)


class _Callers:
    """Callers who run one task each, of which a test says when it ends."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self._linger = Linger(_Policies(), self.clock)
        self._ended = asyncio.Event()
        self._calls: list[asyncio.Task[None]] = []
        # When each went on, in seconds of the clock.
        self.went: list[float] = []

    def begin(self, lane: tier_pb2.Lane = tier_pb2.LANE_STANDARD) -> asyncio.Task[None]:
        """One more calls, in the next turn of the loop."""
        task = asyncio.create_task(self._call(lane))
        self._calls.append(task)
        return task

    async def call(self, lane: tier_pb2.Lane = tier_pb2.LANE_STANDARD) -> asyncio.Task[None]:
        """One more calls, at this time of the clock."""
        task = self.begin(lane)
        await self.clock.advance(0)
        return task

    async def _call(self, lane: tier_pb2.Lane) -> None:
        async with self._linger.together(lane):
            self.went.append(self.clock.monotonic_seconds())
            await self._ended.wait()

    async def end(self) -> None:
        """Lets all end that have begun."""
        self._ended.set()
        await self.clock.advance(0)
        self._ended.clear()

    async def leave(self) -> None:
        """Nobody calls any more."""
        for each in self._calls:
            each.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)


@asynccontextmanager
async def _callers() -> AsyncGenerator[_Callers]:
    callers = _Callers()
    try:
        yield callers
    finally:
        await callers.leave()


async def test_who_comes_while_others_run_waits_for_more() -> None:
    """The first goes at once; those that come then go together, when the lane's time is over."""
    async with _callers() as callers:
        await callers.call()
        await callers.clock.advance(0.01)
        await callers.call()
        await callers.clock.advance(0.02)
        await callers.call()
        await callers.clock.advance(0.019)
        assert callers.went == [0]
        await callers.clock.advance(0.001)
        assert callers.went == [0, _LINGER_SECONDS, _LINGER_SECONDS]


async def test_who_submits_one_task_after_the_other_never_waits() -> None:
    """Each comes when the one before has ended: there is no company to wait for."""
    async with _callers() as callers:
        for number in range(5):
            await callers.call()
            assert len(callers.went) == number + 1
            await callers.end()
            await callers.clock.advance(0.004)


async def test_after_a_pause_nobody_waits() -> None:
    """Who comes later than the lane's time after the last group goes at once, company or not."""
    async with _callers() as callers:
        await callers.call()
        await callers.clock.advance(0.2)
        await callers.call()
        assert callers.went == [0, 0.2]


async def test_company_is_remembered_for_a_second() -> None:
    """Where two met, the next ones wait for each other though those have ended; not later."""
    async with _callers() as callers:
        await callers.call()
        await callers.call()
        await callers.clock.advance(_LINGER_SECONDS)
        await callers.end()
        await callers.clock.advance(0.9)
        await callers.call()
        await callers.end()
        assert len(callers.went) == 3
        await callers.call()
        assert len(callers.went) == 3
        await callers.clock.advance(_LINGER_SECONDS)
        await callers.end()
        assert len(callers.went) == 4
        await callers.clock.advance(1.0)
        for _ in range(2):
            await callers.call()
            await callers.end()
        assert len(callers.went) == 6


async def test_a_call_that_lasts_is_no_company() -> None:
    """Beside a task that waits for a person, say, who comes alone goes at once."""
    async with _callers() as callers:
        await callers.call()
        await callers.clock.advance(1.001)
        for number in range(3):
            # What ends is the short one.
            short = await callers.call()
            assert len(callers.went) == number + 2
            short.cancel()
            await callers.clock.advance(0.004)
        # While two that come together are company, beside it too.
        await callers.call()
        went = len(callers.went)
        await callers.call()
        assert len(callers.went) == went


async def test_a_complete_group_goes_at_once() -> None:
    """The eighth that waits takes the others with it."""
    async with _callers() as callers:
        for _ in range(8):
            await callers.call()
        await callers.clock.advance(0.001)
        assert callers.went == [0]
        await callers.call()
        assert callers.went == [0] + 8 * [0.001]
        await callers.call()
        await callers.clock.advance(_LINGER_SECONDS - 0.001)
        assert len(callers.went) == 9
        await callers.clock.advance(0.001)
        assert callers.went[9:] == [0.001 + _LINGER_SECONDS]


async def test_a_group_that_went_is_no_part_of_the_next() -> None:
    """Each waits its own time, and counts to eight by itself."""
    async with _callers() as callers:
        await callers.call()
        for gone in (1, 4, 7):
            await callers.clock.advance(0.001)
            for _ in range(3):
                await callers.call()
            assert len(callers.went) == gone
            await callers.clock.advance(_LINGER_SECONDS)
            assert len(callers.went) == gone + 3


async def test_who_is_cancelled_holds_nobody_up() -> None:
    """The one whose wait began first gives up; the others go at the time that was theirs."""
    async with _callers() as callers:
        await callers.call()
        await callers.clock.advance(0.01)
        given_up = await callers.call()
        await callers.call()
        await callers.clock.advance(0.01)
        given_up.cancel()
        await callers.clock.advance(0.03)
        assert callers.went == [0, _LINGER_SECONDS]
        assert given_up.cancelled()


async def test_who_is_cancelled_does_not_count() -> None:
    """Neither to the eight, nor as a group that went."""
    async with _callers() as callers:
        await callers.call()
        for _ in range(7):
            (await callers.call()).cancel()
            await callers.clock.advance(0)
        waiting = await callers.call()
        assert callers.went == [0]
        waiting.cancel()
        await callers.clock.advance(_LINGER_SECONDS)
        await callers.call()
        assert callers.went == [0, _LINGER_SECONDS]


async def test_one_is_cancelled_while_the_group_goes() -> None:
    """In the same turn of the loop; all others go on."""
    async with _callers() as callers:
        await callers.call()
        waiting = [await callers.call() for _ in range(6)]
        callers.begin()
        callers.begin()
        waiting[0].cancel()
        await callers.clock.advance(0)
        assert callers.went == 8 * [0]


@pytest.mark.parametrize(
    "lane", [tier_pb2.LANE_UNSPECIFIED, tier_pb2.LANE_INTERACTIVE, tier_pb2.LANE_BATCH]
)
async def test_lanes_without_a_linger_do_not_wait(lane: tier_pb2.Lane) -> None:
    """Nor do tasks that name no lane."""
    async with _callers() as callers:
        for _ in range(3):
            await callers.call(lane)
        assert callers.went == [0, 0, 0]


async def test_lanes_wait_each_for_itself() -> None:
    """Tasks of another lane are no company."""
    async with _callers() as callers:
        await callers.call(tier_pb2.LANE_BATCH)
        await callers.call()
        await callers.clock.advance(0.001)
        await callers.end()
        await callers.call()
        assert callers.went == [0, 0, 0.001]
