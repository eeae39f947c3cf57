"""What the governor's word does to new tasks."""

import asyncio
from typing import Any

import pytest

from agentmesh.coordinator.v1.task_pb2 import Task
from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as governor
from meshkit import deadline
from meshkit.errors import BudgetExhausted, DependencyUnavailable
from meshtest.clock import FakeClock
from services.coordinator.admission_governor import GovernorAdmission

pytest_plugins = ["meshtest.fixtures"]

_ACME = "tenants/acme/budgets"


class Told:
    """A governor that answers what it was told; it notes what it is asked, and with what limit."""

    def __init__(self) -> None:
        self.answer = governor.ExplainBudgetResponse()
        # Those of sessions have another answer.
        self.of_session = governor.ExplainBudgetResponse()
        self.is_away = False
        self.limits_seconds: list[tuple[float, float | None]] = []
        self.asked: list[tuple[str, str, str]] = []

    def spend(self, name: str, *, spent: int, limit: int, resets_at: str = "") -> None:
        status = self.answer.statuses.add(spent_micros=spent)
        status.budget.name, status.budget.limit_micros = name, limit
        if resets_at:
            status.resets_at.FromJsonString(resets_at)

    async def ExplainBudget(
        self, request: governor.ExplainBudgetRequest, timeout: float
    ) -> governor.ExplainBudgetResponse:
        self.limits_seconds.append((timeout, deadline.remaining_seconds()))
        self.asked.append((request.task_type, request.agent, request.session))
        await asyncio.sleep(0)
        if self.is_away:
            raise DependencyUnavailable("The governor is away.")
        return self.of_session if request.session else self.answer


@pytest.fixture
def told() -> Told:
    """A governor under which nothing is spent."""
    return Told()


@pytest.fixture
def admission(told: Any, clock: FakeClock) -> GovernorAdmission:
    """The gate that asks it."""
    return GovernorAdmission(told, clock)


async def test_a_first_caller_in_a_hurry_admits_nobody(
    told: Told, admission: GovernorAdmission
) -> None:
    """The question has its own half second, whoever asked first."""
    told.spend(f"{_ACME}/tenant-day", spent=1, limit=1)
    task = Task(tenant="acme")

    async def in_a_hurry() -> None:
        with deadline.limit(0.0):
            await admission.check(task)

    outcomes = await asyncio.gather(
        in_a_hurry(), admission.check(task), admission.check(task), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [BudgetExhausted] * 3
    assert told.limits_seconds == [(0.5, None)]


async def test_every_budget_of_the_task_counts(told: Told, admission: GovernorAdmission) -> None:
    """Of those that are spent, the one that starts again last is named."""
    told.spend(f"{_ACME}/tenant-month", spent=99, limit=100, resets_at="2026-02-01T00:00:00Z")
    told.spend(f"{_ACME}/task-type-day-chat", spent=5, limit=5, resets_at="2026-01-02T00:00:00Z")
    told.spend(f"{_ACME}/agent-month-helper", spent=6, limit=5, resets_at="2026-02-01T00:00:00Z")
    with pytest.raises(BudgetExhausted) as caught:
        await admission.check(
            Task(tenant="acme", task_type="chat", agent="tenants/acme/agents/helper@3")
        )
    assert told.asked == [("chat", "helper", "")]
    assert caught.value.metadata == {
        "budget": f"{_ACME}/agent-month-helper",
        "resets_at": "2026-02-01T00:00:00Z",
    }
    assert [each.subject for each in caught.value.quota] == [f"{_ACME}/agent-month-helper"]


async def test_what_is_reserved_keeps_no_task_out(told: Told, admission: GovernorAdmission) -> None:
    """It may be free again before the task makes its first call."""
    told.spend(f"{_ACME}/tenant-day", spent=1, limit=100)
    told.answer.decision = budget_pb2.DECISION_DENY
    told.answer.deciding_budget = f"{_ACME}/tenant-day"
    await admission.check(Task(tenant="acme"))


async def test_a_budget_that_is_not_shown_counts_too(
    told: Told, admission: GovernorAdmission
) -> None:
    """Of what all tenants spend a tenant learns only that it is spent."""
    told.answer.decision = budget_pb2.DECISION_DENY
    told.answer.deciding_budget = "budgets/global-day"
    told.answer.explanation = "What all tenants together may spend is spent."
    with pytest.raises(BudgetExhausted) as caught:
        await admission.check(Task(tenant="acme"))
    assert caught.value.message == "What all tenants together may spend is spent."
    assert caught.value.metadata == {"budget": "budgets/global-day"}


async def test_a_shutoff_below_the_limit_counts(told: Told, admission: GovernorAdmission) -> None:
    """A budget that stops at half of its limit is spent there."""
    told.spend(f"{_ACME}/tenant-day", spent=50, limit=100)
    await admission.check(Task(tenant="acme"))
    told.answer.statuses[0].budget.thresholds.shutoff_percent = 50
    with pytest.raises(BudgetExhausted) as caught:
        await admission.check(Task(tenant="acme", task_type="other"))
    assert [each.description for each in caught.value.quota] == [
        "0.00005 USD of 0.0001 USD are spent; it refuses from 0.00005 USD on"
    ]


async def test_amounts_are_exact(told: Told, admission: GovernorAdmission) -> None:
    """A limit of less than a cent is told as it was set, and what is spent beside it."""
    told.spend(f"{_ACME}/tenant-day", spent=100_900, limit=100_700)
    with pytest.raises(BudgetExhausted) as caught:
        await admission.check(Task(tenant="acme"))
    assert caught.value.message == (
        f"The budget {_ACME}/tenant-day of 0.1007 USD is spent. It does not start again."
    )
    assert [each.description for each in caught.value.quota] == [
        "0.1009 USD of 0.1007 USD are spent"
    ]


async def test_sessions_are_asked_for_only_where_they_have_budgets(
    told: Told, admission: GovernorAdmission
) -> None:
    """They are many: without budgets of their own they share an answer."""
    for session in ("s1", "s2"):
        await admission.check(Task(tenant="acme", session=session))
    assert told.asked == [("", "", "")]
    told.answer.has_session_budgets = True
    status = told.of_session.statuses.add(spent_micros=1)
    status.budget.name, status.budget.limit_micros = f"{_ACME}/session-lifetime-s1", 1
    with pytest.raises(BudgetExhausted) as caught:
        await admission.check(Task(tenant="acme", task_type="chat", session="s1"))
    assert caught.value.message == (
        f"The budget {_ACME}/session-lifetime-s1 of 0.000001 USD is spent. It does not start again."
    )
    assert told.asked[1:] == [("chat", "", ""), ("chat", "", "s1")]


async def test_an_answer_holds_for_a_second(
    told: Told, admission: GovernorAdmission, clock: FakeClock
) -> None:
    """And a governor that is away keeps nobody out."""
    task = Task(tenant="acme")
    await admission.check(task)
    told.spend(f"{_ACME}/tenant-day", spent=1, limit=1)
    await admission.check(task)
    await clock.advance(1.1)
    with pytest.raises(BudgetExhausted):
        await admission.check(task)
    told.is_away = True
    await clock.advance(1.1)
    await admission.check(task)
