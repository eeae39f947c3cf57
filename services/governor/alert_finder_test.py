"""Tests of what settled calls call for, with a ledger in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from meshtest.clock import FakeClock
from services.governor.alert import Alert, Kind
from services.governor.alert_finder import AlertFinder, Spending, Work
from services.governor.alert_thresholds import reached
from services.governor.budget import Budget, Scope, ScopeKind, Thresholds
from services.governor.budgets import Budgets
from services.governor.window import WindowKind

_USD = 1_000_000
_NOW = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_FOUR = Thresholds(50, 80, 95, 100)
_ACME = Scope(ScopeKind.TENANT, "acme")


@dataclass
class _Ledger:
    """Sums over a list of calls."""

    calls: list[tuple[Work, datetime, int]] = field(
        default_factory=list[tuple[Work, datetime, int]]
    )
    # How often it was asked.
    questions: int = 0

    def add(self, work: Work, time: datetime, micros: int) -> Spending:
        self.calls.append((work, time, micros))
        return Spending(work, time, micros)

    def spent(self, scope: Scope, start: datetime, end: datetime | None) -> int:
        self.questions += 1
        return sum(
            micros
            for work, time, micros in self.calls
            if start <= time and (end is None or time < end) and _is_in(work, scope)
        )

    def by_hour(self, tenant: str, hours: Sequence[datetime]) -> Sequence[int]:
        scope = Scope(ScopeKind.TENANT, tenant)
        return [self.spent(scope, hour, hour + _HOUR) for hour in hours]

    def first_time(self, tenant: str) -> datetime | None:
        times = [time for work, time, _ in self.calls if work.tenant == tenant]
        return min(times, default=None)


def _is_in(work: Work, scope: Scope) -> bool:
    match scope.kind:
        case ScopeKind.GLOBAL:
            return True
        case ScopeKind.TENANT:
            return work.tenant == scope.tenant
        case ScopeKind.TASK_TYPE:
            return (work.tenant, work.task_type) == (scope.tenant, scope.subject)
        case ScopeKind.AGENT:
            return (work.tenant, work.agent) == (scope.tenant, scope.subject)
        case _:
            return (work.tenant, work.session) == (scope.tenant, scope.subject)


class _World:
    """Budgets, a ledger, and what was found so far."""

    def __init__(self, *budgets: Budget, now: datetime = _NOW) -> None:
        self.budgets = Budgets(lambda _: [])
        self.budgets.replace_all(budgets)
        self.ledger = _Ledger()
        self.clock = FakeClock(now)
        self.known: dict[str, Alert] = {}
        self.finder = AlertFinder(self.budgets, self.clock)

    def spend(self, work: Work, micros: int, time: datetime | None = None) -> list[Alert]:
        """Settles a call; what is found that was not found before."""
        spending = self.ledger.add(work, time or self.clock.now(), micros)
        return self.find(spending)

    def find(self, *spendings: Spending) -> list[Alert]:
        found = self.finder.search(spendings)(self.ledger)
        self.finder.keep()
        new = [alert for alert in found if alert.id not in self.known]
        self.known |= {alert.id: alert for alert in new}
        return new


def _kinds(alerts: Sequence[Alert]) -> list[tuple[str, str]]:
    return [(alert.kind, alert.budget) for alert in alerts]


def test_an_alert_says_what_happened() -> None:
    """A threshold's alert names budget, share, amounts, what follows, and the end of the window."""
    world = _World(Budget(_ACME, WindowKind.DAY, 10 * _USD, thresholds=_FOUR))
    [alert] = world.spend(Work("acme"), 8 * _USD - 1)
    assert alert.kind is Kind.ALERT
    [alert] = world.spend(Work("acme"), 1)
    assert alert == Alert(
        id=alert.id,
        tenant="acme",
        budget="tenants/acme/budgets/tenant-day",
        kind=Kind.DEGRADE,
        text="tenants/acme/budgets/tenant-day has reached 80 % of its limit: 8.00 USD of 10.00 USD"
        " are spent. Calls use cheaper tiers from here on."
        " It starts again at 2026-11-21T00:00Z.",
        time=_NOW,
        spent_micros=8 * _USD,
        limit_micros=10 * _USD,
    )


