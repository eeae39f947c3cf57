"""Keeps calls away from an endpoint that fails, together with all other processes.

pybreaker's state machine, in each process, follows what the processes share. It knows
neither asyncio nor a bound on probes; both are added here. Where what is shared cannot be
reached, the machine goes on by what this process sees.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from pybreaker import (
    STATE_CLOSED,
    STATE_HALF_OPEN,
    STATE_OPEN,
    CircuitBreaker,
    CircuitBreakerListener,
    CircuitBreakerState,
)

from meshkit.clock import Clock
from meshkit.errors import BreakerOpen, DependencyUnavailable, QueueFull, ShuttingDown
from meshkit.ids import Ids
from meshkit.log import Log
from services.reasoning import patience
from services.reasoning.breaker_counts import WindowCounts
from services.reasoning.endpoint_standing import BreakerRules, Standing, Standings

# What is older than this is looked up first, once for all who come; half as old, while
# calls go on by it. It is less than a pause, so that no herd takes an endpoint that is
# half-open by now for one that is closed.
_STALE_SECONDS: Final = 0.8
_STALE_PAUSES: Final = 0.5
# How long an answer may take, how long a call waits for it, and how long what cannot be
# reached is left alone.
_ANSWER_SECONDS: Final = 2.0
_WAIT_SECONDS: Final = 1.0
_AWAY_SECONDS: Final = 1.0
# When to come again where all probes are out.
_PROBES_OUT_SECONDS: Final = 1.0
_AWAY: Final = (DependencyUnavailable, QueueFull, ShuttingDown, TimeoutError)


@dataclass(frozen=True, slots=True)
class Pass:
    """A call that may go out. Exactly one of a breaker's methods is told how it ended."""

    # The name of the probe that it is; empty for none.
    probe: str = ""


_FREE: Final = Pass()


