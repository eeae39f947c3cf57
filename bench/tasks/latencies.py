"""Latencies in a histogram of high dynamic range: every one counts, three digits are exact."""

import math
from typing import Any, Final

from hdrh import histogram

# From a microsecond to an hour; what lies beyond counts as these.
_SHORTEST_MICROSECONDS: Final = 1
_LONGEST_MICROSECONDS: Final = 3_600_000_000
_DIGITS: Final = 3


class Latencies:
    """How long things took; can be sent as text and added up."""

    def __init__(self) -> None:
        self._histogram: Final[Any] = histogram.HdrHistogram(  # pyright: ignore[reportUnknownMemberType]
            _SHORTEST_MICROSECONDS, _LONGEST_MICROSECONDS, _DIGITS
        )

    def record(self, seconds: float) -> None:
        """Counts one."""
        microseconds = round(seconds * 1e6)
        self._histogram.record_value(
            min(max(microseconds, _SHORTEST_MICROSECONDS), _LONGEST_MICROSECONDS)
        )

    def add(self, other: "Latencies") -> None:
        """Counts all that `other` has counted, too."""
        self._histogram.add(other._histogram)

    def percentile_ms(self, percent: float) -> float:
        """What so many percent took at the most, in milliseconds; 0 where there are none."""
        if not self.count:
            return 0.0
        # The library rounds the rank, and so may leave out the slowest of a few.
        rank = math.ceil(self.count * percent / 100)
        return self._histogram.get_value_at_percentile(100 * rank / self.count) / 1000

    @property
    def count(self) -> int:
        """How many were counted."""
        return self._histogram.get_total_count()

    @property
    def max_ms(self) -> float:
        """The longest in milliseconds; 0 where there are none."""
        return self._histogram.get_max_value() / 1000 if self.count else 0.0

    def encode(self) -> str:
        """The histogram as text, in the library's own format."""
        return self._histogram.encode().decode("ascii")

    @classmethod
    def decode(cls, text: str) -> "Latencies":
        """What `encode` was called on."""
        latencies = cls()
        latencies._histogram.decode_and_add(text)
        return latencies