def test_every_budget_of_a_call_is_looked_at() -> None:
    """Global, tenant, task type, agent and session, each by what was spent in it."""
    work = Work("acme", "chat", "helper", "s1")
    scopes = [
        (Scope(ScopeKind.GLOBAL), WindowKind.DAY),
        (_ACME, WindowKind.DAY),
        (Scope(ScopeKind.TASK_TYPE, "acme", "chat"), WindowKind.DAY),
        (Scope(ScopeKind.AGENT, "acme", "helper"), WindowKind.DAY),
        (Scope(ScopeKind.SESSION, "acme", "s1"), WindowKind.LIFETIME),
    ]
    budgets = [Budget(scope, window, 10 * _USD) for scope, window in scopes]
    world = _World(*budgets)
    world.spend(Work("globex"), 4 * _USD)
    world.spend(Work("acme"), 3 * _USD)
    world.spend(work._replace(session="s2"), 2 * _USD)
    assert _kinds(world.spend(work, 1 * _USD)) == [("SHUTOFF", budgets[0].name)]
    assert _kinds(world.spend(work, 4 * _USD)) == [("SHUTOFF", budgets[1].name)]
    assert _kinds(world.spend(work, 3 * _USD)) == [
        ("SHUTOFF", budgets[2].name),
        ("SHUTOFF", budgets[3].name),
    ]
    [of_session] = world.spend(work, 2 * _USD)
    assert of_session.text == (
        "tenants/acme/budgets/session-lifetime-s1 has reached 100 % of its limit:"
        " 10.00 USD of 10.00 USD are spent. Calls are refused from here on."
    )
    assert [alert.tenant for alert in world.known.values()] == ["", *["acme"] * 4]


def test_each_window_is_told_anew() -> None:
    """What was told on one day is told on the next one, by the calendar of the budget."""
    budget = Budget(_ACME, WindowKind.DAY, 10, time_zone="Asia/Kathmandu")
    world = _World(budget)
    # In Kathmandu the day begins at 18:15 UTC.
    assert len(world.spend(Work("acme"), 10, _NOW.replace(hour=18, minute=14))) == 1
    assert not world.spend(Work("acme"), 9, _NOW.replace(hour=18, minute=15))
    assert len(world.spend(Work("acme"), 1, _NOW.replace(hour=18, minute=29))) == 1
    assert not world.spend(Work("acme"), 10, _NOW.replace(hour=18, minute=29))


def test_a_limit_that_is_lowered_is_told_with_the_next_call() -> None:
    """Whether the limit came down or the spending went up: it is reached."""
    world = _World(Budget(_ACME, WindowKind.DAY, 100))
    assert not world.spend(Work("acme"), 50)
    world.budgets.put(Budget(_ACME, WindowKind.DAY, 40))
    assert _kinds(world.spend(Work("acme"), 1)) == [("SHUTOFF", "tenants/acme/budgets/tenant-day")]


def test_a_limit_that_was_raised_is_reached_anew() -> None:
    """The share of another limit is another amount, and somebody wants to know of it."""
    alert = Thresholds(80, 0, 0, 100)
    world = _World(Budget(_ACME, WindowKind.DAY, 100, thresholds=alert))
    (first,) = world.spend(Work("acme"), 90)
    world.budgets.put(Budget(_ACME, WindowKind.DAY, 1000, thresholds=alert))
    assert not world.spend(Work("acme"), 600)
    (second,) = world.spend(Work("acme"), 120)
    assert (first.kind, second.kind) == (Kind.ALERT, Kind.ALERT)
    assert first.id != second.id
    assert not world.spend(Work("acme"), 50)


