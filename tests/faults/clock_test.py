"""The clock of one service is an hour off, and right again later."""

import os

import pytest

from agentmesh.coordinator.v1 import task_pb2
from tests.faults.fault import Action, in_turn
from tests.faults.fault_mesh import SERVICES, FaultMesh
from tests.faults.load import users
from tests.faults.question import tenants_of
from tests.faults.verdict import EXPECTED, after_the_fault

pytest_plugins = ["tests.faults.shared_mesh"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

_SEED = int(os.environ.get("FAULTS_SEED", "1"))
# Who believes that a task's time is over ends it with what there is.
_ENDS = EXPECTED | {task_pb2.TASK_STATE_PARTIAL}
# So many tasks are accepted while a clock is off.
_MEANWHILE = 4


@pytest.mark.parametrize("action", [Action.HOUR_AHEAD, Action.HOUR_BEHIND])
async def test_the_clock_of_each_service_jumps(mesh: FaultMesh, action: Action) -> None:
    """Every task ends, once; no effect and no charge is lost or doubled."""
    async with users(mesh.address, seed=_SEED, tenants=tenants_of(action)) as load:
        for fault in in_turn(SERVICES, action, seed=_SEED, lasts=(0.3, 0.3), after=(0.1, 0.1)):
            await mesh.inflict(fault, lambda: load.has_asked(_MEANWHILE))
    ended = await after_the_fault(mesh, load, may_end=_ENDS)
    # Else no clock was off, and the test has shown nothing.
    assert any(each.task.state == task_pb2.TASK_STATE_PARTIAL for each in ended.values())
