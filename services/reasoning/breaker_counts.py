"""What a breaker of pybreaker goes by: calls and failures of the last seconds, in memory."""

import datetime as dt
from collections.abc import Callable
from typing import Final

from pybreaker import STATE_CLOSED, CircuitBreakerStorage


class WindowCounts(CircuitBreakerStorage):
    """The storage of one breaker.

    pybreaker's own count consecutive failures, so that one success among a hundred
    failures starts them anew; these count what failed of what was called within a window.
    """

    def __init__(
        self, name: str, *, window_seconds: int, failure_percent: int, seconds: Callable[[], float]
    ) -> None:
        """`seconds`: a clock that never goes back."""
        super().__init__(name)
        self._window_seconds: Final = window_seconds
        self._failure_percent: Final = failure_percent
        self._seconds: Final = seconds
        # Calls and failures by the second.
        self._counts: Final[dict[int, list[int]]] = {}
        self._state = STATE_CLOSED
        self._successes = 0
        self._opened_at: dt.datetime | None = None

    def add_calls(self, calls: int) -> None:
        """Counts calls, whatever became of them."""
        self._now()[0] += calls

    def increment_counter(self) -> None:
        """Counts a failure."""
        self._now()[1] += 1

    def reset_counter(self) -> None:
        """A breaker that closes starts anew; a success among failures forgives none."""

    def forget(self) -> None:
        """Starts anew."""
        self._counts.clear()

    @property
    def counter(self) -> int:
        """The failures of the window; 0 where they are a small share of its calls."""
        since = int(self._seconds()) - self._window_seconds
        for second in [each for each in self._counts if each <= since]:
            del self._counts[second]
        calls = sum(each[0] for each in self._counts.values())
        failures = sum(each[1] for each in self._counts.values())
        return failures if failures * 100 >= self._failure_percent * calls else 0

    @property
    def state(self) -> str:
        """Where the breaker stands."""
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        self._state = state

    def increment_success_counter(self) -> None:
        """Counts a probe that worked."""
        self._successes += 1

    def reset_success_counter(self) -> None:
        """The next probes start anew."""
        self._successes = 0

    @property
    def success_counter(self) -> int:
        """Probes that worked since it half-opened."""
        return self._successes

    @property
    def opened_at(self) -> dt.datetime | None:
        """When it opened last, by the machine's clock."""
        return self._opened_at

    @opened_at.setter
    def opened_at(self, datetime: dt.datetime) -> None:
        self._opened_at = datetime

    def _now(self) -> list[int]:
        return self._counts.setdefault(int(self._seconds()), [0, 0])
