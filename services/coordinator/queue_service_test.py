"""How the policy is read and changed, and what lanes look like."""

from contextlib import aclosing
from pathlib import Path

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import coordinator_service_pb2 as tasks_pb
from agentmesh.coordinator.v1 import queue_service_pb2 as pb
from agentmesh.coordinator.v1.coordinator_service_pb2 import LaneStats
from meshkit import identity
from meshkit.errors import Conflict, Forbidden, InvalidField
from meshkit.identity import Identity
from meshtest.eventually import eventually
from services.coordinator.coordinator_mesh import PARENT, Mesh, coordinator
from services.coordinator.settings import CoordinatorSettings
from tasklog.partitions import WHOLE, Partitions
from tasklog.policy import built_in
from tasklog.policy_store import PolicyStore
from tasklog.queues import Queues
from tasklog.subjects import Queue

pytest_plugins = ["meshtest.fixtures", "services.coordinator.coordinator_mesh"]

_QUEUE = Queue("acme", tier_pb2.LANE_STANDARD, 0)


async def _get(mesh: Mesh) -> pb.QueuePolicy:
    return (await mesh.queues.GetQueuePolicy(pb.GetQueuePolicyRequest(), timeout=60)).policy


async def _set(mesh: Mesh, policy: pb.QueuePolicy) -> pb.QueuePolicy:
    request = pb.SetQueuePolicyRequest(policy=policy)
    return (await mesh.queues.SetQueuePolicy(request, timeout=60)).policy


async def test_without_a_policy_the_built_in_one_holds(mesh: Mesh) -> None:
    """It has no etag."""
    assert await _get(mesh) == built_in()


async def test_what_is_set_is_in_force(mesh: Mesh) -> None:
    """New tasks go by it at once, and it gets an etag."""
    policy = await _get(mesh)
    policy.lanes[1].time_limit.FromSeconds(7)
    answer = await _set(mesh, policy)
    assert answer.etag
    assert await _get(mesh) == answer
    task = await mesh.submit()
    assert (task.deadline.ToDatetime() - task.create_time.ToDatetime()).total_seconds() == 7


async def test_a_stale_etag_is_a_conflict(mesh: Mesh) -> None:
    """Of two who changed the same policy, the second one reads again."""
    first = await _set(mesh, built_in())
    theirs, mine = pb.QueuePolicy(), pb.QueuePolicy()
    theirs.CopyFrom(first)
    mine.CopyFrom(first)
    theirs.shared_workers = 1
    mine.shared_workers = 2
    second = await _set(mesh, theirs)
    with pytest.raises(Conflict) as caught:
        await _set(mesh, mine)
    assert str(caught.value) == (
        f"The policy has changed: its etag is {second.etag!r}, not {first.etag!r}."
        " Read it again, and apply your change to that."
    )
    assert await _get(mesh) == second


async def test_a_bad_policy_is_refused_with_every_path(mesh: Mesh) -> None:
    """And the one in force stays."""
    policy = built_in()
    policy.shared_workers = -1
    policy.lanes[0].max_attempts = 0
    policy.tenant_tiers[2].submits_per_second = float("nan")
    policy.default_tenant_tier = "gold"
    with pytest.raises(InvalidField) as caught:
        await _set(mesh, policy)
    assert [violation.field for violation in caught.value.violations] == [
        "policy.shared_workers",
        "policy.lanes[0].max_attempts",
        "policy.tenant_tiers[2].submits_per_second",
        "policy.default_tenant_tier",
    ]
    assert await _get(mesh) == built_in()


async def test_a_missing_policy_is_refused(mesh: Mesh) -> None:
    """An empty request is no policy without limits."""
    with pytest.raises(InvalidField) as caught:
        await _set(mesh, pb.QueuePolicy())
    assert [violation.field for violation in caught.value.violations] == [
        "policy.lanes",
        "policy.default_tenant_tier",
    ]


