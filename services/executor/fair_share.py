"""Which tenant's task comes next: shares of a lane in proportion to weights. Pure."""

import heapq
from itertools import count


class FairShare:
    """Stride scheduling, by tenant.

    After Waldspurger and Weihl, "Stride Scheduling" (1995): each task moves its
    tenant on by 1/weight, and the tenant that is furthest behind comes next.
    Where a tenant is that had nothing to do is decided as by Goyal, Vin and
    Cheng, "Start-time Fair Queueing" (1996): it comes in where the others are,
    so that nobody saves up turns by being idle. For as long as two tenants both
    have work, their tasks divided by their weights differ by no more than one
    task of each.
    """

    def __init__(self) -> None:
        # How far the lane is: no tenant that has work is behind.
        self._now = 0.0
        self._passes: dict[str, float] = {}
        self._active: set[str] = set()
        # Entries that no longer say what `_passes` says are passed over.
        self._line: list[tuple[float, int, str]] = []
        self._turn = count()

    def __bool__(self) -> bool:
        """Whether any tenant has work."""
        return bool(self._active)

    def enter(self, tenant: str) -> None:
        """The tenant has work."""
        if tenant not in self._active:
            self._active.add(tenant)
            self._move(tenant, self._start(tenant))

    def leave(self, tenant: str) -> None:
        """The tenant has none, or may not have more of it done now."""
        self._active.discard(tenant)

    def first(self) -> str | None:
        """The tenant with work that comes next."""
        while self._line:
            position, _, tenant = self._line[0]
            if tenant in self._active and self._passes[tenant] == position:
                return tenant
            heapq.heappop(self._line)
        return None

    def charge(self, tenant: str, weight: int) -> None:
        """A worker goes to the tenant, whether or not it was its turn."""
        start = self._passes[tenant] if tenant in self._active else self._start(tenant)
        first = self.first()
        behind = start if first is None else min(start, self._passes[first])
        self._now = max(self._now, behind)
        self._move(tenant, start + 1 / weight)

    def refund(self, tenant: str, weight: int, tasks: int) -> None:
        """The tenant had no use for so many of its workers."""
        self._move(tenant, self._passes[tenant] - tasks / weight)

    def _start(self, tenant: str) -> float:
        return max(self._passes.get(tenant, 0.0), self._now)

    def _move(self, tenant: str, position: float) -> None:
        self._passes[tenant] = position
        if tenant in self._active:
            heapq.heappush(self._line, (position, next(self._turn), tenant))
