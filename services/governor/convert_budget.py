"""Where budgets stand, and questions about them: the contract to the domain and back."""

from collections.abc import Sequence
from typing import Final

from agentmesh.common.v1 import tier_pb2, usage_pb2
from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from services.governor import budget_message, convert
from services.governor.budget import ScopeKind
from services.governor.convert import timestamp
from services.governor.scopes import Kind
from services.governor.standings import BudgetStanding, Explanation, Question
from services.governor.verdicts import Tiers, comes_free, explain

_DECISIONS: Final = (
    budget_pb2.DECISION_ALLOW,
    budget_pb2.DECISION_DEGRADE,
    budget_pb2.DECISION_THROTTLE,
    budget_pb2.DECISION_DENY,
)
_DEGRADE: Final = 1


def question(request: pb.ExplainBudgetRequest, tiers: Tiers) -> Question:
    """What ExplainBudget asks."""
    return Question(
        kind=Kind(
            convert.tenant(request.parent),
            convert.text("task_type", request.task_type),
            convert.agent(request.agent),
            convert.last_part("session", request.session),
        ),
        task=convert.task(request.task),
        interactive=request.lane == tier_pb2.LANE_INTERACTIVE,
        can_degrade=tiers.lower > 0,
    )


def explanation(
    found: Explanation, tiers: Tiers, *, hides_global: bool, has_sessions: bool
) -> pb.ExplainBudgetResponse:
    """What ExplainBudget answers. `hides_global`: what all tenants spend is not to be seen."""
    response = pb.ExplainBudgetResponse(
        statuses=[
            status(each)
            for each in found.standings
            if not (hides_global and each.budget.scope.kind is ScopeKind.GLOBAL)
        ],
        decision=_DECISIONS[found.decision.level],
        has_session_budgets=has_sessions,
    )
    tenant = found.wish.tenant
    refusal, sent_to = tiers.refusal(tenant), tiers.usable if tiers.usable != tiers.asked else 0
    # In the order in which Admit looks at them.
    if refusal is not None:
        response.decision = budget_pb2.DECISION_DENY
        response.deciding_budget, response.explanation = refusal.budget, refusal.explanation
    elif found.decision.level:
        response.deciding_budget, response.explanation = explain(found.decision, found.wish)
        if found.decision.level == _DEGRADE:
            sent_to = tiers.lower
        elif comes_free(found.decision, found.wish):
            response.decision = budget_pb2.DECISION_THROTTLE
    elif sent_to:
        response.decision = budget_pb2.DECISION_DEGRADE
        response.deciding_budget, response.explanation = tiers.sent_lower(tenant)
    if response.decision == budget_pb2.DECISION_DEGRADE:
        response.degrade_to = convert.tier_number(sent_to)
    return response


def status(stands: BudgetStanding) -> budget_pb2.BudgetStatus:
    """A budget and where it stands."""
    window = stands.window
    return budget_pb2.BudgetStatus(
        budget=budget_message.message(stands.budget),
        spent_micros=stands.standing.spent_micros,
        reserved_micros=stands.standing.reserved_micros,
        committed_micros=stands.standing.committed_micros,
        window_start=timestamp(window.start) if window.end else None,
        resets_at=timestamp(window.end) if window.end else None,
    )


def statuses(standings: Sequence[BudgetStanding], next_page_token: str) -> pb.ListBudgetsResponse:
    """A page of ListBudgets."""
    return pb.ListBudgetsResponse(
        statuses=[status(each) for each in standings], next_page_token=next_page_token
    )


def spend_window(stands: BudgetStanding) -> pb.SpendWindow:
    """A window as GetSpend answers it."""
    standing, window = stands.standing, stands.window
    return pb.SpendWindow(
        spent_micros=standing.spent_micros,
        reserved_micros=standing.reserved_micros,
        limit_micros=stands.budget.limit_micros,
        window_start=timestamp(window.start),
        resets_at=timestamp(window.end) if window.end else None,
        usage=usage_pb2.Usage(
            input_tokens=standing.usage.input_tokens,
            output_tokens=standing.usage.output_tokens,
            cost_micros=standing.spent_micros,
            model_calls=standing.usage.model_calls,
            tool_calls=standing.usage.tool_calls,
            cache_hits=standing.usage.cache_hits,
            cached_input_tokens=standing.usage.cached_input_tokens,
        ),
    )
