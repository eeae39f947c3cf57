"""Tests of work that is broken off without an asyncio task of its own."""

import asyncio

import pytest

from services.executor.interruptible import Interruptible, Reason


class _Worker:
    """Waits for ever, notes why it was broken off, and goes on."""

    def __init__(self) -> None:
        self.reasons: list[Reason | None] = []
        self.work: Interruptible
        self.has_begun = asyncio.Event()
        # How many cancellations of its task are left over when it goes on.
        self.left_over = 0

    async def run(self) -> None:
        self.work = Interruptible()
        self.has_begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.reasons.append(self.work.caught())
            if self.reasons == [None]:
                raise
        # An earlier interrupt must not break off what comes after.
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        self.left_over = task.cancelling()


@pytest.mark.parametrize(
    ("interrupts", "reasons"),
    [
        ([Reason.TIME_IS_UP], [Reason.TIME_IS_UP]),
        ([Reason.CANCEL_WAS_ASKED_FOR, Reason.TIME_IS_UP], [Reason.CANCEL_WAS_ASKED_FOR]),
        ([None], [None]),
        ([Reason.TIME_IS_UP, None], [None]),
        ([None, Reason.TIME_IS_UP], [None]),
        ([Reason.TIME_IS_UP, Reason.TIME_IS_UP, None], [None]),
    ],
)
async def test_work_ends_for_the_first_reason_and_its_task_only_where_that_was_cancelled(
    interrupts: list[Reason | None], reasons: list[Reason | None]
) -> None:
    """None stands for a cancel of the whole task, which wins over every interrupt."""
    worker = _Worker()
    task = asyncio.create_task(worker.run())
    await worker.has_begun.wait()
    await asyncio.sleep(0)
    for each in interrupts:
        if each is None:
            task.cancel()
        else:
            worker.work.interrupt(each)
    await asyncio.wait([task])
    assert worker.reasons == reasons
    assert task.cancelled() == (None in interrupts)
    assert worker.left_over == 0


async def test_work_that_has_ended_is_not_broken_off() -> None:
    """An interrupt that comes too late changes nothing."""
    work = Interruptible()
    work.close()
    work.interrupt(Reason.TIME_IS_UP)
    await asyncio.sleep(0)
