"""Watches budgets: thresholds that they reach, and months that will not last."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from services.governor import alert_velocity
from services.governor.alert import Alert, Kind
from services.governor.alert_memory import AlertMemory
from services.governor.alert_sums import Sums
from services.governor.alert_texts import moment, what_follows
from services.governor.alert_thresholds import reached
from services.governor.budget import Budget, Thresholds
from services.governor.money import usd
from services.governor.window import Window, WindowKind

# How often it is reckoned what a month will come to.
_LOOK_AHEAD_EVERY: Final = timedelta(minutes=5)


class Spent(NamedTuple):
    """What some calls add to a budget in a window."""

    budget: Budget
    window: Window
    # Of the last call.
    time: datetime
    micros: int


# A budget's name and the beginning of a window.
Place = tuple[str, datetime]


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a window of a budget, by its present limit and thresholds."""

    limit_micros: int
    thresholds: Thresholds
    # Spent at the last look, and all that was charged since, repeats included.
    most_micros: int = 0
    # The thresholds that were recorded.
    kinds: frozenset[Kind] = frozenset()
    # When it was last reckoned what the month comes to.
    looked_ahead_at: datetime | None = None
    # Whether VELOCITY was recorded.
    will_not_last: bool = False


class BudgetWatch:
    """Asks the ledger only where something may have been reached."""

    def __init__(self) -> None:
        self._memory: Final = AlertMemory[Place, _Known]()

    def alerts(self, spent: Mapping[Place, Spent], sums: Sums) -> list[Alert]:
        """What these calls call for, by what the ledger holds now."""
        self._memory.begin()
        found: list[Alert] = []
        for place, each in spent.items():
            known = self._memory.get(place)
            if known is not None and not _is_of(known, each.budget):
                known = None
            if known is not None:
                known = replace(known, most_micros=known.most_micros + each.micros)
            if known is None or _may_have_reached(known, each) or _is_to_look_ahead(known, each):
                known, alerts = _look(known or _new(each.budget), each, sums)
                found += alerts
            self._memory.learn(place, known)
        return found

    def keep(self) -> None:
        """To be called when the transaction is done."""
        self._memory.keep()

    def forget(self) -> None:
        """To be called when others may have written to the ledger."""
        self._memory.forget()


def _new(budget: Budget) -> _Known:
    return _Known(budget.limit_micros, budget.thresholds)


def _is_of(known: _Known, budget: Budget) -> bool:
    return (known.limit_micros, known.thresholds) == (budget.limit_micros, budget.thresholds)


def _may_have_reached(known: _Known, spent: Spent) -> bool:
    budget = spent.budget
    kinds = reached(known.most_micros, budget.limit_micros, budget.thresholds)
    return not kinds.keys() <= known.kinds


def _is_to_look_ahead(known: _Known, spent: Spent) -> bool:
    if spent.budget.window is not WindowKind.MONTH:
        return False
    if known.looked_ahead_at is None:
        return True
    # The last look may have been at a call that a clock ahead of the others had settled.
    since = abs(spent.time - known.looked_ahead_at)
    return not known.will_not_last and since >= _LOOK_AHEAD_EVERY


def _look(known: _Known, spent: Spent, sums: Sums) -> tuple[_Known, list[Alert]]:
    budget, window, time, _ = spent
    micros = sums.spent(budget.scope, window.start, window.end)
    alerts = list(_threshold_alerts(spent, micros))
    known = replace(
        known, most_micros=micros, kinds=known.kinds.union(alert.kind for alert in alerts)
    )
    if _is_to_look_ahead(known, spent):
        velocity = _velocity_alert(spent, micros, sums)
        known = replace(
            known,
            looked_ahead_at=time,
            will_not_last=velocity is not None,
        )
        alerts += [velocity] if velocity else []
    return known, alerts


def _threshold_alerts(spent: Spent, micros: int) -> Iterator[Alert]:
    budget = spent.budget
    kinds = reached(micros, budget.limit_micros, budget.thresholds)
    for kind, percent in kinds.items():
        text = (
            f"{budget.name} has reached {percent} % of its limit:"
            f" {usd(micros)} of {usd(budget.limit_micros)} are spent."
            # Where several were reached at once, the hardest says what happens.
            f" {what_follows([*kinds][-1], spent.window)}"
        )
        yield _alert(kind, spent, micros, text, percent)


def _velocity_alert(spent: Spent, micros: int, sums: Sums) -> Alert | None:
    budget, month, time, _ = spent
    assert month.end is not None
    # What other clocks have settled later does not belong to what it comes to by this one.
    end = min(alert_velocity.window_end(time), month.end)
    so_far, long, short = (
        sums.spent(budget.scope, start, end)
        for start in (
            month.start,
            alert_velocity.window_start(time, alert_velocity.LONG),
            alert_velocity.window_start(time, alert_velocity.SHORT),
        )
    )
    found = alert_velocity.overage(
        now=time,
        month_end=month.end,
        limit_micros=budget.limit_micros,
        spent_micros=so_far,
        long_micros=long,
        short_micros=short,
    )
    if found is None:
        return None
    return _alert(
        Kind.VELOCITY,
        spent,
        micros,
        f"{budget.name} will not last: at the rate of the last day and of the last two hours,"
        f" the month comes to {usd(round(found.projected_micros, -4))}, and its limit of"
        f" {usd(budget.limit_micros)} is reached at {moment(found.limit_reached_at)}.",
    )


def _alert(kind: Kind, spent: Spent, micros: int, text: str, percent: int | None = None) -> Alert:
    return Alert.of_budget(
        kind,
        tenant=spent.budget.scope.tenant,
        budget=spent.budget.name,
        window_start=spent.window.start if spent.window.end else None,
        text=text,
        time=spent.time,
        spent_micros=micros,
        limit_micros=spent.budget.limit_micros,
        percent=percent,
    )