def test_a_threshold_that_was_moved_is_reached_anew() -> None:
    """Who lets a budget go on, or wants to hear of it later, hears of it again; once each."""
    world = _World(Budget(_ACME, WindowKind.DAY, 100, thresholds=Thresholds(50, 0, 0, 60)))
    assert [each.kind for each in world.spend(Work("acme"), 60)] == [Kind.ALERT, Kind.SHUTOFF]
    world.budgets.put(Budget(_ACME, WindowKind.DAY, 100, thresholds=Thresholds(50, 0, 0, 100)))
    assert not world.spend(Work("acme"), 35)
    world.budgets.put(Budget(_ACME, WindowKind.DAY, 100, thresholds=Thresholds(97, 0, 0, 100)))
    assert [each.kind for each in world.spend(Work("acme"), 2)] == [Kind.ALERT]
    assert [each.kind for each in world.spend(Work("acme"), 3)] == [Kind.SHUTOFF]
    world.budgets.put(Budget(_ACME, WindowKind.DAY, 100, thresholds=Thresholds(50, 0, 0, 60)))
    assert not world.spend(Work("acme"), 1)


def test_windows_of_long_ago_are_nobodys_concern() -> None:
    """A ledger that is built anew tells nothing of days that ended more than a day ago."""
    day, month = (Budget(_ACME, window, 10) for window in (WindowKind.DAY, WindowKind.MONTH))
    world = _World(day, month)
    assert _kinds(world.spend(Work("acme"), 10, _NOW - 3 * _DAY)) == [("SHUTOFF", month.name)]
    assert not world.spend(Work("acme"), 10, _NOW - 40 * _DAY)
    assert _kinds(world.spend(Work("acme"), 10, _NOW - _DAY)) == [("SHUTOFF", day.name)]


def test_lines_that_are_passed_at_once_say_what_the_last_of_them_means() -> None:
    """An alert at half of a limit does not say that nothing changes where calls are refused."""
    world = _World(Budget(_ACME, WindowKind.DAY, 10 * _USD, thresholds=_FOUR))
    for spent, follows in ((9, "Calls use cheaper tiers"), (1, "Calls are refused")):
        alerts = world.spend(Work("acme"), spent * _USD)
        assert len(alerts) == 2
        assert all(f" are spent. {follows} from here on." in each.text for each in alerts)


def test_a_month_that_will_not_last_is_told_once() -> None:
    """VELOCITY says what the month comes to; another limit is told anew."""
    budget = Budget(_ACME, WindowKind.MONTH, 700 * _USD)
    world = _World(budget, now=datetime(2026, 11, 20, 15, 0, tzinfo=UTC))
    now = world.clock.now()
    world.ledger.add(Work("acme"), now - 10 * _DAY, 477 * _USD)
    for hours in range(1, 24):
        # As it was then: nobody looks at the ledger at these calls.
        world.ledger.add(Work("acme"), now - hours * _HOUR, 1 * _USD)
    [alert] = world.spend(Work("acme"), 1)
    assert alert.kind is Kind.VELOCITY
    assert alert.text == (
        "tenants/acme/budgets/tenant-month will not last: at the rate of the last day and of the"
        " last two hours, the month comes to 749.00 USD, and its limit of 700.00 USD is"
        " reached at 2026-11-28T22:59Z."
    )
    assert (alert.spent_micros, alert.limit_micros) == (500 * _USD + 1, 700 * _USD)
    assert not world.spend(Work("acme"), 1)

    world.budgets.put(replace(budget, limit_micros=740 * _USD))
    assert _kinds(world.spend(Work("acme"), 1)) == [("VELOCITY", budget.name)]
    world.budgets.put(replace(budget, limit_micros=800 * _USD))
    assert not world.spend(Work("acme"), 1)
    world.budgets.put(budget)
    assert not world.spend(Work("acme"), 1)


