"""A limit on spending, and what makes one that can be worked with."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from meshkit.errors import InvalidField, Violation
from services.governor.window import WindowKind, zone_of

# Up to here the numbers of Redis' scripts are exact.
MOST_MICROS: Final = 9_000_000_000_000_000
_MOST_PERCENT: Final = 100
# Copies of all zones that some machines have beside them. Those of `right` count leap seconds, and
# are up to an hour off for whoever does not. One that is stored goes on as it did.
_COPIES: Final = ("posix/", "right/")


class ScopeKind(StrEnum):
    """What a budget limits, the widest first."""

    # All tenants together.
    GLOBAL = "global"
    TENANT = "tenant"
    TASK_TYPE = "task-type"
    AGENT = "agent"
    SESSION = "session"
    # The cap that a task was submitted with; comes with its calls and is never stored.
    TASK = "task"


class Scope(NamedTuple):
    """Whose spending is counted."""

    kind: ScopeKind
    # Empty for GLOBAL.
    tenant: str = ""
    # The task type, agent, session or task; empty for GLOBAL and TENANT.
    subject: str = ""


class Thresholds(NamedTuple):
    """Shares of a limit in percent, at which something happens. 0 turns one off."""

    alert: int = 0
    degrade: int = 0
    throttle: int = 0
    shutoff: int = 100


NO_LINES: Final = Thresholds()


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on the spending of a scope within a window."""

    scope: Scope
    window: WindowKind
    limit_micros: int
    # IANA name; UTC if empty.
    time_zone: str = ""
    thresholds: Thresholds = NO_LINES
    # Empty for one that nobody has set: the tenant's tier gives it.
    etag: str = ""
    updated_at: datetime | None = None

    @property
    def name(self) -> str:
        """Its resource name."""
        return budget_name(self.scope, self.window)


# A budget's place: there is at most one for each.
Place = tuple[Scope, WindowKind]

_NO_SUBJECT: Final = re.compile("")
_SUBJECTS: Final = {
    ScopeKind.TASK_TYPE: re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"),
    ScopeKind.AGENT: re.compile(r"[a-z0-9][a-z0-9-]{0,62}"),
    ScopeKind.SESSION: re.compile(r"[A-Za-z0-9][A-Za-z0-9_~:-]{0,127}"),
    ScopeKind.TASK: re.compile(r"[A-Za-z0-9][A-Za-z0-9_~:.-]{0,127}"),
}
_WINDOWS: Final = {
    ScopeKind.GLOBAL: (WindowKind.DAY, WindowKind.MONTH),
    ScopeKind.TENANT: (WindowKind.DAY, WindowKind.MONTH),
    ScopeKind.TASK_TYPE: (WindowKind.DAY, WindowKind.MONTH),
    ScopeKind.AGENT: (WindowKind.DAY, WindowKind.MONTH),
    ScopeKind.SESSION: (WindowKind.LIFETIME,),
}
_NAME: Final = re.compile(
    r"(?:tenants/(?P<tenant>[a-z0-9][a-z0-9-]{0,62})/)?budgets/"
    r"(?P<kind>global|tenant|task-type|agent|session|task)-(?P<window>day|month|lifetime)"
    r"(?:-(?P<subject>.+))?"
)


def budget_name(scope: Scope, window: WindowKind) -> str:
    """The resource name of the budget in that place."""
    if scope.kind is ScopeKind.GLOBAL:
        return f"budgets/global-{window}"
    name = f"tenants/{scope.tenant}/budgets/{scope.kind}-{window}"
    return f"{name}-{scope.subject}" if scope.subject else name


def parse_name(name: str, *, field: str) -> Place:
    """The place that a resource name stands for; InvalidField for `field` where it is none."""
    match = _NAME.fullmatch(name)
    if match is not None:
        tenant, kind = match["tenant"] or "", ScopeKind(match["kind"])
        subject = match["subject"] or ""
        shape = _SUBJECTS.get(kind, _NO_SUBJECT)
        if bool(tenant) is (kind is not ScopeKind.GLOBAL) and shape.fullmatch(subject):
            return Scope(kind, tenant, subject), WindowKind(match["window"])
    raise InvalidField(
        field,
        "must look like 'budgets/global-day', 'tenants/acme/budgets/tenant-month',"
        " 'tenants/acme/budgets/task-type-day-chat', 'tenants/acme/budgets/agent-month-helper'"
        f" or 'tenants/acme/budgets/session-lifetime-s1', not {name[:160]!r}",
    )


def check(budget: Budget, *, field: str) -> None:
    """Refuses a budget that cannot be worked with.

    Raises:
        InvalidField: With every violation found; paths begin with `field`.
    """
    wrong = [Violation(f"{field}.{part}", what) for part, what in _wrong(budget)]
    if wrong:
        raise InvalidField.many(wrong)


def _wrong(budget: Budget) -> Iterator[tuple[str, str]]:
    kind = budget.scope.kind
    if kind is ScopeKind.TASK:
        yield "scope", "must not be TASK: a task's cap is given when the task is submitted"
        return
    if budget.window not in _WINDOWS[kind]:
        fitting = " or ".join(each.name for each in _WINDOWS[kind])
        yield "window", f"must be {fitting} with scope {kind.name}, not {budget.window.name}"
    if not 1 <= budget.limit_micros <= MOST_MICROS:
        yield "limit_micros", f"must be from 1 to {MOST_MICROS}, not {budget.limit_micros}"
    if zone_of(budget.time_zone) is None or budget.time_zone.startswith(_COPIES):
        yield (
            "time_zone",
            "must be the IANA name of a time zone, such as 'Europe/Berlin',"
            f" not {budget.time_zone[:80]!r}",
        )
    yield from _wrong_thresholds(budget.thresholds)


def _wrong_thresholds(thresholds: Thresholds) -> Iterator[tuple[str, str]]:
    before, before_percent = "", 0
    for part, percent in thresholds._asdict().items():
        path = f"thresholds.{part}_percent"
        if not 0 <= percent <= _MOST_PERCENT:
            yield path, f"must be from 0 to {_MOST_PERCENT}, not {percent}"
        elif percent and percent < before_percent:
            yield (
                path,
                f"must be at least {before}_percent ({before_percent}), or 0 to be off,"
                f" not {percent}",
            )
        elif percent:
            before, before_percent = part, percent
