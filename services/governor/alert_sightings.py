"""Alerts of what the governor does: it slows down and refuses before a limit is spent.

What is left of a budget may be too little for a call, or be reserved. Then spending stops short
of the threshold, and whoever waits for it to be reached would never hear of it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final

from meshkit.clock import Clock
from meshkit.errors import MeshError
from meshkit.log import Log
from services.governor.account import Counter, Decision, Wish
from services.governor.alert import Alert, Kind
from services.governor.alert_store_sql import Database, record
from services.governor.alert_texts import what_follows
from services.governor.alert_thresholds import percent_of
from services.governor.budget import ScopeKind
from services.governor.money import usd

# By the level of a decision.
_KINDS: Final = {1: Kind.DEGRADE, 2: Kind.THROTTLE, 3: Kind.SHUTOFF}
# So much of a threshold must be spent, in tenths: one call that is too large for a budget, or
# much that is reserved for a while, says nothing about its spending.
_SPENT_TENTHS: Final = 9
_MOST_WAITING: Final = 256
_MOST_KEPT: Final = 20_000
_RETRY_SECONDS: Final = 1.0


class AlertSightings:
    """Notes decisions as they are made, and records each kind once in a window of a budget."""

    def __init__(
        self, database: Database, clock: Clock, log: Log, *, recorded: Callable[[], None]
    ) -> None:
        """`recorded` is called when there is something new to be told."""
        self._database: Final = database
        self._clock: Final = clock
        self._log: Final = log
        self._recorded: Final = recorded
        self._seen: OrderedDict[tuple[str, Kind, int, int], None] = OrderedDict()
        self._waiting: Final = asyncio.Queue[Alert](_MOST_WAITING)

    def notice(self, wish: Wish, decision: Decision) -> None:
        """Takes note of a decision. Waits for nobody; what there is no room for comes again."""
        kind = _KINDS.get(decision.level)
        if kind is None or self._waiting.full():
            return
        counter = next((each for each in wish.counters if each.id == decision.counter), None)
        if counter is None or counter.budget.scope.kind is ScopeKind.TASK:
            return
        budget = counter.budget
        percent = percent_of(kind, budget.thresholds)
        sighting = (counter.id, kind, budget.limit_micros, percent)
        if sighting in self._seen:
            return
        if decision.spent_micros * 10 < _SPENT_TENTHS * _line(counter, kind):
            return
        self._seen[sighting] = None
        if len(self._seen) > _MOST_KEPT:
            self._seen.popitem(last=False)
        self._waiting.put_nowait(self._alert(kind, percent, counter, decision))

    async def run(self) -> None:
        """Records what was noted, until cancelled, whatever fails."""
        while True:
            alert = await self._waiting.get()
            while True:
                try:
                    new = await self._database.write(partial(record, alerts=[alert]))
                except MeshError as error:
                    self._log.error("alert.recording_failed", error=str(error))
                    await asyncio.sleep(_RETRY_SECONDS)
                else:
                    break
            if new:
                self._recorded()

    def _alert(self, kind: Kind, percent: int, counter: Counter, decision: Decision) -> Alert:
        budget = counter.budget
        return Alert.of_budget(
            kind,
            tenant=budget.scope.tenant,
            budget=budget.name,
            window_start=counter.window.start if counter.window.end else None,
            text=f"{budget.name} has no more room below {usd(_line(counter, kind))}:"
            f" {usd(decision.spent_micros)} are spent and {usd(decision.reserved_micros)} reserved."
            f" {what_follows(kind, counter.window)}",
            time=self._clock.now(),
            spent_micros=decision.spent_micros,
            limit_micros=budget.limit_micros,
            percent=percent,
        )


def _line(counter: Counter, kind: Kind) -> int:
    match kind:
        case Kind.DEGRADE:
            return counter.degrade_micros
        case Kind.THROTTLE:
            return counter.throttle_micros
        case _:
            return counter.shutoff_micros
