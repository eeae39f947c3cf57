"""Tests for partition_store.py: the number of partitions is decided once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from meshkit.bus import Bus
from meshkit.config import ConfigError
from meshkit.errors import CorruptData
from tasklog import partition_store
from tasklog.partitions import Partitions
from tasklog.task_log import TaskLog

pytest_plugins = ["meshtest.fixtures"]


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    """A broker without anything."""
    async with await Bus.connect(nats_url, name="test") as bus:
        yield bus


async def test_whoever_is_first_decides(bus: Bus) -> None:
    """Those who ask for nothing go by what is there."""
    assert len((await partition_store.settle(bus, 4)).all) == 4
    assert len((await partition_store.settle(bus, None)).all) == 4
    assert len((await partition_store.settle(bus, 4)).all) == 4
    assert len((await partition_store.look_up(bus)).all) == 4


async def test_a_log_is_whole_unless_somebody_asks(bus: Bus) -> None:
    """And stays so."""
    assert len((await partition_store.settle(bus, None)).all) == 1
    with pytest.raises(ConfigError, match="has 1 of them"):
        await partition_store.settle(bus, 4)


async def test_another_number_is_refused(bus: Bus) -> None:
    """Saying what is there, what was asked for, and what to do."""
    await partition_store.settle(bus, 4)
    with pytest.raises(ConfigError) as caught:
        await partition_store.settle(bus, 3)
    assert str(caught.value) == (
        "task_partitions: the task log on this broker has 4 of them, which is for good, not 3:"
        " set 4 or leave it out, or begin a new log on another broker or data directory"
    )


async def test_a_log_from_before_there_were_partitions_is_whole(bus: Bus) -> None:
    """Its tasks would not be found in other streams."""
    await TaskLog(bus, Partitions()).prepare()
    assert len((await partition_store.look_up(bus)).all) == 1
    with pytest.raises(ConfigError, match="has 1 of them"):
        await partition_store.settle(bus, 4)
    assert len((await partition_store.settle(bus, None)).all) == 1


async def test_of_several_at_once_one_decides(bus: Bus) -> None:
    """All who start on one broker find the same log, or do not start."""
    wanted = [None, *range(2, 12)]
    settled = await asyncio.gather(
        *(partition_store.settle(bus, each) for each in wanted), return_exceptions=True
    )
    counts = {len(each.all) for each in settled if isinstance(each, Partitions)}
    assert len(counts) == 1
    refused = [each for each in settled if not isinstance(each, Partitions)]
    assert all(isinstance(each, ConfigError) for each in refused)
    assert len(refused) >= len(wanted) - 2


async def test_looking_leaves_no_trace(bus: Bus) -> None:
    """An audit of a broker that nobody used decides nothing."""
    assert len((await partition_store.look_up(bus)).all) == 1
    assert len((await partition_store.settle(bus, 4)).all) == 4


@pytest.mark.parametrize("stored", [b"many", b"0", b"1025", b"\xff"])
async def test_what_is_no_number_is_not_guessed_at(bus: Bus, stored: bytes) -> None:
    """A wrong guess would hide every task there is."""
    await partition_store.settle(bus, 4)
    await bus.append("layout.tasks", stored, expected_last=1)
    with pytest.raises(CorruptData, match="which is no number of partitions"):
        await partition_store.settle(bus, None)
