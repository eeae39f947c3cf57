"""Test-only: commands before a governor with budgets, and a coordinator with one task."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2 as coordinator_pb
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceServicer
from cli.command_mesh import Commands, commands_for
from cli.scripted_governor import ScriptedGovernor
from meshkit.errors import (
    Forbidden,
    TaskNotFound,
)


class _Coordinator(CoordinatorServiceServicer):
    """Has one task."""

    async def GetTask(
        self, request: coordinator_pb.GetTaskRequest, context: Any
    ) -> coordinator_pb.GetTaskResponse:
        if not request.name.startswith("tenants/default/"):
            raise Forbidden(f"user:cli acts for tenant default, not for {request.name!r}.")
        if request.name != "tenants/default/tasks/t1":
            raise TaskNotFound(f"There is no task {request.name}.")
        return coordinator_pb.GetTaskResponse()


@pytest.fixture
async def governor() -> ScriptedGovernor:
    """Has the tenant's budget of its tier."""
    servicer: Any = ScriptedGovernor  # the RPCs that it lacks answer UNIMPLEMENTED
    return servicer()


@pytest.fixture
async def commands(governor: ScriptedGovernor) -> AsyncIterator[Commands]:
    """The command line before both."""
    coordinator: Any = _Coordinator  # the RPCs that it lacks answer UNIMPLEMENTED
    async with commands_for(
        CostGovernorService=governor, CoordinatorService=coordinator()
    ) as commands:
        yield commands
