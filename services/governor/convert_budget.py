"""Budgets and where they stand: the contract to the domain and back."""

from typing import Final

from agentmesh.common.v1 import usage_pb2
from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from services.governor.budget import (
    Place,
    ScopeKind,
    parse_name,
)
from services.governor.convert import timestamp
from services.governor.standings import BudgetStanding
from services.governor.window import WindowKind

_KINDS: Final = {
    budget_pb2.BUDGET_SCOPE_GLOBAL: ScopeKind.GLOBAL,
    budget_pb2.BUDGET_SCOPE_TENANT: ScopeKind.TENANT,
    budget_pb2.BUDGET_SCOPE_TASK_TYPE: ScopeKind.TASK_TYPE,
    budget_pb2.BUDGET_SCOPE_AGENT: ScopeKind.AGENT,
    budget_pb2.BUDGET_SCOPE_SESSION: ScopeKind.SESSION,
    budget_pb2.BUDGET_SCOPE_TASK: ScopeKind.TASK,
}
_WINDOWS: Final = {
    budget_pb2.BUDGET_WINDOW_DAY: WindowKind.DAY,
    budget_pb2.BUDGET_WINDOW_MONTH: WindowKind.MONTH,
    budget_pb2.BUDGET_WINDOW_LIFETIME: WindowKind.LIFETIME,
}
_SCOPE_NUMBERS: Final = {kind: number for number, kind in _KINDS.items()}
_WINDOW_NUMBERS: Final = {window: number for number, window in _WINDOWS.items()}


def place(name: str, *, field: str) -> Place:
    """The place of a budget by its name; InvalidField where it is none."""
    return parse_name(name, field=field)


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
