"""Budgets as people read them."""

from collections.abc import Sequence
from datetime import UTC
from typing import Final

from agentmesh.common.v1.tier_pb2 import ModelTier
from agentmesh.governor.v1.budget_pb2 import (
    Budget,
    BudgetScope,
    BudgetStatus,
    BudgetWindow,
    Decision,
)
from agentmesh.governor.v1.cost_governor_service_pb2 import ExplainBudgetResponse
from cli.chart import bar
from cli.terminal import Styled, Terminal
from cli.wording import dollars, zoned_moment

_BAR_WIDTH: Final = 12
_WIDE_BAR_WIDTH: Final = 40
_COLUMNS: Final = ("BUDGET", "SPENT", "RESERVED", "LIMIT", "USED", "STATE", "RESETS")
_AMOUNTS: Final = ("SPENT", "RESERVED", "LIMIT")
_OK: Final = ("ok", "green")
# What is told of each threshold that is reached, the hardest first.
_STATES: Final = (
    ("shutoff_percent", "shut off", "bold red"),
    ("throttle_percent", "throttled", "red"),
    ("degrade_percent", "degraded", "yellow"),
    ("alert_percent", "alert", "yellow"),
)
_DECISIONS: Final = {
    Decision.DECISION_ALLOW: ("would be allowed", "green"),
    Decision.DECISION_DEGRADE: ("would be sent to a cheaper tier", "yellow"),
    Decision.DECISION_THROTTLE: ("would have to come back later", "yellow"),
    Decision.DECISION_DENY: ("would be refused", "bold red"),
}
_HOLD_BACK: Final = (Decision.DECISION_THROTTLE, Decision.DECISION_DENY)


def used(spent_micros: int, reserved_micros: int, limit_micros: int, width: int) -> str:
    """A bar of what is spent and reserved of a limit, with the percentage."""
    percent = 100 * (spent_micros + reserved_micros) / limit_micros if limit_micros else 0.0
    shown = f"{percent:.0f}" if percent >= 1 or percent == 0 else "<1"
    return f"{bar((spent_micros, reserved_micros), limit_micros, width)} {shown} %"


def show_budgets(terminal: Terminal, statuses: Sequence[BudgetStatus], parent: str) -> None:
    """A line for each budget; those of `parent` by id alone."""
    if not statuses:
        terminal.say("There are no budgets.")
        return
    terminal.table(_COLUMNS, [_row(each, parent) for each in statuses], right=_AMOUNTS)


def show_explanation(terminal: Terminal, answer: ExplainBudgetResponse, parent: str) -> None:
    """Every budget that applies, the one that decides, and what it decides."""
    if answer.statuses:
        terminal.table(
            ("", *_COLUMNS),
            [
                (
                    Styled(">" if each.budget.name == answer.deciding_budget else "", "bold"),
                    *_row(each, parent),
                )
                for each in answer.statuses
            ],
            right=_AMOUNTS,
        )
        terminal.say()
    else:
        terminal.say("No budget applies.")
    verdict, style = _DECISIONS.get(answer.decision, ("would be decided otherwise", ""))
    if answer.degrade_to:
        verdict = f"would be sent to the {_tier(answer.degrade_to)} tier"
    decided_by = f", by {_id(answer.deciding_budget, parent)}" if answer.deciding_budget else ""
    terminal.say(f"A call that costs next to nothing {verdict}{decided_by}.", style=style)
    if answer.explanation:
        terminal.say(answer.explanation)
    # What holds the least of calls back unseen leaves nothing.
    seen = answer.deciding_budget in [each.budget.name for each in answer.statuses]
    if answer.statuses and (seen or answer.decision not in _HOLD_BACK):
        tightest = min(answer.statuses, key=_fits_micros)
        terminal.say(
            f"The largest call that still fits: {dollars(_fits_micros(tightest))},"
            f" by {_id(tightest.budget.name, parent)}."
        )


