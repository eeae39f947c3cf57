"""Tests of work that goes on though nobody waits for it any more."""

import asyncio

import pytest

from meshkit.unbroken import Unbroken


async def test_work_goes_on_without_who_asked_and_is_awaited_at_the_end() -> None:
    """Its caller is gone at once; `close` returns when it is done, and not before."""
    unbroken = Unbroken()
    begun, may_end, done = asyncio.Event(), asyncio.Event(), list[str]()

    async def work() -> None:
        begun.set()
        await may_end.wait()
        done.append("counted")

    caller = asyncio.create_task(unbroken.run(work()))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    closing = asyncio.create_task(unbroken.close())
    await asyncio.sleep(0)
    assert not closing.done()
    assert done == []
    may_end.set()
    await closing
    assert done == ["counted"]


async def test_work_that_does_not_end_is_cancelled_in_time() -> None:
    """So that a process stops; whoever asked hears that it was cancelled."""
    unbroken = Unbroken(end_seconds=0.01)
    caller = asyncio.create_task(unbroken.run(asyncio.Event().wait()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await unbroken.close()
        with pytest.raises(asyncio.CancelledError):
            await caller


async def test_failure_that_nobody_waits_for_does_not_stop_the_end() -> None:
    """What failed is over."""
    unbroken = Unbroken()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ConnectionError

    caller = asyncio.create_task(unbroken.run(fail()))
    await asyncio.sleep(0)
    caller.cancel()
    await unbroken.close()
    assert caller.cancelled() or caller.cancelling()


@pytest.mark.parametrize("is_done", [False, True])
async def test_what_nobody_takes_is_undone(is_done: bool) -> None:
    """Also where it was done at the very moment that its caller left."""
    unbroken = Unbroken()
    may_end, undone = asyncio.Event(), list[int]()

    async def take() -> int:
        await may_end.wait()
        return 7

    async def give_back(taken: int) -> None:
        undone.append(taken)

    caller = asyncio.create_task(unbroken.run(take(), undo=give_back))
    await asyncio.sleep(0)
    if is_done:
        may_end.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    caller.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await unbroken.close()
    assert undone == [7]


async def test_what_is_taken_is_not_undone() -> None:
    """The usual case."""
    unbroken, undone = Unbroken(), list[int]()

    async def take() -> int:
        return 7

    async def give_back(taken: int) -> None:
        undone.append(taken)

    assert await unbroken.run(take(), undo=give_back) == 7
    await unbroken.close()
    assert undone == []
