"""How often something may happen: a steady rate, and a burst after a quiet time."""

from dataclasses import dataclass
from typing import Final

# A hint to come back at once would only be refused again.
_SHORTEST_WAIT_SECONDS: Final = 0.001
# What rounding may take from a whole token.
_ROUNDING: Final = 1e-6


@dataclass(slots=True)
class TokenBucket:
    """Fills with time and is emptied by use. Pure: the time is given to it."""

    tokens: float
    # When `tokens` was true; seconds of a monotonic clock.
    at_seconds: float

    def take(self, now_seconds: float, *, per_second: float, burst: float) -> float:
        """Takes a token if there is one.

        Rate and burst are given each time, for they may have changed.

        Returns:
            0.0 if a token was taken; otherwise in how many seconds there will be one.
        """
        passed = max(0.0, now_seconds - self.at_seconds)
        self.tokens = min(burst, self.tokens + passed * per_second)
        self.at_seconds = max(self.at_seconds, now_seconds)
        if self.tokens >= 1 - _ROUNDING:
            self.tokens = max(0.0, self.tokens - 1)
            return 0.0
        return max(_SHORTEST_WAIT_SECONDS, (1 - self.tokens) / per_second)