class Breaker:
    """The breaker of one endpoint."""

    def __init__(
        self,
        endpoint: str,
        rules: BreakerRules,
        standings: Standings,
        *,
        stretch: Callable[[], float],
        clock: Clock,
        ids: Ids,
        log: Log,
    ) -> None:
        """`stretch`: by what a pause of this process's own is stretched."""
        self._endpoint: Final = endpoint
        self._rules: Final = rules
        self._stale_seconds: Final = min(_STALE_SECONDS, rules.pause_seconds * _STALE_PAUSES)
        self._standings: Final = standings
        self._stretch: Final = stretch
        self._clock: Final = clock
        self._ids: Final = ids
        self._counts: Final = WindowCounts(
            endpoint,
            window_seconds=rules.window_seconds,
            failure_percent=rules.failure_percent,
            seconds=clock.monotonic_seconds,
        )
        self._machine: Final = CircuitBreaker(
            fail_max=rules.least_failures,
            name=endpoint,
            state_storage=self._counts,
            listeners=[_Told(self._changed)],
            throw_new_error_on_trip=False,
        )
        self._log: Final = log
        # Since the last report.
        self._calls = 0
        self._failures = 0
        # By the clock's monotonic seconds, as all that follows.
        self._seen_at = float("-inf")
        self._ask_again_at = float("-inf")
        self._probing_at = 0.0
        self._slowed_until = 0.0
        self._closed_at = 0.0
        self._openings = 0
        # The probes of this process that are out, and when each counts as lost.
        self._probes: Final[dict[str, float]] = {}
        self._asking = 0
        self._looking: asyncio.Task[None] | None = None
        self._telling: Final[set[asyncio.Task[None]]] = set()

    @property
    def state(self) -> str:
        """pybreaker's word for where it stands, as far as this process knows."""
        state = self._counts.state
        if state == STATE_OPEN and self._clock.monotonic_seconds() >= self._probing_at:
            return STATE_HALF_OPEN
        return state

    @property
    def slowed_seconds(self) -> float:
        """For how long the provider asked to be left alone."""
        until = self._slowed_until
        return max(0.0, until - self._clock.monotonic_seconds()) if until else 0.0

    def glance(self) -> None:
        """Has what is known looked up again, for who asks next; nobody waits."""
        now = self._clock.monotonic_seconds()
        if now - self._seen_at > self._stale_seconds / 2:
            self._look(now)

    def refusal(self) -> BreakerOpen | None:
        """What `enter` would raise, by what is known here; None where it may let a call out."""
        if self._counts.state == STATE_CLOSED:
            return None
        now = self._clock.monotonic_seconds()
        if now >= self._probing_at and self._probes_out(now) < self._rules.probes:
            return None
        return self._refused(now)

    async def enter(self) -> Pass:
        """Lets a call out.

        While closed it asks nobody. Raises BreakerOpen, with when to come again.
        """
        now = self._clock.monotonic_seconds()
        age = now - self._seen_at
        if age > self._stale_seconds / 2:
            looking = self._look(now)
            if age > self._stale_seconds and looking is not None:
                await patience.has_ended(looking, _WAIT_SECONDS)
        if self._counts.state == STATE_CLOSED:
            self._calls += 1
            return _FREE
        return await self._probe()

    def worked(self, entered: Pass) -> None:
        """The endpoint answered."""
        if entered.probe:
            self._tell(self._probed(entered.probe, worked=True))

    def failed(self, entered: Pass) -> None:
        """The endpoint failed."""
        if entered.probe:
            self._tell(self._probed(entered.probe, worked=False))
            return
        self._failures += 1
        now = self._clock.monotonic_seconds()
        if self._look(now) is None and self._counts.state == STATE_CLOSED:
            self._go_by_own_counts()

    def left(self, entered: Pass) -> None:
        """The call ended in a way that tells nothing about the endpoint."""
        if entered.probe:
            self._tell(self._probed(entered.probe, worked=None))

    def slow_down(self, seconds: float) -> None:
        """Has all processes leave the endpoint alone, as its provider asked."""
        until = self._clock.monotonic_seconds() + seconds
        self._slowed_until = max(self._slowed_until, until)
        self._tell(self._slow_down(seconds))

    async def close(self) -> None:
        """Says what is still to be said, for a short time."""
        left = {*self._telling, *([self._looking] if self._looking else [])}
        if left:
            _, late = await asyncio.wait(left, timeout=_WAIT_SECONDS)
            for each in late:
                each.cancel()

    # What is shared.

    def _look(self, now: float) -> asyncio.Task[None] | None:
        """Looks up how the endpoint stands, and says what happened; None while that is away."""
        if self._looking is None and now >= self._ask_again_at:
            self._looking = asyncio.create_task(self._report())
            self._looking.add_done_callback(self._looked)
        return self._looking

    def _looked(self, task: asyncio.Task[None]) -> None:
        self._looking = None
        if not task.cancelled() and task.exception() is None and self._failures:
            # Of what failed meanwhile nobody has heard.
            self._look(self._clock.monotonic_seconds())

    async def _report(self) -> None:
        calls, failures = self._calls, self._failures
        self._calls = self._failures = 0
        try:
            asked = self._standings.report(self._endpoint, calls, failures)
            standing = await patience.answer(asked, _ANSWER_SECONDS)
        except _AWAY:
            self._calls += calls
            self._failures += failures
            self._away()
            if self._counts.state == STATE_CLOSED:
                self._go_by_own_counts()
        else:
            self._count(calls, failures)
            self._follow(standing)

    async def _probe(self) -> Pass:
        now = self._clock.monotonic_seconds()
        if now < self._probing_at or self._probes_out(now) >= self._rules.probes:
            raise self._refused(now)
        probe = self._ids.new()
        self._asking += 1
        try:
            asked = self._standings.probe(self._endpoint, probe)
            lent, standing = await patience.answer(asked, _ANSWER_SECONDS)
            self._follow(standing)
            if not standing.open:
                self._calls += 1
                return _FREE
            if not lent:
                raise self._refused(self._clock.monotonic_seconds())
        except _AWAY:
            self._away()
        except asyncio.CancelledError:
            # It may have been lent all the same.
            self._tell(self._probed(probe, worked=None))
            raise
        finally:
            self._asking -= 1
        now = self._clock.monotonic_seconds()
        self._probes[probe] = now + self._rules.probe_seconds
        if self._machine.current_state == STATE_OPEN:
            self._machine.half_open()
        return Pass(probe)

    async def _probed(self, probe: str, *, worked: bool | None) -> None:
        known = self._probes.pop(probe, 0.0) > self._clock.monotonic_seconds()
        try:
            asked = self._standings.probed(self._endpoint, probe, worked)
            self._follow(await patience.answer(asked, _ANSWER_SECONDS))
        except _AWAY:
            self._away()
            if known and self._machine.current_state == STATE_HALF_OPEN and worked is not None:
                self._judge(None if worked else _Failed())

    async def _slow_down(self, seconds: float) -> None:
        try:
            asked = self._standings.slow_down(self._endpoint, seconds)
            self._follow(await patience.answer(asked, _ANSWER_SECONDS))
        except _AWAY:
            self._away()

    def _follow(self, standing: Standing) -> None:
        now = self._clock.monotonic_seconds()
        self._seen_at = now
        self._ask_again_at = float("-inf")
        if standing.slowed_seconds:
            self._slowed_until = max(self._slowed_until, now + standing.slowed_seconds)
        state = self._machine.current_state
        if not standing.open:
            if state != STATE_CLOSED:
                self._machine.close()
            return
        opened_again = state == STATE_HALF_OPEN and standing.probing_in_seconds > 0
        self._openings = standing.openings
        self._probing_at = now + standing.probing_in_seconds
        if state == STATE_CLOSED or opened_again:
            self._machine.open()
            self._log_opened(standing.probing_in_seconds)

    def _tell(self, saying: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(saying)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    # What this process knows by itself.

    def _away(self) -> None:
        now = self._clock.monotonic_seconds()
        # Calls go on by what is known, rather than wait for each attempt.
        self._seen_at = now
        self._ask_again_at = now + _AWAY_SECONDS

    def _go_by_own_counts(self) -> None:
        failures = self._failures
        self._count(self._calls, 0)
        self._calls = self._failures = 0
        for _ in range(failures):
            self._judge(_Failed())

    def _judge(self, failure: Exception | None) -> None:
        """Has pybreaker hear of a call's end."""
        if failure is not None and self._counts.state == STATE_OPEN:
            return
        before = self._counts.state
        with suppress(_Failed):
            self._machine.call(_end, failure)
        if before != STATE_OPEN and self._counts.state == STATE_OPEN:
            now = self._clock.monotonic_seconds()
            if before == STATE_CLOSED and now - self._closed_at > self._rules.longest_pause_seconds:
                self._openings = 0
            self._openings += 1
            pause = self._rules.pause_after(self._openings) * self._stretch()
            self._probing_at = now + pause
            self._log_opened(pause)

    def _count(self, calls: int, failures: int) -> None:
        self._counts.add_calls(calls)
        for _ in range(failures):
            self._counts.increment_counter()

    def _probes_out(self, now: float) -> int:
        for probe in [name for name, lost_at in self._probes.items() if lost_at <= now]:
            del self._probes[probe]
        return len(self._probes) + self._asking

    def _refused(self, now: float) -> BreakerOpen:
        left = self._probing_at - now
        what = "fails, and is left alone" if left > 0 else "failed, and is being tried again"
        return BreakerOpen(
            f"The model {self._endpoint} {what}.",
            metadata={"model": self._endpoint},
            retry_after_seconds=left if left > 0 else _PROBES_OUT_SECONDS,
        )

    def _changed(self, state: str) -> None:
        if state == STATE_CLOSED:
            self._closed_at = self._clock.monotonic_seconds()
            self._counts.forget()
            self._log.info("breaker.closed", model=self._endpoint)
        elif state == STATE_HALF_OPEN:
            self._log.info("breaker.probing", model=self._endpoint)

    def _log_opened(self, pause_seconds: float) -> None:
        self._log.warning(
            "breaker.opened",
            model=self._endpoint,
            openings=self._openings,
            pause_seconds=round(pause_seconds, 3),
        )


class _Failed(Exception):
    """Stands for a failure in pybreaker's synchronous calls."""


def _end(failure: Exception | None) -> None:
    if failure is not None:
        raise failure


class _Told(CircuitBreakerListener):
    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell: Final = tell

    def state_change(
        self,
        cb: CircuitBreaker,
        old_state: CircuitBreakerState | None,
        new_state: CircuitBreakerState,
    ) -> None:
        self._tell(new_state.name)
