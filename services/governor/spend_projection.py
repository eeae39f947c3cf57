"""What a day and a month will have cost, if spending goes on as it did.

Where there are two weeks of history, by its shape. Of the past four weeks, the
median of the days of the same weekday is what a day is expected to cost: one mad
day among them does not count. The share of the day's spending that falls on each
quarter of an hour is that of the past four weeks together. Of today the rest is
expected to be to what was spent so far as the remaining shares are to those that
passed; where next to nothing of them passed, it is what the weekday usually costs.
Without history, as much as so far, by time.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from statistics import median
from typing import Final

from services.governor.ledger_sums import micros_of, time_of
from services.governor.ledger_tables import QUARTER_MICROS
from services.governor.window import Window, WindowKind, window_of

HISTORY: Final = timedelta(days=28)
_LEAST_HISTORY: Final = timedelta(days=14)
# Of the day's usual spending: before that so much has passed, today's pace says little.
_LEAST_SHARE: Final = 0.05
# Likewise without history.
_LEAST_LINEAR: Final = timedelta(hours=1)
_QUARTER: Final = timedelta(minutes=15)
_NOON: Final = timedelta(hours=12)
_BY_SHAPE: Final = (
    "Days cost the median of the same weekday in the past four weeks, and today goes on at its"
    " pace by the hours' shares of those weeks."
)
_BY_TIME: Final = "Spending goes on as it did since {since}, evenly: {because}."
_IS_NEW: Final = "there are not yet two weeks of it to go by"
_WAS_IDLE: Final = "the past four weeks have too little of it to go by"


@dataclass(frozen=True, slots=True)
class Projection:
    """What a window will have cost."""

    window: Window
    spent_micros: int
    projected_micros: int
    # None where the limit is not reached before the end, or there is none.
    limit_reached_at: datetime | None
    method: str


@dataclass(frozen=True, slots=True)
class Spent:
    """What was settled: by the quarter of an hour, counted since 1970, from `HISTORY` before
    today or the beginning of the month on, whichever is earlier."""

    by_quarter: Mapping[int, int]
    # When anything was spent for the first time ever; None for never.
    first: datetime | None


@dataclass(frozen=True, slots=True)
class Present:
    """The moment, the day in which it lies, and where."""

    now: datetime
    today: Window
    zone: tzinfo


def project(spent: Spent, present: Present, window: Window, limit_micros: int) -> Projection:
    """What the day or month in which the moment lies will have cost.

    `limit_micros`: the hard limit, 0 where there is none.
    """
    assert window.end is not None
    first_quarter, last_quarter = _quarter(window.start), _quarter(present.now)
    so_far = sum(
        micros
        for quarter, micros in spent.by_quarter.items()
        if first_quarter <= quarter <= last_quarter
    )
    shape = _Shape.of(spent, present)
    if shape is None:
        rest = _even_rest(so_far, spent, present.now, window)
        since = max(window.start, spent.first or window.start)
        because = _IS_NEW if _is_new(spent, present) else _WAS_IDLE
        method = _BY_TIME.format(since=f"{since:%Y-%m-%dT%H:%MZ}", because=because)
    else:
        rest = shape.rest(window.end)
        method = _BY_SHAPE
    total, reached = float(so_far), None
    if 0 < limit_micros <= so_far:
        reached = present.now
    for start, end, micros in rest:
        if reached is None and 0 < limit_micros <= total + micros and micros > 0:
            reached = start + (end - start) * ((limit_micros - total) / micros)
        total += micros
    return Projection(window, so_far, round(total), reached, method)


_Rest = Iterator[tuple[datetime, datetime, float]]


def _even_rest(so_far: int, spent: Spent, now: datetime, window: Window) -> _Rest:
    assert window.end is not None
    since = max(window.start, spent.first or window.start)
    pace = so_far / max(now - since, _LEAST_LINEAR).total_seconds()
    yield now, window.end, pace * (window.end - now).total_seconds()


class _Shape:
    """How spending was spread over weekdays and over the day."""

    def __init__(self, spent: Spent, present: Present) -> None:
        self._present: Final = present
        self._spent: Final = spent
        # By weekday, and by quarter of the local day.
        self._days: Final = defaultdict[int, dict[date, int]](dict)
        self._shares: Final = defaultdict[int, float](float)
        self._add_history()

    @classmethod
    def of(cls, spent: Spent, present: Present) -> "_Shape | None":
        """None where there is too little history."""
        if _is_new(spent, present):
            return None
        shape = cls(spent, present)
        return shape if any(shape._shares.values()) else None

    def rest(self, end: datetime) -> _Rest:
        """What is expected until then, in order, by the quarter of an hour."""
        today_end = self._present.today.end
        assert today_end is not None
        of_rest = self._factor_of_today()
        start = self._present.now
        while start < end:
            quarter_end = time_of((_quarter(start) + 1) * QUARTER_MICROS)
            part = (quarter_end - start) / _QUARTER
            local = start.astimezone(self._present.zone)
            factor = of_rest if start < today_end else self._expected(local.weekday())
            yield start, quarter_end, factor * part * self._shares[_slot(local)]
            start = quarter_end

    def _factor_of_today(self) -> float:
        """What a whole day costs at today's pace."""
        present = self._present
        passed, spent = 0.0, 0
        start = present.today.start
        while start < present.now:
            end = time_of((_quarter(start) + 1) * QUARTER_MICROS)
            part = (min(end, present.now) - start) / _QUARTER
            passed += part * self._shares[_slot(start.astimezone(present.zone))]
            spent += self._spent.by_quarter.get(_quarter(start), 0)
            start = end
        if passed < _LEAST_SHARE:
            return self._expected(present.now.astimezone(present.zone).weekday())
        return spent / passed

    def _expected(self, weekday: int) -> float:
        return median(self._days[weekday].values()) if self._days[weekday] else 0.0

    def _add_history(self) -> None:
        end = self._present.today.start
        # Whole days alone, also where one of them was shorter.
        start = window_of(WindowKind.DAY, end - HISTORY + _NOON, self._present.zone).start
        first = window_of(WindowKind.DAY, self._spent.first or end, self._present.zone).end
        start = max(start, first or end)
        by_slot = defaultdict[int, int](int)
        while start < end:
            local = start.astimezone(self._present.zone)
            micros = self._spent.by_quarter.get(_quarter(start), 0)
            days = self._days[local.weekday()]
            days[local.date()] = days.get(local.date(), 0) + micros
            by_slot[_slot(local)] += micros
            start += _QUARTER
        total = sum(by_slot.values())
        if total:
            for slot, micros in by_slot.items():
                self._shares[slot] = micros / total


def _is_new(spent: Spent, present: Present) -> bool:
    return spent.first is None or spent.first > present.today.start - _LEAST_HISTORY


def _quarter(time: datetime) -> int:
    return micros_of(time) // QUARTER_MICROS


def _slot(local: datetime) -> int:
    return local.hour * 4 + local.minute // 15
