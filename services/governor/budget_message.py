"""A budget as the contract has it, and back."""

from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from agentmesh.governor.v1 import budget_pb2
from meshkit.errors import InvalidField, Violation
from services.governor.budget import (
    Budget,
    Scope,
    ScopeKind,
    Thresholds,
    budget_name,
    check,
    parse_name,
)
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


def wanted_budget(message: budget_pb2.Budget) -> Budget:
    """The budget that a request describes.

    Its scope, subject and window may be left out: its name says them. Raises
    InvalidField with every fault, where it cannot be worked with.
    """
    (kind, tenant, subject), window = parse_name(message.name, field="budget.name")
    wrong = list(_contradictions(message, kind, subject, window))
    if wrong:
        raise InvalidField.many(wrong)
    budget = Budget(
        Scope(kind, tenant, subject),
        window,
        message.limit_micros,
        message.time_zone,
        _thresholds(message),
    )
    check(budget, field="budget")
    return budget


def _contradictions(
    message: budget_pb2.Budget, kind: ScopeKind, subject: str, window: WindowKind
) -> list[Violation]:
    found: list[Violation] = []
    if message.scope and _KINDS.get(message.scope) is not kind:
        said = f"must be {kind.name}, as the name says, or unset"
        if message.scope == budget_pb2.BUDGET_SCOPE_TASK:
            said = "must not be TASK: a task's cap is given when the task is submitted"
        elif message.scope not in _KINDS:
            settable = (each.name for each in ScopeKind if each is not ScopeKind.TASK)
            said = f"must be {', '.join(settable)} or unset"
        found.append(Violation("budget.scope", said))
    if message.subject and message.subject != subject:
        expected = f"{subject!r}, as the name says, or empty" if subject else "empty"
        found.append(
            Violation("budget.subject", f"must be {expected}, not {message.subject[:80]!r}")
        )
    if message.window and _WINDOWS.get(message.window) is not window:
        found.append(
            Violation("budget.window", f"must be {window.name}, as the name says, or unset")
        )
    return found


def message(budget: Budget) -> budget_pb2.Budget:
    """A budget as callers see it."""
    thresholds = budget.thresholds
    return budget_pb2.Budget(
        name=budget_name(budget.scope, budget.window),
        scope=_SCOPE_NUMBERS[budget.scope.kind],
        subject=budget.scope.subject,
        window=_WINDOW_NUMBERS[budget.window],
        limit_micros=budget.limit_micros,
        time_zone=budget.time_zone,
        thresholds=budget_pb2.BudgetThresholds(
            alert_percent=thresholds.alert,
            degrade_percent=thresholds.degrade,
            throttle_percent=thresholds.throttle,
            shutoff_percent=thresholds.shutoff,
        ),
        etag=budget.etag,
        update_time=_timestamp(budget.updated_at) if budget.updated_at else None,
    )


def message_of(budget: Budget) -> bytes:
    """A budget as it is stored: its etag is where it is stored."""
    stored = message(budget)
    stored.ClearField("etag")
    return stored.SerializeToString(deterministic=True)


def budget_of(payload: bytes, sequence: int) -> Budget | None:
    """The budget that is stored there; None for one that was removed."""
    stored = budget_pb2.Budget.FromString(payload)
    if not stored.limit_micros:
        return None
    scope, window = parse_name(stored.name, field="name")
    return Budget(
        scope,
        window,
        stored.limit_micros,
        stored.time_zone,
        _thresholds(stored),
        etag=str(sequence),
        updated_at=stored.update_time.ToDatetime(UTC),
    )


def _thresholds(message: budget_pb2.Budget) -> Thresholds:
    thresholds = message.thresholds
    return Thresholds(
        thresholds.alert_percent,
        thresholds.degrade_percent,
        thresholds.throttle_percent,
        thresholds.shutoff_percent or 100,
    )


def _timestamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
