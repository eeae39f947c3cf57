"""How a tenant that submits too much is told so."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import queue_service_pb2, task_pb2
from agentmesh.coordinator.v1.queue_service_pb2 import TenantTier
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from meshkit import identity
from meshkit.errors import MeshError, QueueFull, RateLimited, from_status
from meshkit.identity import Identity
from meshkit.mesh_error import QuotaViolation
from meshtest.eventually import eventually
from services.coordinator.coordinator_mesh import Mesh
from services.coordinator.tenant_limits import QueueLimit
from services.coordinator.waiting_mesh import (
    append,
    begin_wait,
    events,
    expiring,
    for_children,
    reaches,
)
from tasklog import subjects
from tasklog.partitions import WHOLE, Partitions
from tasklog.policy import built_in, policy_of
from tasklog.policy_store import PolicyStore
from tasklog.queues import Queues
from tasklog.subjects import Queue
from tasklog.task_log import Entry

pytest_plugins = ["meshtest.fixtures", "services.coordinator.coordinator_mesh"]


async def _limit(mesh: Mesh, change: Callable[[TenantTier], None]) -> None:
    """Puts the tenant acme into a tier of its own."""
    wanted = built_in()
    tier = wanted.tenant_tiers.add()
    tier.CopyFrom(policy_of(wanted).tiers["standard"])
    tier.id = "small"
    change(tier)
    wanted.tenants["acme"] = "small"
    await mesh.queues.SetQueuePolicy(
        queue_service_pb2.SetQueuePolicyRequest(policy=wanted), timeout=60
    )


async def _refusal(mesh: Mesh, request_id: str = "") -> MeshError | None:
    try:
        await mesh.submit(request_id=request_id)
    except (QueueFull, RateLimited) as error:
        return error
    return None


async def test_a_tenant_that_submits_too_fast_is_told_when_to_come_back(mesh: Mesh) -> None:
    """The burst passes; the next one is RATE_LIMITED with the limit, the quota and a time."""

    def slow(tier: TenantTier) -> None:
        tier.submits_per_second, tier.submit_burst = 0.001, 3

    await _limit(mesh, slow)
    for _ in range(3):
        await mesh.submit()
    with pytest.raises(RateLimited) as caught:
        await mesh.submit()
    assert str(caught.value).startswith(
        "Tenant 'acme' may submit 0.001 tasks a second, 3 at once. Try again in "
    )
    assert caught.value.metadata == {
        "limit": "submits_per_second",
        "limit_value": "0.001",
        "tenant_tier": "small",
    }
    assert caught.value.quota == (
        QuotaViolation("tenants/acme", "submits_per_second of tier small: 0.001"),
    )
    assert caught.value.retry_after_seconds == pytest.approx(950, abs=50)


async def test_another_tenant_submits_as_before(mesh: Mesh) -> None:
    """A limit is each tenant's own."""

    def slow(tier: TenantTier) -> None:
        tier.submits_per_second, tier.submit_burst, tier.max_queued = 0.001, 1, 1

    await _limit(mesh, slow)
    await mesh.submit()
    assert isinstance(await _refusal(mesh), RateLimited)
    with identity.use(Identity("other", "user:test")):
        await mesh.tasks.SubmitTask(
            pb.SubmitTaskRequest(parent="tenants/other", task=Task(input=TaskInput(text="x"))),
            timeout=60,
        )


async def test_a_full_queue_refuses_with_the_limit_and_a_time(mesh: Mesh) -> None:
    """Nothing is stored; the other lanes are open."""
    await _limit(mesh, lambda tier: setattr(tier, "max_queued", 5))
    for _ in range(5):
        await mesh.submit()
    with pytest.raises(QueueFull) as caught:
        await mesh.submit()
    assert str(caught.value) == (
        "Tenant 'acme' has 5 tasks queued in the standard lane; its limit is 5. Try again in 1 s."
    )
    assert caught.value.metadata == {
        "lane": "standard",
        "limit": "max_queued",
        "limit_value": "5",
        "tenant_tier": "small",
    }
    assert caught.value.quota == (
        QuotaViolation("tenants/acme", "max_queued of tier small: 5 in the standard lane"),
    )
    assert caught.value.retry_after_seconds == 1.0
    assert await _stored(mesh) == 5
    await mesh.submit(lane=tier_pb2.LANE_BATCH)


