"""What harms whoever touches it."""

import os
from contextlib import aclosing

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_pb2
from audit import api as audit
from meshkit import redis_store
from meshkit.bus import Bus
from meshtest.eventually import eventually
from tasklog import subjects
from tasklog.partitions import WHOLE
from tests.faults.fault import Action
from tests.faults.fault_mesh import FaultMesh
from tests.faults.load import one_user, users
from tests.faults.question import Question, tenants_of
from tests.faults.trap import Trap, laid
from tests.faults.verdict import EXPECTED, after_the_fault

pytest_plugins = ["tests.faults.shared_mesh"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

_SEED = int(os.environ.get("FAULTS_SEED", "1"))
_LANE = tier_pb2.LANE_INTERACTIVE
# Where the message lies that is no event.
_TENANTS = tenants_of("message")
_QUEUE = subjects.Queue(_TENANTS[0], _LANE, 0)


async def test_a_task_that_kills_each_of_its_executors(mesh: FaultMesh) -> None:
    """It is a dead letter after its attempts, with the reason; nobody else is harmed."""
    poison = Question("poison", "alpha", _LANE, "What is 13 * 666?", ("8658",))
    trap = Trap(Action.KILL, lasts=0.1, times=2, expression="13 * 666", silent=True)
    async with one_user(mesh.address, seed=_SEED) as load, laid(mesh, trap) as sprung:
        name = await load.submit(poison)
        # Others come in time for the second death: those who died with it twice would
        # look like it.
        await eventually(lambda: sprung.at, 60)
        async with load.going_on(per_second=10.0):
            await sprung.healed()
    ended = await after_the_fault(
        mesh,
        load,
        may_end=EXPECTED | {task_pb2.TASK_STATE_DEAD_LETTERED},
    )
    dead = [each for each in ended.values() if each.task.state != task_pb2.TASK_STATE_SUCCEEDED]
    assert [each.task.name for each in dead] == [name]
    assert dead[0].task.error.message == "The executor died during step 2, in attempt 2."
    assert dead[0].kinds() == ["submitted", "started", "model_called", "started", "dead_lettered"]


async def test_a_message_that_is_no_event(mesh: FaultMesh) -> None:
    """It is put aside, keeps nobody from their tasks, and is what the audit finds."""
    async with users(mesh.address, seed=_SEED, tenants=_TENANTS) as load:
        await load.has_asked(10)
        async with await Bus.connect(mesh.nats_url, name="poisoner") as bus:
            sequence = await bus.append(
                f"task.{_QUEUE.tenant}.poison.{_QUEUE.token}", b"\xff", expected_last=0
            )
        await load.has_asked(10)
    await after_the_fault(mesh, load, overlooked=frozenset({audit.Invariant.REPLAY}))
    async with await Bus.connect(mesh.nats_url, name="poisoner") as bus:

        async def put_aside() -> bool:
            queue = await bus.consumer_info(WHOLE.stream, _QUEUE.durable)
            return not queue["num_ack_pending"] and not queue["num_pending"]

        await eventually(put_aside, 60)
        async with (
            aclosing(redis_store.connect(mesh.redis_url)) as redis,
            aclosing(redis_store.connect(mesh.counters_url)) as counters,
        ):
            report = await audit.run(bus, redis, counters=counters)
    assert [each.stream_sequences for each in report.findings] == [(sequence,)]
