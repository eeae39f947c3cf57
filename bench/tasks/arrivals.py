"""When tasks arrive in an open loop: at set times, whether earlier ones have ended or not."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

_MINUTE_SECONDS = 60.0


class Arrivals(Protocol):
    """A sequence of arrivals."""

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        ...

    def times(self, chance: random.Random) -> Iterator[float]:
        """Seconds from the beginning, none before the one before it."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """One after the other at the same distance."""

    per_minute: float
    seconds: float

    def times(self, chance: random.Random) -> Iterator[float]:
        """Every so many seconds, the first at once."""
        gap = _MINUTE_SECONDS / self.per_minute
        number = 0
        while (time := number * gap) < self.seconds:
            yield time
            number += 1


@dataclass(frozen=True, slots=True)
class Poisson:
    """Independent of each other, as many users are."""

    per_minute: float
    seconds: float

    def times(self, chance: random.Random) -> Iterator[float]:
        """With exponential gaps."""
        per_second = self.per_minute / _MINUTE_SECONDS
        time = chance.expovariate(per_second)
        while time < self.seconds:
            yield time
            time += chance.expovariate(per_second)


@dataclass(frozen=True, slots=True)
class Spike:
    """A base rate, a peak, and the base rate again; Poisson within each."""

    base_per_minute: float
    peak_per_minute: float
    base_seconds: float
    peak_seconds: float
    after_seconds: float

    @property
    def seconds(self) -> float:
        """How long the three last together."""
        return self.base_seconds + self.peak_seconds + self.after_seconds

    @property
    def peak_end(self) -> float:
        """When the peak is over, in seconds from the beginning."""
        return self.base_seconds + self.peak_seconds

    def times(self, chance: random.Random) -> Iterator[float]:
        """Those of the three, one after the other."""
        begin = 0.0
        for per_minute, seconds in (
            (self.base_per_minute, self.base_seconds),
            (self.peak_per_minute, self.peak_seconds),
            (self.base_per_minute, self.after_seconds),
        ):
            for time in Poisson(per_minute, seconds).times(chance):
                yield begin + time
            begin += seconds


@dataclass(frozen=True, slots=True)
class Replay:
    """Arrivals that were recorded somewhere."""

    # Seconds from the beginning, in order.
    recorded: Sequence[float]
    seconds: float

    def times(self, chance: random.Random) -> Iterator[float]:
        """As recorded."""
        for time in self.recorded:
            if time >= self.seconds:
                return
            yield time
