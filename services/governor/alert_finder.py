"""Finds what settled calls call for: budgets that they brought to a threshold, and the like."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol

from meshkit.clock import Clock
from services.governor import alert_budget_watch, alert_hour_watch
from services.governor.alert import Alert
from services.governor.alert_budget_watch import BudgetWatch, Spent
from services.governor.alert_hour_watch import HourSpent, HourWatch
from services.governor.alert_sums import Sums
from services.governor.budget import Budget
from services.governor.window import window_of, zone_of

# A window that ended longer ago is nobody's concern any more: the ledger is built anew.
_STALE: Final = timedelta(days=1)


class Work(NamedTuple):
    """What a call was made for: under which budgets it falls. What it has not is empty."""

    tenant: str
    task_type: str = ""
    agent: str = ""
    session: str = ""


class Spending(NamedTuple):
    """A settled call: when it was counted, and what it cost."""

    work: Work
    time: datetime
    micros: int


class Budgets(Protocol):
    """The budgets in force."""

    def of(
        self, tenant: str, task_type: str = "", agent: str = "", session: str = ""
    ) -> Sequence[Budget]:
        """Those under which such a call falls."""
        ...


class AlertFinder:
    """Looks at what is new. For one transaction after the other."""

    def __init__(self, budgets: Budgets, clock: Clock) -> None:
        self._budgets: Final = budgets
        self._clock: Final = clock
        self._budget_watch: Final = BudgetWatch()
        self._hour_watch: Final = HourWatch()

    def search(self, spendings: Iterable[Spending]) -> Callable[[Sums], list[Alert]]:
        """What finds all that these calls call for, once they are in the ledger.

        It may be called in another thread. What it finds may have been found before.
        """
        fresh = self._clock.now() - _STALE
        windows: dict[alert_budget_watch.Place, Spent] = {}
        hours: dict[alert_hour_watch.Place, HourSpent] = {}
        for (work, quarter), (time, micros) in _by_quarter(spendings).items():
            for budget in self._budgets.of(*work):
                window = window_of(budget.window, time, zone_of(budget.time_zone) or UTC)
                if window.end is None or window.end > fresh:
                    place = budget.name, window.start
                    others = windows.get(place, Spent(budget, window, time, 0))
                    windows[place] = Spent(
                        budget, window, max(others.time, time), others.micros + micros
                    )
            hour = quarter.replace(minute=0)
            if hour > fresh:
                place = work.tenant, hour
                before = hours.get(place, HourSpent(time, 0))
                hours[place] = HourSpent(max(before.time, time), before.micros + micros)

        def alerts(sums: Sums) -> list[Alert]:
            found = self._budget_watch.alerts(windows, sums)
            return found + self._hour_watch.alerts(hours, sums)

        return alerts

    def keep(self) -> None:
        """To be called when what was found last is recorded."""
        self._budget_watch.keep()
        self._hour_watch.keep()

    def forget(self) -> None:
        """To be called when others may have written to the ledger."""
        self._budget_watch.forget()
        self._hour_watch.forget()


def _by_quarter(
    spendings: Iterable[Spending],
) -> dict[tuple[Work, datetime], tuple[datetime, int]]:
    """The last time and the sum of calls of the same kind in each quarter of an hour.

    There may be thousands of calls of few kinds, and no window begins within a quarter.
    """
    together: dict[tuple[Work, datetime], tuple[datetime, int]] = {}
    for work, time, micros in spendings:
        utc = time.astimezone(UTC)
        key = work, utc.replace(minute=utc.minute // 15 * 15, second=0, microsecond=0)
        last, total = together.get(key, (utc, 0))
        together[key] = max(last, utc), total + micros
    return together
