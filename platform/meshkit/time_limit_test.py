"""A limit ends what is inside it exactly where asyncio's own would."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from meshkit.time_limit import within
from meshtest.eventually import eventually


@asynccontextmanager
async def _ours(seconds: float) -> AsyncGenerator[None]:
    with within(seconds):
        yield


Limit = Callable[[float], AbstractAsyncContextManager[Any]]
limits = pytest.mark.parametrize("limit", [asyncio.timeout, _ours], ids=["asyncio", "ours"])


async def _for_ever() -> None:
    await asyncio.Event().wait()


def _cancels() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task else -1


@limits
@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.001])
async def test_what_takes_longer_is_ended(limit: Limit, seconds: float) -> None:
    """TimeoutError, and the task goes on as one that nobody has cancelled."""
    with pytest.raises(TimeoutError):
        async with limit(seconds):
            await _for_ever()
    assert _cancels() == 0
    await asyncio.sleep(0)


@limits
async def test_what_is_quick_is_left_alone(limit: Limit) -> None:
    """Also after the block, when its time would have run out."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + 0.001
    async with limit(0.001):
        pass
    await eventually(lambda: loop.time() > ends)
    assert _cancels() == 0


@limits
async def test_a_failure_of_its_own_passes(limit: Limit) -> None:
    """Also one that is a timeout of somebody else."""
    with pytest.raises(TimeoutError, match="of somebody else"):
        async with limit(60):
            raise TimeoutError("of somebody else")


@limits
async def test_of_two_limits_the_nearer_one_holds(limit: Limit) -> None:
    """An inner one does not take the end of the outer one for its own."""
    heard: list[str] = []

    async def work() -> None:
        try:
            async with limit(60):
                await _for_ever()
        except asyncio.CancelledError:
            heard.append("cancelled")
            raise

    with pytest.raises(TimeoutError):
        async with limit(0.001):
            await work()
    assert heard == ["cancelled"]
    assert _cancels() == 0


@limits
async def test_who_is_cancelled_stays_so(limit: Limit) -> None:
    """By somebody else, before the time has run out."""
    begun = asyncio.Event()

    async def work() -> None:
        async with limit(60):
            begun.set()
            await _for_ever()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


@limits
async def test_who_is_cancelled_while_the_time_runs_out_stays_so(limit: Limit) -> None:
    """Who cancelled it waits for its end, and must not be told of a limit."""
    ending = asyncio.Event()

    async def work() -> None:
        async with limit(0.001):
            try:
                await _for_ever()
            finally:
                ending.set()
                await _for_ever()

    task = asyncio.create_task(work())
    await ending.wait()
    task.cancel()
    await eventually(task.done)
    assert task.cancelled()


async def test_it_holds_where_a_task_tidies_up_that_was_cancelled() -> None:
    """Not so asyncio's own before Python 3.11.4, which would leave the rest undone."""
    tidied: list[str] = []

    async def work() -> None:
        try:
            await _for_ever()
        finally:
            try:
                with within(0.001):
                    await _for_ever()
            except TimeoutError:
                tidied.append("as far as there was time")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tidied == ["as far as there was time"]


async def test_it_says_whether_it_ran_out() -> None:
    """A timeout of something inside it is told apart from its own."""
    outer, inner = within(60), within(0.001)
    with pytest.raises(TimeoutError), outer, inner:
        await _for_ever()
    assert (outer.ran_out, inner.ran_out) == (False, True)
