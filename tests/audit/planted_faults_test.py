"""Each fault, planted alone into a copy of a real mesh's stores, is found, and nothing else is."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.governor.v1.usage_record_pb2 import UsageRecord
from audit import api
from audit.api import Invariant
from audit.report import Report
from meshkit import redis_store
from meshkit.bus import Bus, StoredMessage, StreamSpec
from meshtest.nats_server import NatsServer
from meshtest.redis_server import RedisServer
from tests.audit import real_mesh, store_copy
from tests.audit.faults import FAULTS, P0
from tests.audit.later_clock import LaterClock
from tests.audit.planted import Copy, Fault, Log, Settled, charged
from tests.audit.store_copy import Stores, settle

pytest_plugins = ["meshtest.fixtures"]


class _StillClock(LaterClock):
    """In a copy nothing is on its way: who waits for it has waited at once."""

    def __init__(self) -> None:
        self._waited_seconds = 0.0

    def monotonic_seconds(self) -> float:
        """The time, for measuring how long something takes."""
        return super().monotonic_seconds() + self._waited_seconds

    async def sleep(self, seconds: float) -> None:
        """Returns at once, so much later."""
        self._waited_seconds += seconds


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stores, Mapping[str, str]]:
    """The stores of a mesh that lived through everything, and the ids of its tasks."""
    folder = tmp_path_factory.mktemp("real")
    nats, redis = NatsServer(folder / "nats"), RedisServer(folder / "redis")
    nats.start()
    redis.start()
    try:
        return asyncio.run(_live(folder, nats, redis))
    finally:
        nats.kill()
        redis.kill()


async def _live(
    folder: Path, nats: NatsServer, redis: RedisServer
) -> tuple[Stores, Mapping[str, str]]:
    tasks = await real_mesh.live_through_everything(folder, nats, redis)
    client = redis_store.connect(redis.url)
    async with await Bus.connect(nats.url, name="test") as bus:
        await store_copy.give_back(client)
        stores = await store_copy.read(bus, client)
    await client.aclose()
    return stores, {name: real_mesh.task_id(task) for name, task in tasks.items()}


@pytest.fixture
async def redis_url(shared_redis: RedisServer) -> str:
    """Where nothing is left of the copy before."""
    async with redis_store.connect(shared_redis.url) as redis:
        await cast(Any, redis).flushall()
    return shared_redis.url


@asynccontextmanager
async def _copied(
    real: tuple[Stores, Mapping[str, str]],
    nats_url: str,
    redis_url: str,
    fault: Fault | None = None,
) -> AsyncGenerator[Copy]:
    stores, ids = real
    log = Log(stores.messages, ids)
    if fault is not None:
        stores = replace(
            stores,
            consumers=[
                replace(each, acknowledged=log.end) if each.durable in fault.acknowledged else each
                for each in stores.consumers
                if each.durable not in fault.gone
            ],
        )
    change = fault.change(log) if fault and fault.change else _unchanged
    before = _charged(stores)
    if fault is not None and fault.settled is not None:
        stores = replace(stores, usage=fault.settled(log)(list(stores.usage)))
    client = redis_store.connect(redis_url)
    async with await Bus.connect(nats_url, name="test") as bus:
        await store_copy.write(stores, bus, client, nats_url, change)
        copy = Copy(bus, client, log)
        await copy.count("spent", _charged(stores) - before)
        if fault is not None and fault.plant is not None:
            await fault.plant(copy)
        yield copy
    await client.aclose()


def _harmless(settled: Callable[[Log], Settled]) -> Fault:
    """A change of the journal that breaks nothing."""
    return Fault("harmless", Invariant.CHARGE, lambda log: [], settled=settled)


def _charged(stores: Stores) -> int:
    """What the tenant spent by the journal."""
    return sum(each.usage.cost_micros for each in stores.usage if each.tenant == real_mesh.TENANT)


def _unchanged(message: StoredMessage) -> StoredMessage:
    return message


async def _audit(copy: Copy, *, read_blobs: bool = False) -> Report:
    return await api.run(copy.bus, copy.redis, clock=_StillClock(), read_blobs=read_blobs)


async def test_what_a_real_mesh_leaves_behind_holds(
    real: tuple[Stores, Mapping[str, str]], nats_url: str, redis_url: str
) -> None:
    """Nothing is found, and everything was looked at."""
    async with _copied(real, nats_url, redis_url) as copy:
        report = await _audit(copy, read_blobs=True)
    assert report.findings == ()
    assert report.tasks == {"QUEUED": 1, "WAITING": 1, "SUCCEEDED": 8, "CANCELLED": 1}
    assert report.counts["events"] == report.horizon == copy.log.end
    steps = [
        message
        for name in copy.log.ids
        for message in copy.log.of(name)
        if TaskEvent.FromString(message.payload).usage.cost_micros
    ]
    assert report.counts["charged_steps"] == report.counts["charges"] == len(steps)
    # With those of calls that were begun and did not end: of unknown outcome, and cancelled.
    assert report.counts["call_records"] == report.counts["tool_calls"] - 2 + 3
    assert report.counts["blobs"] == 1
    assert report.remarks == ()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_a_fault_is_found_where_it_is(
    fault: Fault,
    real: tuple[Stores, Mapping[str, str]],
    nats_url: str,
    redis_url: str,
) -> None:
    """By its invariant, with the stream sequences of the offending events, and nothing else."""
    async with _copied(real, nats_url, redis_url, fault) as copy:
        report = await _audit(copy, read_blobs=fault.read_blobs)
    for each in report.findings:
        print(each)
    found = sorted((each.invariant, each.stream_sequences) for each in report.findings)
    assert found == sorted((fault.invariant, where) for where in fault.found(copy.log))


def test_each_invariant_has_a_fault_that_breaks_it() -> None:
    """An audit that stopped to look at one of them would be found out."""
    assert {fault.invariant for fault in FAULTS} == set(Invariant)


async def test_a_step_that_was_paid_twice_is_told(
    real: tuple[Stores, Mapping[str, str]], nats_url: str, redis_url: str
) -> None:
    """An executor died between a model's answer and its record: that is allowed, once."""
    fault = _harmless(charged(real_mesh.TAKEN_OVER, 2, 2, 5))
    async with _copied(real, nats_url, redis_url, fault) as copy:
        report = await _audit(copy)
    assert report.findings == ()
    assert report.remarks == (
        "1 charges (5 micro-dollars) are of model calls whose attempt ended before they were"
        " recorded.",
    )


