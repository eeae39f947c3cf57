"""Finds what settled calls call for: budgets that they brought to a threshold, and the like."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol

from meshkit.clock import Clock
from services.governor import alert_velocity
from services.governor.alert import Alert, Kind
from services.governor.alert_anomaly import HISTORY_DAYS, anomaly
from services.governor.alert_thresholds import reached
from services.governor.alert_velocity import overage
from services.governor.budget import Budget, Scope
from services.governor.money import usd
from services.governor.window import Window, WindowKind, window_of, zone_of

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
# A window that ended longer ago is nobody's concern any more: the ledger is built anew.
_STALE: Final = timedelta(days=1)
_WHAT_FOLLOWS: Final = {
    Kind.ALERT: "Nothing changes yet.",
    Kind.DEGRADE: "Calls use cheaper tiers from here on.",
    Kind.THROTTLE: "All but interactive work waits from here on.",
    Kind.SHUTOFF: "Calls are refused from here on.",
}


class Work(NamedTuple):
    """What a call was made for: under which budgets it falls. What it has not is empty."""

    tenant: str
    task_type: str = ""
    agent: str = ""
    session: str = ""


class Spending(NamedTuple):
    """A settled call, and when it was counted."""

    work: Work
    time: datetime


class Budgets(Protocol):
    """The budgets in force."""

    def of(
        self, tenant: str, task_type: str = "", agent: str = "", session: str = ""
    ) -> Sequence[Budget]:
        """Those under which such a call falls."""
        ...


class Sums(Protocol):
    """What the ledger holds, in micro-USD, the calls in question included."""

    def spent(self, scope: Scope, start: datetime, end: datetime | None) -> int:
        """Spent in the scope from `start` until before `end`, None for no end."""
        ...

    def by_hour(self, tenant: str, hours: Sequence[datetime]) -> Sequence[int]:
        """Spent by the tenant in each of these hours, given by their beginnings."""
        ...

    def first_time(self, tenant: str) -> datetime | None:
        """When the tenant first spent anything, to the hour; None if it never did."""
        ...


@dataclass(frozen=True, slots=True)
class Search:
    """Where to look for alerts after some calls, and what with. Safe to use in any thread."""

    # Budgets in the windows that the calls count in, each with the time of the last call.
    _windows: dict[tuple[str, datetime], tuple[Budget, Window, datetime]]
    # Tenants in the hours that the calls were settled in, likewise.
    _hours: dict[tuple[str, datetime], datetime]

    def alerts(self, sums: Sums) -> list[Alert]:
        """All that the ledger as it is now calls for: also what was found before."""
        found: list[Alert] = []
        for budget, window, time in self._windows.values():
            spent = sums.spent(budget.scope, window.start, window.end)
            found += _threshold_alerts(budget, window, time, spent)
            if budget.window is WindowKind.MONTH:
                found += _velocity_alert(budget, window, time, spent, sums)
        for (tenant, hour), time in self._hours.items():
            found += _anomaly_alert(tenant, hour, time, sums)
        return found


class AlertFinder:
    """Knows the budgets. Not for threads: `search` gives what is."""

    def __init__(self, budgets: Budgets, clock: Clock) -> None:
        self._budgets: Final = budgets
        self._clock: Final = clock

    def search(self, spendings: Iterable[Spending]) -> Search:
        """What to look at after these calls were written into the ledger."""
        fresh = self._clock.now() - _STALE
        windows: dict[tuple[str, datetime], tuple[Budget, Window, datetime]] = {}
        hours: dict[tuple[str, datetime], datetime] = {}
        for (work, quarter), time in _last_times(spendings).items():
            for budget in self._budgets.of(*work):
                window = window_of(budget.window, time, zone_of(budget.time_zone) or UTC)
                if window.end is None or window.end > fresh:
                    key = budget.name, window.start
                    last = windows[key][2] if key in windows else time
                    windows[key] = budget, window, max(last, time)
            hour = quarter.replace(minute=0)
            if hour > fresh:
                key = work.tenant, hour
                hours[key] = max(hours.get(key, time), time)
        return Search(windows, hours)


def _last_times(spendings: Iterable[Spending]) -> dict[tuple[Work, datetime], datetime]:
    """The last time of calls of the same kind in each quarter of an hour.

    There may be thousands of calls of few kinds, and no window begins within a quarter.
    """
    last: dict[tuple[Work, datetime], datetime] = {}
    for work, time in spendings:
        utc = time.astimezone(UTC)
        key = work, utc.replace(minute=utc.minute // 15 * 15, second=0, microsecond=0)
        last[key] = max(last.get(key, utc), utc)
    return last


def _threshold_alerts(
    budget: Budget, window: Window, time: datetime, spent: int
) -> Iterator[Alert]:
    for kind, percent in reached(spent, budget.limit_micros, budget.thresholds).items():
        text = (
            f"{budget.name} has reached {percent} % of its limit:"
            f" {usd(spent)} of {usd(budget.limit_micros)} are spent. {_WHAT_FOLLOWS[kind]}"
        )
        if window.end is not None:
            text += f" It starts again at {_moment(window.end)}."
        yield _of_budget(kind, budget, window, time, spent, text)


def _velocity_alert(
    budget: Budget, month: Window, time: datetime, spent: int, sums: Sums
) -> Iterator[Alert]:
    assert month.end is not None
    long, short = (
        sums.spent(budget.scope, alert_velocity.window_start(time, length), month.end)
        for length in (alert_velocity.LONG, alert_velocity.SHORT)
    )
    found = overage(
        now=time,
        month_end=month.end,
        limit_micros=budget.limit_micros,
        spent_micros=spent,
        long_micros=long,
        short_micros=short,
    )
    if found is not None:
        text = (
            f"{budget.name} will not last: at the rate of the last day and of the last two hours,"
            f" the month comes to {usd(round(found.projected_micros, -4))}, and its limit of"
            f" {usd(budget.limit_micros)} is reached at {_moment(found.limit_reached_at)}."
        )
        yield _of_budget(Kind.VELOCITY, budget, month, time, spent, text)


def _anomaly_alert(tenant: str, hour: datetime, time: datetime, sums: Sums) -> Iterator[Alert]:
    first = sums.first_time(tenant)
    if first is None:
        return
    days = (hour - day * _DAY for day in range(1, HISTORY_DAYS + 1))
    earlier = [each for each in days if each + _HOUR > first]
    spent, *usual = sums.by_hour(tenant, [hour, *earlier])
    found = anomaly(spent, usual)
    if found is not None:
        text = (
            f"tenants/{tenant} has spent {usd(spent)} since {_moment(hour)}, where"
            f" {usd(found.usual_micros)} are usual at this hour: the median of {len(usual)} days,"
            f" with a modified z-score of {found.score:.1f}."
        )
        yield Alert.of_hour(
            tenant=tenant,
            hour=hour,
            text=text,
            time=time,
            spent_micros=spent,
            usual_micros=found.usual_micros,
        )


def _of_budget(
    kind: Kind, budget: Budget, window: Window, time: datetime, spent: int, text: str
) -> Alert:
    return Alert.of_budget(
        kind,
        tenant=budget.scope.tenant,
        budget=budget.name,
        window_start=window.start if window.end else None,
        text=text,
        time=time,
        spent_micros=spent,
        limit_micros=budget.limit_micros,
    )


def _moment(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%MZ}"
