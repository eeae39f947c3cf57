"""What may be spent while nobody can be asked."""

from typing import Final

from meshkit.clock import Clock

_MINUTE_SECONDS: Final = 60.0


class Allowance:
    """A small amount that refills evenly, full at the start."""

    def __init__(self, micros_per_minute: int, clock: Clock) -> None:
        """`micros_per_minute`: how much it holds, and refills in a minute, in micro-USD."""
        self._most: Final = micros_per_minute
        self._clock: Final = clock
        self._left = float(micros_per_minute)
        self._counted_at = clock.monotonic_seconds()

    def take(self, micros: int) -> bool:
        """Takes `micros` where so much is left. What costs nothing is always left."""
        if micros == 0:
            return True
        now = self._clock.monotonic_seconds()
        refill = self._most * (now - self._counted_at) / _MINUTE_SECONDS
        self._left = min(float(self._most), self._left + refill)
        self._counted_at = now
        if micros > self._left:
            return False
        self._left -= micros
        return True

    def give_back(self, micros: int) -> None:
        """Puts back what was taken and not spent."""
        self._left = min(float(self._most), self._left + micros)
