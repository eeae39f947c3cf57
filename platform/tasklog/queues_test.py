"""Queues as consumers of a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_pb2
from meshkit.bus import Bus, ConsumerSpec
from meshtest.eventually import eventually
from tasklog import lifecycle, subjects
from tasklog.partitions import WHOLE, Partitions
from tasklog.policy import built_in
from tasklog.policy_store import PolicyStore
from tasklog.queues import Depth, Queues
from tasklog.subjects import Queue
from tasklog.task_log import TaskLog

pytest_plugins = ["meshtest.fixtures"]

_QUEUE = Queue("acme", tier_pb2.LANE_STANDARD, 3)


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    """A connection to a broker with an empty task log."""
    async with await Bus.connect(nats_url, name="test") as made:
        await TaskLog(made, Partitions()).prepare()
        yield made


@pytest.fixture
async def policies(bus: Bus) -> PolicyStore:
    """The built-in policy."""
    made = PolicyStore(bus)
    await made.prepare()
    return made


@pytest.fixture
def queues(bus: Bus, policies: PolicyStore) -> Queues:
    """A process's queues."""
    return Queues(bus, Partitions(), policies)


async def _submit(bus: Bus, task_id: str, queue: Queue = _QUEUE) -> None:
    event = lifecycle.new_event(subjects.task_name(queue.tenant, task_id), "test")
    event.submitted.SetInParent()
    status = lifecycle.advance(event.status, event, sequence=1, time=event.time.ToDatetime()).status
    status.lane, status.priority = queue.lane, queue.priority
    assert status.state == task_pb2.TASK_STATE_QUEUED
    await TaskLog(bus, Partitions()).append(queue.tenant, task_id, event, after=0)


async def test_a_queue_has_its_tenants_tasks_of_one_lane_and_priority(
    bus: Bus, queues: Queues
) -> None:
    """Whatever else is submitted stands elsewhere."""
    others = [
        Queue("other", tier_pb2.LANE_STANDARD, 3),
        Queue("acme", tier_pb2.LANE_BATCH, 3),
        Queue("acme", tier_pb2.LANE_STANDARD, 0),
    ]
    for queue in (_QUEUE, *others):
        await queues.ensure(queue)
    await _submit(bus, "one")
    await _submit(bus, "two")
    for number, queue in enumerate(others):
        await _submit(bus, f"other-{number}", queue)

    async def counted() -> bool:
        # A busy broker counts what it has acknowledged a moment later.
        depths = {queue: depth async for queue, depth in queues.all()}
        assert depths[_QUEUE] == Depth(queued=2, held=0, redelivered=0, delivered=0)
        return {depths[queue].queued for queue in others} == {1}

    await eventually(counted)


async def test_what_was_taken_is_no_longer_queued(bus: Bus, queues: Queues) -> None:
    """It is held until it is acknowledged, and counts as delivered ever after."""
    await queues.ensure(_QUEUE)
    await _submit(bus, "one")
    await _submit(bus, "two")

    async def depth() -> Depth:
        return {queue: depth async for queue, depth in queues.all()}[_QUEUE]

    async with aclosing(bus.consume(queues.spec(_QUEUE), max_in_flight=1)) as deliveries:
        first = await anext(deliveries)
        assert await depth() == Depth(queued=1, held=1, redelivered=0, delivered=1)
        await first.acknowledge()
        await (await anext(deliveries)).acknowledge()

        async def settled() -> bool:
            return await depth() == Depth(queued=0, held=0, redelivered=0, delivered=2)

        await eventually(settled)


async def test_other_consumers_are_no_queues(bus: Bus, queues: Queues) -> None:
    """A projector of the same stream is not listed."""
    await queues.ensure(_QUEUE)
    await bus.ensure_consumer(
        ConsumerSpec(
            stream=WHOLE.stream,
            durable="projector-of-somebody",
            subject_filter=WHOLE.all_events,
            acknowledge_wait_seconds=30.0,
            max_acknowledge_pending=1,
            description="Reads along.",
        )
    )
    assert [queue async for queue, _ in queues.all()] == [_QUEUE]


async def test_many_at_once_make_a_queue_once(bus: Bus, queues: Queues) -> None:
    """A flood into a new queue does not become a flood of the broker's administration."""
    made = 0

    async def count() -> None:
        nonlocal made
        subscription = await bus.subscribe("$JS.API.CONSUMER.CREATE.>")
        counting.set()
        async for _ in subscription:
            made += 1

    counting = asyncio.Event()
    counter = asyncio.create_task(count())
    await counting.wait()
    await asyncio.gather(*(queues.ensure(_QUEUE) for _ in range(100)))
    await queues.ensure(Queue("acme", tier_pb2.LANE_BATCH, 0))
    await eventually(lambda: made == 2)
    counter.cancel()


async def test_a_changed_policy_reaches_every_queue(
    bus: Bus, policies: PolicyStore, queues: Queues
) -> None:
    """Queues that this process never made too, and nothing in them is lost."""
    elsewhere = Queues(bus, Partitions(), policies)
    await elsewhere.ensure(_QUEUE)
    await _submit(bus, "one")
    following = asyncio.create_task(queues.follow_policy())
    policy = built_in()
    policy.tenants["acme"] = "free"
    await policies.set(policy)

    async def limited() -> bool:
        info = await bus.consumer_info(WHOLE.stream, _QUEUE.durable)
        return info["config"]["max_ack_pending"] == 8

    await eventually(limited)
    following.cancel()
    assert [depth.queued async for _, depth in queues.all()] == [1]


async def test_a_limit_that_changed_while_nobody_ran_is_found(
    bus: Bus, policies: PolicyStore, queues: Queues
) -> None:
    """A process that starts looks at every queue first."""
    await queues.ensure(_QUEUE)
    policy = built_in()
    policy.tenants["acme"] = "enterprise"
    await policies.set(policy)
    following = asyncio.create_task(Queues(bus, Partitions(), policies).follow_policy())

    async def widened() -> bool:
        info = await bus.consumer_info(WHOLE.stream, _QUEUE.durable)
        return info["config"]["max_ack_pending"] == 2_048

    await eventually(widened)
    following.cancel()


async def test_the_broker_bounds_what_runs(bus: Bus, policies: PolicyStore) -> None:
    """However many a puller asks for, it gets no more than the tenant may run."""
    policy = built_in()
    policy.tenant_tiers[0].max_concurrent = 2
    policy.tenants["acme"] = "free"
    await policies.set(policy)
    queues = Queues(bus, Partitions(), policies)
    await queues.ensure(_QUEUE)
    for number in range(5):
        await _submit(bus, f"task-{number}")
    async with aclosing(bus.consume(queues.spec(_QUEUE), max_in_flight=5)) as deliveries:
        first = await anext(deliveries)
        await anext(deliveries)
        (depth,) = [depth async for _, depth in queues.all()]
        assert (depth.queued, depth.held) == (3, 2)
        third = asyncio.ensure_future(anext(deliveries))
        await first.acknowledge()
        assert (await asyncio.wait_for(third, 60)).sequence > first.sequence


async def test_more_than_a_thousand_queues_are_accepted(bus: Bus, queues: Queues) -> None:
    """A log that was made with the server's own limit has room for them, and so has a new one."""
    await bus.ensure_stream(replace(WHOLE.stream_spec(), max_consumers=None))
    await TaskLog(bus, Partitions()).prepare()
    for number in range(1001):
        await queues.ensure(Queue(f"t{number}", tier_pb2.LANE_STANDARD, 0))
    assert len([queue async for queue, _ in queues.all()]) == 1001