async def test_a_call_that_was_made_again_is_told(
    real: tuple[Stores, Mapping[str, str]], nats_url: str, redis_url: str
) -> None:
    """Its answer was lost on the way back, so that it was asked for, and paid, once more."""
    fault = _harmless(charged(P0, 3, 2, 5, call="#2"))
    async with _copied(real, nats_url, redis_url, fault) as copy:
        report = await _audit(copy)
    assert report.findings == ()
    assert report.remarks == (
        "1 charges (5 micro-dollars) are of model calls that were made again, because the answer"
        " to the first was lost.",
    )


async def test_a_settlement_that_was_written_twice_counts_once(
    real: tuple[Stores, Mapping[str, str]], nats_url: str, redis_url: str
) -> None:
    """Nobody knew whether it had been written; whatever the second says, the first counts."""
    async with _copied(real, nats_url, redis_url) as copy:
        again = UsageRecord()
        again.CopyFrom(real[0].usage[0])
        again.usage.cost_micros += 1
        await settle(copy.bus, again)
        report = await _audit(copy)
    assert report.findings == ()
    assert report.counts["repeated_settlements"] == 1


async def test_a_call_of_a_cancelled_task_is_told(
    real: tuple[Stores, Mapping[str, str]], nats_url: str, redis_url: str
) -> None:
    """The cancel came between the effect and its record."""
    async with _copied(real, nats_url, redis_url) as copy:
        key = copy.call(real_mesh.CANCELLED, "1/call-1")
        await copy.redis.hset(key, "state", "finished")
        report = await _audit(copy)
    assert report.findings == ()
    assert report.remarks == ("1 tool calls were made whose task ended before they were recorded.",)


async def test_another_tenant_is_none_of_its_business(
    real: tuple[Stores, Mapping[str, str]], nats_url: str, redis_url: str
) -> None:
    """An audit of one tenant reads nothing of the others."""
    async with _copied(real, nats_url, redis_url) as copy:
        report = await api.run(copy.bus, copy.redis, tenant="other", clock=_StillClock())
    assert (report.findings, report.tasks, report.counts["events"]) == ((), {}, 0)


async def test_a_counter_that_nobody_believes_breaks_nothing(
    real: tuple[Stores, Mapping[str, str]], nats_url: str, redis_url: str
) -> None:
    """Its budget was removed since, or Redis was lost since: it is opened anew before it counts."""
    async with _copied(real, nats_url, redis_url) as copy:
        await copy.count("spent", 7)
        broken = await _audit(copy)
        assert {each.invariant for each in broken.findings} == {Invariant.SPEND}
        await copy.bus.ensure_stream(StreamSpec("BUDGETS", ("budget.>",), "Budgets."))
        for window in ("day", "month"):
            await copy.bus.append(
                f"budget.{real_mesh.TENANT}.tenant-{window}", b"removed", expected_last=0
            )
        assert not (await _audit(copy)).findings
