"""Which counters a call falls under at present."""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from services.governor.account import Counter
from services.governor.budget import Budget, Scope, ScopeKind
from services.governor.budgets import Budgets
from services.governor.window import Window, WindowKind, window_of, zone_of

_MOST_KEPT: Final = 10_000
# From here on a budget without lines of its own is careful, too.
_CAREFUL_PERCENT: Final = 80
_EVER: Final = window_of(WindowKind.LIFETIME, datetime(1970, 1, 1, tzinfo=UTC), UTC)
_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)


class Kind(NamedTuple):
    """What budgets go by. Each but the tenant may be empty for none."""

    tenant: str
    task_type: str = ""
    agent: str = ""
    session: str = ""


class _Found(NamedTuple):
    counters: Sequence[Counter]
    since: datetime
    until: datetime


class Scopes:
    """The counters of the budgets in force. Asking is cheap; answers are kept for their windows."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets: Final = budgets
        self._kept: OrderedDict[Kind, _Found] = OrderedDict()
        self._counters: OrderedDict[Budget, Counter] = OrderedDict()
        budgets.on_change(self._forget)

    def of(self, kind: Kind, now: datetime) -> Sequence[Counter]:
        """The counters of such a call. What starts again last comes first.

        Where two budgets are spent, it is in vain to wait for the one that starts again earlier.
        """
        found = self._kept.get(kind)
        # A clock may also be put back.
        if found is None or not found.since <= now < found.until:
            found = self._kept[kind] = self._find(kind, now)
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return found.counters

    def counter(self, budget: Budget, now: datetime) -> Counter:
        """The counter of a budget's present window."""
        counter = self._counters.get(budget)
        if counter is None or not _holds(counter.window, now):
            counter = self._counters[budget] = self._made(budget, now)
            if len(self._counters) > _MOST_KEPT:
                self._counters.popitem(last=False)
        return counter

    def beginning(self, now: datetime, until: datetime) -> Sequence[Counter]:
        """The counters of the next windows, of budgets in use, that begin until then."""
        return [
            self._made(budget, end)
            for budget, counter in self._counters.items()
            if (end := counter.window.end) is not None and now < end <= until
        ]

    def _made(self, budget: Budget, now: datetime) -> Counter:
        window = window_of(budget.window, now, zone_of(budget.time_zone) or UTC)
        return _counter(
            budget, window, written=self._budgets.written((budget.scope, budget.window))
        )

    def _find(self, kind: Kind, now: datetime) -> _Found:
        counters = [self.counter(budget, now) for budget in self._budgets.of(*kind)]
        counters.sort(key=lambda each: each.window.end or _LAST, reverse=True)
        return _Found(
            counters,
            max((each.window.start for each in counters), default=_FIRST),
            min((each.window.end or _LAST for each in counters), default=_LAST),
        )

    def _forget(self) -> None:
        self._kept.clear()
        self._counters.clear()


def task_counter_id(tenant: str, task: str) -> str:
    """The id of the counter of a task's cap."""
    return _counter_id(Scope(ScopeKind.TASK, tenant, task), _EVER)


def task_counter(tenant: str, task: str, limit_micros: int) -> Counter:
    """The counter of a task's cap."""
    budget = Budget(Scope(ScopeKind.TASK, tenant, task), WindowKind.LIFETIME, limit_micros)
    return _counter(budget, _EVER, opens_itself=True)


def _counter(
    budget: Budget, window: Window, *, written: int = 0, opens_itself: bool = False
) -> Counter:
    limit, thresholds = budget.limit_micros, budget.thresholds
    lines = (thresholds.degrade, thresholds.throttle, thresholds.shutoff, _CAREFUL_PERCENT)
    return Counter(
        id=_counter_id(budget.scope, window),
        budget=budget,
        window=window,
        shutoff_micros=limit * thresholds.shutoff // 100,
        throttle_micros=limit * thresholds.throttle // 100,
        degrade_micros=limit * thresholds.degrade // 100,
        careful_micros=limit * min(line for line in lines if line) // 100,
        written=written,
        opens_itself=opens_itself,
    )


def _counter_id(scope: Scope, window: Window) -> str:
    # By its start: in another time zone a day is another one.
    kind, tenant, subject = scope
    return f"{kind}:{tenant}:{subject}:{window.kind}:{int(window.start.timestamp())}"


def _holds(window: Window, now: datetime) -> bool:
    return window.start <= now and (window.end is None or now < window.end)
