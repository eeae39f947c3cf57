"""When to start again what died."""

from dataclasses import dataclass
from typing import Final

_MOST_GROWTH: Final = 64


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How patient a supervisor is."""

    first_delay_seconds: float = 0.1
    factor: float = 3.0
    longest_delay_seconds: float = 10.0
    # Deaths in a row after which it is left dead; None for never.
    limit: int | None = 8
    # Who lived this long is well again: the next death is a first one.
    well_after_seconds: float = 60.0


# A mesh with a part missing is better than none: nothing is given up.
PATIENT: Final = RestartPolicy(longest_delay_seconds=30.0, limit=None)


class Backoff:
    """Counts deaths in a row."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._deaths = 0

    def after(self, lived_seconds: float) -> float | None:
        """Seconds to wait after a death; None when it should stay dead."""
        policy = self._policy
        if lived_seconds >= policy.well_after_seconds:
            self._deaths = 0
        self._deaths += 1
        if policy.limit is not None and self._deaths > policy.limit:
            return None
        # A power of a thousand deaths is no number.
        deaths = min(self._deaths, _MOST_GROWTH)
        delay = policy.first_delay_seconds * policy.factor ** (deaths - 1)
        return min(delay, policy.longest_delay_seconds)