def test_an_hour_that_is_unusual_is_told_once() -> None:
    """ANOMALY says what is usual; the next hour is told by itself, other tenants not at all."""
    world = _World()
    for day in range(1, 11):
        for hours in (0, 1):
            world.ledger.add(Work("acme"), _NOW - day * _DAY + hours * _HOUR, 2 * _USD)
    assert not world.spend(Work("acme"), 2 * _USD)
    assert not world.spend(Work("globex"), 50 * _USD)
    [alert] = world.spend(Work("acme"), 8 * _USD)
    assert alert == Alert(
        id=alert.id,
        tenant="acme",
        budget="",
        kind=Kind.ANOMALY,
        text="tenants/acme has spent 10.00 USD since 2026-11-20T15:00Z, where 2.00 USD are usual"
        " at this hour: the median of 10 days, with a modified z-score of 40.0.",
        time=_NOW,
        spent_micros=10 * _USD,
        limit_micros=2 * _USD,
    )
    assert not world.spend(Work("acme"), 80 * _USD)
    assert _kinds(world.spend(Work("acme"), 10 * _USD, _NOW + _HOUR)) == [("ANOMALY", "")]


def test_days_before_the_first_call_are_no_history() -> None:
    """A tenant that began six days ago has no usual hour yet, and after seven it has."""
    for days, found in ((6, 0), (7, 1)):
        world = _World()
        world.ledger.add(Work("acme"), _NOW - days * _DAY, 1)
        assert len(world.spend(Work("acme"), 50 * _USD)) == found


def test_hours_without_spending_count_as_such() -> None:
    """Who never spent anything at this hour for a week is not used to it."""
    world = _World()
    world.ledger.add(Work("acme"), _NOW - 9 * _DAY - 8 * _HOUR, 900 * _USD)
    [alert] = world.spend(Work("acme"), 1 * _USD)
    assert (alert.kind, alert.spent_micros, alert.limit_micros) == (Kind.ANOMALY, 1 * _USD, 0)


def test_what_was_not_recorded_is_found_again() -> None:
    """Where a transaction fails, the next one finds what it had found, and an anomaly, too."""
    world = _World(Budget(_ACME, WindowKind.DAY, 10 * _USD, thresholds=_FOUR))
    for day in range(1, 11):
        world.ledger.add(Work("acme"), _NOW - day * _DAY, 1 * _USD)
    world.spend(Work("acme"), 1)
    for _ in range(2):
        call = world.ledger.add(Work("acme"), _NOW, 9 * _USD)
        found = world.finder.search([call])(world.ledger)
        assert [alert.kind for alert in found] == [Kind.ALERT, Kind.DEGRADE, Kind.ANOMALY]
        world.ledger.calls.pop()
    world.ledger.calls.append((Work("acme"), _NOW, 9 * _USD))
    world.finder.keep()
    assert world.finder.search([world.ledger.add(Work("acme"), _NOW, 1)])(world.ledger) == []


def test_who_leads_again_looks_at_what_others_wrote() -> None:
    """What this process knew of the ledger is worth nothing after others had it."""
    world = _World(Budget(_ACME, WindowKind.DAY, 10))
    assert not world.spend(Work("acme"), 1)
    world.ledger.add(Work("acme"), _NOW, 8)
    world.finder.forget()
    assert _kinds(world.spend(Work("acme"), 1)) == [("SHUTOFF", "tenants/acme/budgets/tenant-day")]


