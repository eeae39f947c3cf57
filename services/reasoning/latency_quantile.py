"""How long calls take, as a quantile of the last thousands, in constant memory."""

import math
from typing import Final

# Neighbouring buckets differ by so much: so exact is the answer. After DDSketch (Masson,
# Rim, Lee: DDSketch: a fast and fully-mergeable quantile sketch with relative-error
# guarantees, VLDB 2019), with counts that are halved, so that old calls are forgotten.
_RATIO: Final = 1.05
_SCALE: Final = 1 / math.log(_RATIO)
# From a tenth of a millisecond to about an hour.
_LEAST_SECONDS: Final = 0.0001
_BUCKETS: Final = 360
_HALVED_AT: Final = 4096
# The quantile is looked up again after so many calls.
_LOOKED_UP_EVERY: Final = 32


class LatencyQuantile:
    """One quantile of one kind of call."""

    def __init__(self, quantile: float, *, warm_up: int) -> None:
        """`quantile`: such as 0.95. `warm_up`: how many calls it must have seen."""
        self._quantile: Final = quantile
        self._warm_up: Final = warm_up
        self._counts: Final = [0] * _BUCKETS
        self._total = 0
        self._seen = 0
        self._seconds: float | None = None

    @property
    def seconds(self) -> float | None:
        """The quantile; None until enough calls were seen."""
        return self._seconds

    def record(self, seconds: float) -> None:
        """Counts a call."""
        at = int(math.log(max(seconds, _LEAST_SECONDS) / _LEAST_SECONDS) * _SCALE)
        self._counts[min(at, _BUCKETS - 1)] += 1
        self._total += 1
        self._seen += 1
        if self._total >= _HALVED_AT:
            self._counts[:] = [count // 2 for count in self._counts]
            self._total = sum(self._counts)
        if self._seen >= self._warm_up and (
            self._seconds is None or self._seen % _LOOKED_UP_EVERY == 0
        ):
            self._seconds = self._look_up()

    def _look_up(self) -> float:
        rank = self._quantile * self._total
        passed = 0
        for at, count in enumerate(self._counts):
            passed += count
            if passed >= rank and count:
                return _LEAST_SECONDS * _RATIO ** (at + 0.5)
        return _LEAST_SECONDS * _RATIO**_BUCKETS
