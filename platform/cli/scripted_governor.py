"""Test-only: a governor as the command line sees it, with what it is told to answer."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

from agentmesh.common.v1 import tier_pb2
from agentmesh.common.v1.usage_pb2 import Usage
from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from agentmesh.governor.v1.cost_governor_service_pb2_grpc import CostGovernorServiceServicer
from meshkit.errors import (
    BudgetNotFound,
    Conflict,
    DependencyUnavailable,
    InvalidField,
    RateLimited,
)

TENANT_DAY: Final = "tenants/default/budgets/tenant-day"
METHOD: Final = "spent so far, and for the rest what the same hours of the last 28 days cost."


class ScriptedGovernor(CostGovernorServiceServicer):
    """Budgets under etags, of which the tier gives the day; 3 dollars a day on two models."""

    def __init__(self) -> None:
        self.stored: dict[str, budget_pb2.Budget] = {
            TENANT_DAY: budget_pb2.Budget(
                name=TENANT_DAY,
                scope=budget_pb2.BUDGET_SCOPE_TENANT,
                window=budget_pb2.BUDGET_WINDOW_DAY,
                limit_micros=100_000_000,
            )
        }
        # What is spent and reserved; and the most that calls under way can cost, where it is more.
        self.spent: dict[str, tuple[int, int]] = {}
        self.committed: dict[str, int] = {}
        self.request_ids: list[str] = []
        self.parents: list[str] = []
        self.explained: list[pb.ExplainBudgetRequest] = []
        self.deleted: list[pb.DeleteBudgetRequest] = []
        # How often somebody else is quicker.
        self.others = 0
        self.queries: list[pb.QuerySpendRequest] = []
        self.exports: list[pb.ExportSpendRequest] = []
        self.ledger_away = False
        # Of the day.
        self.projected_micros = 9_100_000
        # How many parts of an export are sent before it breaks; None for all.
        self.breaks_after: int | None = None
        # While set, it answers nothing.
        self.hangs = False

    def _status(self, name: str) -> budget_pb2.BudgetStatus:
        spent, reserved = self.spent.get(name, (0, 0))
        status = budget_pb2.BudgetStatus(
            budget=self.stored[name],
            spent_micros=spent,
            reserved_micros=reserved,
            committed_micros=self.committed.get(name, reserved),
        )
        if status.budget.window != budget_pb2.BUDGET_WINDOW_LIFETIME:
            status.window_start.FromJsonString("2026-11-20T00:00:00Z")
            status.resets_at.FromJsonString("2026-11-21T00:00:00Z")
        return status

    def _store(self, budget: budget_pb2.Budget) -> budget_pb2.Budget:
        stored = budget_pb2.Budget()
        stored.CopyFrom(budget)
        before = self.stored.get(budget.name)
        stored.etag = str(int(before.etag or 0) + 1 if before else 1)
        stored.update_time.FromJsonString("2026-11-20T12:00:00Z")
        self.stored[budget.name] = stored
        return stored

    async def SetBudget(self, request: pb.SetBudgetRequest, context: Any) -> pb.SetBudgetResponse:
        """Puts a budget in force."""
        budget = request.budget
        self.request_ids.append(request.request_id)
        if budget.thresholds.alert_percent > budget.thresholds.degrade_percent > 0:
            raise InvalidField("budget.thresholds.degrade_percent", "must rise")
        if self.others:
            self.others -= 1
            other = budget_pb2.Budget()
            other.CopyFrom(self.stored[budget.name])
            other.thresholds.throttle_percent = 95
            self._store(other)
        found = self.stored.get(budget.name)
        # What the tier gives has none.
        present = (found.etag if found else "") or "0"
        if budget.etag and budget.etag != present:
            raise Conflict(f"{budget.name} has changed.")
        return pb.SetBudgetResponse(budget=self._store(budget))

    async def GetBudget(self, request: pb.GetBudgetRequest, context: Any) -> pb.GetBudgetResponse:
        """A budget and where it stands."""
        if request.name not in self.stored:
            raise BudgetNotFound(f"There is no budget {request.name}.")
        return pb.GetBudgetResponse(status=self._status(request.name))

    async def ListBudgets(
        self, request: pb.ListBudgetsRequest, context: Any
    ) -> pb.ListBudgetsResponse:
        """One budget a page."""
        if self.hangs:
            await asyncio.Event().wait()
        self.parents.append(request.parent)
        names = sorted(self.stored)
        start = int(request.page_token or 0)
        return pb.ListBudgetsResponse(
            statuses=[self._status(names[start])],
            next_page_token=str(start + 1) if start + 1 < len(names) else "",
        )

    async def DeleteBudget(
        self, request: pb.DeleteBudgetRequest, context: Any
    ) -> pb.DeleteBudgetResponse:
        """Takes a budget out of force."""
        self.deleted.append(request)
        del self.stored[request.name]
        return pb.DeleteBudgetResponse()

    async def ExplainBudget(
        self, request: pb.ExplainBudgetRequest, context: Any
    ) -> pb.ExplainBudgetResponse:
        """Which one decides."""
        self.explained.append(request)
        if request.session == "free":
            return pb.ExplainBudgetResponse(decision=budget_pb2.DECISION_ALLOW)
        if request.session == "fast":
            raise RateLimited("Too fast. Try again in 1 s.", retry_after_seconds=1.0)
        return pb.ExplainBudgetResponse(
            statuses=[self._status(name) for name in sorted(self.stored)],
            decision=budget_pb2.DECISION_DEGRADE,
            deciding_budget=TENANT_DAY,
            explanation="92 % of the limit are spent or reserved.",
            degrade_to=tier_pb2.MODEL_TIER_FAST,
        )

    async def GetSpend(self, request: pb.GetSpendRequest, context: Any) -> pb.GetSpendResponse:
        """The day and the month."""
        if self.hangs:
            await asyncio.Event().wait()
        answer = pb.GetSpendResponse(
            day=pb.SpendWindow(
                spent_micros=3_000_000,
                reserved_micros=1_000_000,
                limit_micros=8_000_000,
                usage=Usage(input_tokens=12_000, output_tokens=900, model_calls=7),
            ),
            month=pb.SpendWindow(spent_micros=42_000_000),
        )
        answer.day.resets_at.FromJsonString("2026-11-21T00:00:00Z")
        answer.month.resets_at.FromJsonString("2026-12-01T00:00:00Z")
        return answer

    async def ProjectSpend(
        self, request: pb.ProjectSpendRequest, context: Any
    ) -> pb.ProjectSpendResponse:
        """What they will have cost."""
        if self.ledger_away:
            raise DependencyUnavailable("The ledger cannot be reached.")
        answer = pb.ProjectSpendResponse(
            day=pb.SpendProjection(
                spent_micros=3_000_000,
                projected_micros=self.projected_micros,
                limit_micros=8_000_000,
                method=METHOD,
            ),
            month=pb.SpendProjection(projected_micros=60_000_000, method=METHOD),
        )
        answer.day.limit_reached_at.FromJsonString("2026-11-20T21:00:00Z")
        return answer

    async def QuerySpend(
        self, request: pb.QuerySpendRequest, context: Any
    ) -> pb.QuerySpendResponse:
        """Spending by group, two a page."""
        kept = pb.QuerySpendRequest()
        kept.CopyFrom(request)
        self.queries.append(kept)
        if list(request.group_by) == [pb.SPEND_DIMENSION_DAY]:
            today = datetime.now(UTC).date().isoformat()
            return pb.QuerySpendResponse(rows=[_row(3_000_000, today)])
        if not request.group_by:
            return pb.QuerySpendResponse(rows=[_row(4_000_000)])
        if list(request.group_by) == [pb.SPEND_DIMENSION_AGENT]:
            return pb.QuerySpendResponse(rows=[_row(9_990_000, "busy"), _row(1, "idle")])
        rows = [
            _row(1_000_000, "gpt-5-mini", tasks=4, succeeded=0),
            _row(3_000_000, "claude-sonnet-4-5", tasks=2, succeeded=1),
            _row(0, ""),
        ]
        for row in rows:
            row.group.extend(["fast"] * (len(request.group_by) - 1))
        start = int(request.page_token or 0)
        return pb.QuerySpendResponse(
            rows=rows[start : start + 2], next_page_token="2" if start == 0 else ""
        )

    async def ExportSpend(
        self, request: pb.ExportSpendRequest, context: Any
    ) -> AsyncIterator[pb.ExportSpendResponse]:
        """A file in two parts."""
        self.exports.append(request)
        for number, part in enumerate((b"tenant,key\n", b"default,a\n")):
            if number == self.breaks_after:
                raise DependencyUnavailable("The ledger went away.")
            yield pb.ExportSpendResponse(data=part)


def _row(cost: int, *group: str, tasks: int = 0, succeeded: int = 0) -> pb.SpendRow:
    row = pb.SpendRow(
        group=group,
        usage=Usage(cost_micros=cost, model_calls=10, input_tokens=2000, output_tokens=300),
        tasks=tasks,
        succeeded_tasks=succeeded,
    )
    if tasks:
        row.cost_micros_per_task = cost / tasks
    if succeeded:
        row.cost_micros_per_succeeded_task = cost / succeeded
    return row