async def test_a_lower_concurrency_reaches_queues_that_get_no_tasks(mesh: Mesh) -> None:
    """The broker itself bounds them, so their consumers change with the policy."""
    await mesh.submit()
    policy = built_in()
    policy.tenants["acme"] = "free"
    await _set(mesh, policy)

    async def limited() -> bool:
        info = await mesh.bus.consumer_info(WHOLE.stream, _QUEUE.durable)
        return info["config"]["max_ack_pending"] == 8

    await eventually(limited)


async def test_lanes_show_what_waits_and_what_runs(mesh: Mesh) -> None:
    """For the caller's tenant, with its limits; a lane without tasks is empty."""
    for _ in range(3):
        await mesh.submit(priority=0)
    await mesh.submit(priority=9)
    spec = Queues(mesh.bus, Partitions(), PolicyStore(mesh.bus)).spec(_QUEUE)
    async with aclosing(mesh.bus.consume(spec, max_in_flight=1)) as deliveries:
        await anext(deliveries)

        async def shown() -> bool:
            return (await _stats(mesh))[1] == LaneStats(
                lane=tier_pb2.LANE_STANDARD,
                queued=3,
                running=1,
                max_queued=100_000,
                max_concurrent=256,
            )

        await eventually(shown)
    interactive, _, batch = await _stats(mesh)
    assert interactive == LaneStats(
        lane=tier_pb2.LANE_INTERACTIVE, max_queued=100_000, max_concurrent=256
    )
    assert batch.lane == tier_pb2.LANE_BATCH


async def test_totals_are_over_all_tenants(mesh: Mesh) -> None:
    """A tenant sees its own tasks, and `tenants/-` everybody's together."""
    await mesh.submit()
    await mesh.submit()
    with identity.use(Identity("other", "user:test")):

        async def both_are_seen() -> bool:
            return (await _stats(mesh, "tenants/-"))[1].queued == 2

        await eventually(both_are_seen)
        assert (await _stats(mesh))[1].queued == 0
        assert (await _stats(mesh, "tenants/other"))[1].queued == 0
        with pytest.raises(Forbidden):
            await _stats(mesh, PARENT)
    assert (await _stats(mesh, PARENT))[1].queued == 2


async def test_a_malformed_parent_is_named(mesh: Mesh) -> None:
    """As for every other call."""
    with pytest.raises(InvalidField) as caught:
        await _stats(mesh, "acme")
    assert [violation.field for violation in caught.value.violations] == ["parent"]


async def test_only_operators_set_the_policy_and_see_all_tenants(
    nats_url: str, tmp_path: Path
) -> None:
    """Others are refused; they see the lanes, and the tier of their own tenant alone."""
    policy = built_in()
    policy.tenants["acme"] = "free"
    policy.tenants["other"] = "enterprise"
    settings = CoordinatorSettings(operators=["user:root", "service:test"])
    async with coordinator(nats_url, tmp_path / "a", settings=settings) as mesh:
        in_force = await _set(mesh, policy)
        assert await _get(mesh) == in_force
        assert len(await _stats(mesh, "tenants/-")) == 3
    settings = CoordinatorSettings(operators=["user:root"])
    async with coordinator(nats_url, tmp_path / "b", settings=settings) as mesh:
        with pytest.raises(Forbidden) as caught:
            await _set(mesh, in_force)
        assert str(caught.value) == (
            "service:test is no operator, and only operators may set the queue policy."
        )
        with pytest.raises(Forbidden) as caught:
            await _stats(mesh, "tenants/-")
        assert str(caught.value) == (
            "service:test is no operator, and only operators may see the lanes of all tenants."
        )
        assert len(await _stats(mesh)) == 3
        assert await _get(mesh) == pb.QueuePolicy(
            lanes=policy.lanes,
            shared_workers=policy.shared_workers,
            tenant_tiers=[policy.tenant_tiers[0]],
            tenants={"acme": "free"},
        )


async def _stats(mesh: Mesh, parent: str = "") -> list[LaneStats]:
    request = tasks_pb.GetQueueStatsRequest(parent=parent)
    return [*(await mesh.tasks.GetQueueStats(request, timeout=60)).lanes]
