"""What may be spent while nobody can be asked."""

from collections import OrderedDict
from typing import Final

from meshkit.clock import Clock

_MINUTE_SECONDS: Final = 60.0


class Allowance:
    """A small amount that refills evenly, full at the start; no tenant may have all of it."""

    def __init__(self, micros_per_minute: int, tenant_micros_per_minute: int, clock: Clock) -> None:
        """How much it holds, and refills in a minute, in micro-USD: for all, and for each one."""
        now = clock.monotonic_seconds()
        self._tenant_micros: Final = tenant_micros_per_minute
        self._clock: Final = clock
        self._all: Final = _Bucket(micros_per_minute, now)
        # The longest unused first. A tenant without one has all of its part.
        self._tenants: Final[OrderedDict[str, _Bucket]] = OrderedDict()

    def take(self, tenant: str, micros: int) -> bool:
        """Takes `micros` where so much is left. What costs nothing is always left."""
        if micros == 0:
            return True
        now = self._clock.monotonic_seconds()
        own = self._own(tenant, now)
        if min(own.left(now), self._all.left(now)) < micros:
            return False
        own.add(-micros)
        self._all.add(-micros)
        return True

    def give_back(self, tenant: str, micros: int) -> None:
        """Puts back what was taken and not spent."""
        self._all.add(micros)
        if own := self._tenants.get(tenant):
            own.add(micros)

    def _own(self, tenant: str, now: float) -> "_Bucket":
        while self._tenants:
            longest_unused = next(iter(self._tenants))
            if self._tenants[longest_unused].counted_at > now - _MINUTE_SECONDS:
                break
            # Full again.
            del self._tenants[longest_unused]
        own = self._tenants.setdefault(tenant, _Bucket(self._tenant_micros, now))
        self._tenants.move_to_end(tenant)
        return own


class _Bucket:
    """An amount that refills evenly within a minute."""

    __slots__ = ("_left", "_most", "counted_at")

    def __init__(self, most: int, now: float) -> None:
        self._most: Final = most
        self._left = float(most)
        # By the clock's monotonic seconds.
        self.counted_at = now

    def left(self, now: float) -> float:
        self._left += self._most * (now - self.counted_at) / _MINUTE_SECONDS
        self.counted_at = now
        self.add(0)
        return self._left

    def add(self, micros: int) -> None:
        """Never above what it holds."""
        self._left = min(float(self._most), self._left + micros)
