"""Tests for partitions.py: which stream is a tenant's."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkit.bus import Bus
from meshtest.nats_server import NatsServer
from tasklog.partitions import MAX_PARTITIONS, WHOLE, Partition, Partitions

_TENANTS = st.text("abcxyz0189-", min_size=1, max_size=63)


def test_a_log_that_is_not_cut_has_the_one_stream_for_everybody() -> None:
    """So that a mesh which never asked for partitions has the names it always had."""
    partitions = Partitions()
    assert partitions.all == (WHOLE,)
    assert partitions.of("acme") is WHOLE
    assert (WHOLE.stream, WHOLE.prefix) == ("TASKS", "task")
    assert WHOLE.scope("acme", "t1") == "task.acme.t1.*"
    assert WHOLE.live("acme", "t1") == "live.task.acme.t1.*"
    spec = WHOLE.stream_spec()
    assert (spec.subjects, spec.republish) == (("task.*.*.*",), ("task.>", "live.task.>"))


def test_a_log_that_is_cut_has_a_stream_and_subjects_for_each_number() -> None:
    """No two streams may take the same subject: the broker would refuse the second."""
    first, second = Partitions(2).all
    assert first == Partition("TASKS-0", "task-0")
    assert second == Partition("TASKS-1", "task-1")
    assert second.scope("acme", "t1") == "task-1.acme.t1.*"
    spec = second.stream_spec()
    assert (spec.subjects, spec.republish) == (("task-1.*.*.*",), ("task-1.>", "live.task-1.>"))


@pytest.mark.parametrize("count", [-1, 0, MAX_PARTITIONS + 1])
def test_a_number_that_makes_no_log_is_refused(count: int) -> None:
    """None at all, and more than a cluster holds."""
    with pytest.raises(ValueError, match=f"^a log has 1 to 1024 partitions, not {count}$"):
        Partitions(count)


@given(_TENANTS, st.integers(1, MAX_PARTITIONS))
@settings(max_examples=50)
def test_every_tenant_is_in_exactly_one_partition(tenant: str, count: int) -> None:
    """Whoever asks, and however often."""
    partitions = Partitions(count)
    found = partitions.of(tenant)
    assert partitions.all.count(found) == 1
    assert found is partitions.of(tenant)
    assert found == Partitions(count).of(tenant)


@pytest.mark.parametrize("count", [2, 3, 4, 16])
def test_tenants_spread_evenly(count: int) -> None:
    """10,000 tenants of like names: no partition has a tenth more or less than its share."""
    partitions = Partitions(count)
    sizes = Counter(partitions.of(f"tenant-{number}") for number in range(10_000))
    assert len(sizes) == count
    assert all(abs(size - 10_000 / count) < 1_000 / count for size in sizes.values()), sizes


def test_more_tenants_than_are_remembered_find_the_same_partitions() -> None:
    """What is forgotten is computed again."""
    partitions = Partitions(4)
    before = partitions.of("acme")
    for number in range(70_000):
        partitions.of(str(number))
    assert partitions.of("acme") == before


@pytest.mark.parametrize(
    ("tenant", "fnv_1a"),
    # Published with the function, at 32 bits.
    [("a", 0xE40C292C), ("b", 0xE70C2DE5), ("foo", 0xA9F37ED7), ("foobar", 0xBF9CF968)],
)
def test_the_hash_is_fnv_1a(tenant: str, fnv_1a: int) -> None:
    """Its reference values, modulo the number of partitions."""
    for count in (2, 4, 7, 1000):
        assert Partitions(count).of(tenant).prefix == f"task-{fnv_1a % count}"


async def test_a_mapping_in_the_broker_finds_the_same_partitions(tmp_path: Path) -> None:
    """A NATS server that is told to map subjects by its own function agrees with ours."""
    mapping = 'mappings = { "in.*": "out.{{partition(4,1)}}.{{wildcard(1)}}" }'
    server = NatsServer(tmp_path / "nats", settings=mapping)
    server.start()
    partitions = Partitions(4)
    tenants = ["acme", "a", "0", "tenant-with-a-long-name", *(f"t{each}" for each in range(200))]
    try:
        async with (
            asyncio.timeout(60),
            await Bus.connect(server.url, name="test") as bus,
        ):
            mapped = await bus.subscribe("out.>")
            for tenant in tenants:
                await bus.signal(f"in.{tenant}", b"")
            for tenant in tenants:
                _, number, name = (await anext(mapped)).subject.split(".")
                assert (f"task-{number}", name) == (partitions.of(tenant).prefix, tenant)
            await mapped.close()
    finally:
        server.kill()
    assert {partitions.of(tenant) for tenant in tenants} == set(partitions.all)
