"""What goes wrong while a backlog is made reaches the caller as it is, not in a group."""

import asyncio

import pytest

from bench.tasks.backlog import BacklogFailed, Comparison, Dispatch, Standing, together


async def test_the_first_that_fails_ends_the_others() -> None:
    """And its error is what is raised."""
    ended: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("waits")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise BacklogFailed("A task was refused: the queue is full")

    with pytest.raises(BacklogFailed) as caught:
        async with asyncio.timeout(5):
            await together([waits(), fails()])
    assert str(caught.value) == "A task was refused: the queue is full"
    assert ended == ["waits"]


def test_the_names_of_every_benchmark_stand_first() -> None:
    """The rate and the cost are those out of the long queue; latency there is none."""
    short = Standing(10_000, 20_000, Dispatch(30_000, 1.5), {}, {})
    long = Standing(1_000_000, 20_000, Dispatch(29_000, 1.6), {}, {})
    document = Comparison({}, short, long).to_json()
    assert list(document.items())[:4] == [
        ("tasks_per_minute", 29_000),
        ("cpu_ms_per_task", 1.6),
        ("p50_ms", None),
        ("p99_ms", None),
    ]
    assert document["backlog"]["short"]["dispatched_per_minute"] == 30_000