def show_budget(terminal: Terminal, status: BudgetStatus) -> None:
    """All about one budget."""
    budget = status.budget
    window = _word(BudgetWindow.Name(budget.window), "BUDGET_WINDOW_")
    if budget.window != BudgetWindow.BUDGET_WINDOW_LIFETIME:
        window += f" ({budget.time_zone or 'UTC'})"
    limits = _word(BudgetScope.Name(budget.scope), "BUDGET_SCOPE_")
    left = max(0, budget.limit_micros - status.spent_micros - status.reserved_micros)
    terminal.fields(
        [
            ("Budget", budget.name),
            ("Limits", f"{limits} {budget.subject}".rstrip()),
            ("Window", window),
            ("Limit", dollars(budget.limit_micros)),
            ("Spent", dollars(status.spent_micros)),
            ("Reserved", dollars(status.reserved_micros)),
            ("Left", dollars(left)),
            ("Used", _used(status, _WIDE_BAR_WIDTH)),
            ("State", _state(status)[0]),
            ("Alert at", _threshold(budget, budget.thresholds.alert_percent)),
            ("Degrade at", _threshold(budget, budget.thresholds.degrade_percent)),
            ("Throttle at", _threshold(budget, budget.thresholds.throttle_percent)),
            ("Shut off at", _threshold(budget, budget.thresholds.shutoff_percent or 100)),
            ("Began", _moment(status, "window_start")),
            ("Resets", _moment(status, "resets_at") or "never"),
            ("Set", _written(budget)),
            ("Etag", budget.etag),
        ]
    )


def _fits_micros(status: BudgetStatus) -> int:
    """The most that a call may cost at most, so that it is admitted."""
    percent = status.budget.thresholds.shutoff_percent or 100
    shutoff = status.budget.limit_micros * percent // 100
    # An older governor does not say what calls can cost at most.
    under_way = max(status.reserved_micros, status.committed_micros)
    return max(0, shutoff - status.spent_micros - under_way)


def _row(status: BudgetStatus, parent: str) -> tuple[str | Styled, ...]:
    state, style = _state(status)
    return (
        _id(status.budget.name, parent),
        dollars(status.spent_micros),
        dollars(status.reserved_micros),
        dollars(status.budget.limit_micros),
        Styled(_used(status, _BAR_WIDTH), style),
        Styled(state, style),
        _moment(status, "resets_at") or "never",
    )


def _used(status: BudgetStatus, width: int) -> str:
    return used(status.spent_micros, status.reserved_micros, status.budget.limit_micros, width)


def _state(status: BudgetStatus) -> tuple[str, str]:
    """The hardest threshold that spending and reservations have reached."""
    thresholds = status.budget.thresholds
    millionths = 100 * (status.spent_micros + status.reserved_micros)
    for field, word, style in _STATES:
        percent: int = getattr(thresholds, field)
        if field == "shutoff_percent":
            percent = percent or 100
        if percent and millionths >= percent * status.budget.limit_micros:
            return word, style
    return _OK


def _threshold(budget: Budget, percent: int) -> str:
    if not percent:
        return "off"
    return f"{percent} % ({dollars(budget.limit_micros * percent // 100)})"


def _moment(status: BudgetStatus, field: str) -> str:
    if not status.HasField(field):
        return ""
    return zoned_moment(getattr(status, field).ToDatetime(tzinfo=UTC))


def _written(budget: Budget) -> str:
    if not budget.HasField("update_time"):
        return "by the tenant's tier" if not budget.etag else ""
    return zoned_moment(budget.update_time.ToDatetime(tzinfo=UTC))


def _id(name: str, parent: str) -> str:
    return name.removeprefix(f"{parent}/budgets/").removeprefix("budgets/")


def _tier(tier: ModelTier) -> str:
    return _word(ModelTier.Name(tier), "MODEL_TIER_")


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower().replace("_", " ")
