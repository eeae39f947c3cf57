"""What the governor's word does to new tasks."""

import asyncio
from typing import Any

from agentmesh.coordinator.v1.task_pb2 import Task
from agentmesh.governor.v1 import cost_governor_service_pb2 as governor
from meshkit import deadline
from meshkit.errors import BudgetExhausted
from meshtest.clock import FakeClock
from services.coordinator.admission_governor import GovernorAdmission

pytest_plugins = ["meshtest.fixtures"]


class Spent:
    """A governor of a tenant whose day is spent; it notes how long each caller waits."""

    def __init__(self) -> None:
        self.limits_seconds: list[tuple[float, float | None]] = []

    async def GetSpend(
        self, request: governor.GetSpendRequest, timeout: float
    ) -> governor.GetSpendResponse:
        self.limits_seconds.append((timeout, deadline.remaining_seconds()))
        await asyncio.sleep(0)
        answer = governor.GetSpendResponse()
        answer.day.limit_micros = answer.day.spent_micros = 1
        return answer


async def test_a_first_caller_in_a_hurry_admits_nobody(clock: FakeClock) -> None:
    """The question has its own half second, whoever asked first."""
    spent: Any = Spent()
    admission = GovernorAdmission(spent, clock)
    task = Task(tenant="acme")

    async def in_a_hurry() -> None:
        with deadline.limit(0.0):
            await admission.check(task)

    outcomes = await asyncio.gather(
        in_a_hurry(), admission.check(task), admission.check(task), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [BudgetExhausted] * 3
    assert spent.limits_seconds == [(0.5, None)]