async def test_many_at_once_do_not_pass_the_limit_together(mesh: Mesh) -> None:
    """Of a hundred submissions at the same moment exactly as many pass as there is room."""
    await _limit(mesh, lambda tier: setattr(tier, "max_queued", 10))
    refusals = await asyncio.gather(*(_refusal(mesh) for _ in range(100)))
    assert sum(refusal is None for refusal in refusals) == 10
    assert await _stored(mesh) == 10


async def test_priorities_share_the_lanes_limit(mesh: Mesh) -> None:
    """A higher priority is no second queue."""
    await _limit(mesh, lambda tier: setattr(tier, "max_queued", 4))
    for priority in (0, 0, 7, 9):
        await mesh.submit(priority=priority)
    with pytest.raises(QueueFull):
        await mesh.submit(priority=5)


async def test_a_queue_that_drains_takes_tasks_again(mesh: Mesh) -> None:
    """Once an executor has taken some, there is room for as many."""
    await _limit(mesh, lambda tier: setattr(tier, "max_queued", 3))
    for _ in range(3):
        await mesh.submit()
    assert isinstance(await _refusal(mesh), QueueFull)
    queue = Queues(mesh.bus, Partitions(), PolicyStore(mesh.bus)).spec(
        Queue("acme", tier_pb2.LANE_STANDARD, 0)
    )
    async with aclosing(mesh.bus.consume(queue, max_in_flight=1)) as deliveries:
        await (await anext(deliveries)).acknowledge()

    async def accepted() -> bool:
        return await _refusal(mesh) is None

    await eventually(accepted)


async def test_a_repeat_of_an_accepted_task_is_always_answered(mesh: Mesh) -> None:
    """Over the rate and with a full queue, what was accepted is answered as it stands."""

    def tight(tier: TenantTier) -> None:
        tier.submits_per_second, tier.submit_burst, tier.max_queued = 0.001, 3, 2

    await _limit(mesh, tight)
    first = await mesh.submit(request_id="r1")
    await mesh.submit(request_id="r2")
    assert isinstance(await _refusal(mesh, "r3"), QueueFull)
    assert isinstance(await _refusal(mesh, "r4"), RateLimited)
    assert await mesh.submit(request_id="r1") == first


async def test_a_wider_limit_holds_at_once(mesh: Mesh) -> None:
    """Nobody restarts anything for it."""
    await _limit(mesh, lambda tier: setattr(tier, "max_queued", 1))
    await mesh.submit()
    assert isinstance(await _refusal(mesh), QueueFull)
    await _limit(mesh, lambda tier: setattr(tier, "max_queued", 2))
    await mesh.submit()
    assert isinstance(await _refusal(mesh), QueueFull)


async def _execute(mesh: Mesh, running: set[str]) -> None:
    """Takes what comes out of the queue; runs the tasks that are in `running`."""
    queue = Queues(mesh.bus, Partitions(), PolicyStore(mesh.bus)).spec(
        Queue("acme", tier_pb2.LANE_STANDARD, 0)
    )
    async with aclosing(mesh.bus.consume(queue, max_in_flight=1)) as deliveries:
        async for delivery in deliveries:
            name = subjects.task_name(*subjects.parse(delivery.subject))
            if name in running:
                await append(mesh, name, TaskEvent(started={}))
                completed = TaskEvent(completed={})
                await append(mesh, name, completed, task_pb2.TASK_STATE_SUCCEEDED)
            await delivery.acknowledge()