def test_the_ledger_is_asked_only_where_something_may_be_reached() -> None:
    """Repeats that cost nothing bring the guess up, but alerts follow the ledger."""
    budgets = [
        Budget(_ACME, window, 1_000, thresholds=_FOUR)
        for window in (WindowKind.DAY, WindowKind.MONTH)
    ]
    world = _World(*budgets)
    world.spend(Work("acme"), 1)
    world.ledger.questions = 0
    for _ in range(400):
        assert not world.spend(Work("acme"), 1)
    assert world.ledger.questions == 0
    # 199 more of these would be too many, if they were not repeats.
    repeats = [Spending(Work("acme"), _NOW, 1)] * 199
    assert not world.find(*repeats)
    assert world.ledger.questions == 2
    assert not world.spend(Work("acme"), 98)
    assert _kinds(world.spend(Work("acme"), 1)) == [("ALERT", each.name) for each in budgets]
    assert world.ledger.questions < 8


def test_a_month_is_reckoned_every_five_minutes() -> None:
    """A rate that rises is noticed within five minutes of calls."""
    world = _World(Budget(_ACME, WindowKind.MONTH, 700 * _USD))
    assert not world.spend(Work("acme"), 1)
    assert not world.spend(Work("acme"), 400 * _USD, _NOW + timedelta(seconds=299))
    [alert] = world.spend(Work("acme"), 1, _NOW + timedelta(seconds=300))
    assert alert.kind is Kind.VELOCITY


def test_a_clock_that_was_ahead_keeps_no_month_from_being_reckoned() -> None:
    """After a call of next week, whose clock was set right since, calls of today count again."""
    world = _World(Budget(_ACME, WindowKind.MONTH, 700 * _USD))
    assert not world.spend(Work("acme"), 1, _NOW + 7 * _DAY)
    [alert] = world.spend(Work("acme"), 400 * _USD)
    assert alert.kind is Kind.VELOCITY


def test_a_clock_that_is_behind_takes_no_ten_days_for_one() -> None:
    """By its time, what came since is not spent yet: the month lasts, as by all other clocks."""
    world = _World(Budget(_ACME, WindowKind.MONTH, 800 * _USD))
    for hours in range(20 * 24):
        world.ledger.add(Work("acme"), _NOW - hours * _HOUR, 1 * _USD)
    assert not world.spend(Work("acme"), 1)
    world.finder.forget()
    assert not world.spend(Work("acme"), 1, _NOW - 10 * _DAY)


@given(
    limit=st.integers(1, 10_000),
    costs=st.lists(st.integers(0, 3_000), max_size=40),
    percents=st.lists(st.integers(1, 100), min_size=4, max_size=4).map(sorted),
    cuts=st.lists(st.integers(0, 40)),
)
def test_each_crossing_is_found_once_however_calls_are_batched(
    limit: int, costs: list[int], percents: list[int], cuts: list[int]
) -> None:
    """Whatever is spent in whatever batches: each kind that was reached in the end, once."""
    thresholds = Thresholds(*percents)
    world = _World(Budget(_ACME, WindowKind.DAY, limit, thresholds=thresholds))
    batch: list[Spending] = []
    found: list[Alert] = []
    for number, cost in enumerate(costs):
        time = _NOW + timedelta(seconds=number)
        batch.append(world.ledger.add(Work("acme"), time, cost))
        if number in cuts:
            found += world.find(*batch)
            batch = []
    found += world.find(*batch)
    if costs:
        assert {alert.kind for alert in found} == reached(sum(costs), limit, thresholds).keys()
        assert len(found) == len({alert.kind for alert in found})
        totals = list(accumulate(costs))
        assert all(alert.spent_micros in totals for alert in found)
    else:
        assert not found


@given(st.permutations(range(6)))
def test_the_order_of_calls_in_a_batch_does_not_matter(order: list[int]) -> None:
    """Alerts have the time of the last call, whichever is named first."""
    world = _World(Budget(_ACME, WindowKind.DAY, 6))
    calls = [world.ledger.add(Work("acme"), _NOW + timedelta(seconds=each), 1) for each in range(6)]
    [alert] = world.find(*(calls[each] for each in order))
    assert alert.time == _NOW + timedelta(seconds=5)
