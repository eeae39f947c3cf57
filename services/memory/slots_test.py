"""Slots."""

import asyncio

import pytest

from meshkit.errors import QueueFull
from services.memory.slots import Slots


async def test_what_is_too_much_is_refused() -> None:
    """One works, one waits, the third is told to come back."""
    slots = Slots("searches", active=1, waiting=1)
    release = asyncio.Event()

    async def work() -> None:
        async with slots:
            await release.wait()

    tasks = [asyncio.create_task(work()) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull) as caught:
        async with slots:
            pass
    assert str(caught.value) == "Too many searches wait already (2); try again later."
    assert caught.value.retry_after_seconds == 1.0
    release.set()
    await asyncio.gather(*tasks)
    async with slots:
        pass


async def test_who_gives_up_waiting_leaves_no_trace() -> None:
    """The place in the queue is free again."""
    slots = Slots("searches", active=1, waiting=1)
    async with slots:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0), slots:
                    pass