async def test_children_that_find_no_room_come_when_there_is_some(mesh: Mesh) -> None:
    """The limit holds for what agents delegate, too; all of it is done in the end."""
    await _limit(mesh, lambda tier: setattr(tier, "max_queued", 2))
    parent = await mesh.submit()
    waiting = for_children(parent, *"abcd")
    await begin_wait(mesh, parent, waiting)
    children = list(waiting.wait.children.tasks)
    await reaches(mesh, children[0], "QUEUED")
    executor = asyncio.create_task(_execute(mesh, set(children)))
    try:
        await reaches(mesh, parent.name, "QUEUED")
    finally:
        executor.cancel()
    result = (await events(mesh, parent.name))[-1].resumed
    assert [each.task for each in result.children] == children
    assert {each.state for each in result.children} == {task_pb2.TASK_STATE_SUCCEEDED}
    assert not result.expired
    ended = (await _entries(mesh, children[0]))[-1].stream_sequence
    assert (await _entries(mesh, children[-1]))[0].stream_sequence > ended


async def test_children_that_never_found_room_are_told_as_such(mesh: Mesh) -> None:
    """When the wait runs out; those that were accepted are results like any other."""
    await _limit(mesh, lambda tier: setattr(tier, "max_queued", 2))
    parent = await mesh.submit()
    waiting = expiring(for_children(parent, "a", "b"), seconds=5.0)
    await begin_wait(mesh, parent, waiting)
    await reaches(mesh, waiting.wait.children.tasks[0], "QUEUED")
    await reaches(mesh, parent.name, "QUEUED")
    result = (await events(mesh, parent.name))[-1].resumed
    assert result.expired
    assert [each.task for each in result.children] == [waiting.wait.children.tasks[0], ""]
    error = from_status(result.children[1].error)
    assert isinstance(error, QueueFull)
    assert error.message == "The wait ran out before this child found room in the queue."


async def _entries(mesh: Mesh, name: str) -> list[Entry]:
    return [each async for each in mesh.log.read("acme", name.rpartition("/")[2])]


class _Policies:
    current = policy_of(built_in())


class _Depths:
    """A queue of a given length that drains at a given rate."""

    def __init__(self, queued: int, drained_per_second: float | None) -> None:
        self._queued = queued
        self._drained_per_second = drained_per_second

    async def queued(self, tenant: str, lane: tier_pb2.Lane) -> int:
        return self._queued

    def count(self, tenant: str, lane: tier_pb2.Lane) -> None:
        raise AssertionError("a refused task is not counted")

    def drained_per_second(self, tenant: str, lane: tier_pb2.Lane) -> float | None:
        return self._drained_per_second


@given(
    st.integers(100_000, 10_000_000),
    st.one_of(st.none(), st.floats(0, 1e6, allow_subnormal=True)),
)
async def test_the_time_to_come_back_is_bounded(queued: int, per_second: float | None) -> None:
    """From one second to a minute, however fast or slowly the queue drains."""
    limit = QueueLimit(_Policies(), _Depths(queued, per_second))
    with pytest.raises(QueueFull) as caught:
        await limit.check(Task(tenant="acme", lane=tier_pb2.LANE_STANDARD))
    assert caught.value.retry_after_seconds is not None
    assert 1.0 <= caught.value.retry_after_seconds <= 60.0


@pytest.mark.parametrize(
    ("per_second", "seconds"), [(None, 1.0), (0.0, 60.0), (100.0, 60.0), (1_000.0, 10.0)]
)
async def test_the_time_to_come_back_follows_the_drain(
    per_second: float | None, seconds: float
) -> None:
    """It is when a tenth of the queue will be free; soon, where nothing is known yet."""
    limit = QueueLimit(_Policies(), _Depths(100_000, per_second))
    with pytest.raises(QueueFull) as caught:
        await limit.check(Task(tenant="acme", lane=tier_pb2.LANE_STANDARD))
    assert caught.value.retry_after_seconds == pytest.approx(seconds)


async def _stored(mesh: Mesh) -> int:
    info = await mesh.bus.stream_info(WHOLE.stream)
    assert info is not None
    return int(info["state"]["messages"])
