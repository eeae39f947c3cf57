"""Admissions under a lease, in this process: nothing is asked and nothing is sent."""

import asyncio
import time
from datetime import timedelta
from typing import Final

from meshkit.clock import SystemClock
from meshkit.ids import RandomIds
from services.reasoning.generation import Spending
from services.reasoning.governor import Admission, LeaseGrant, LeaseWish
from services.reasoning.lease_pool import LeasePool, LeaseSizes
from services.reasoning.model import Tier
from services.reasoning.price_list import Price, PriceList

_MOST_MICROS: Final = 10**12
_TENANT: Final = "bench"
_MODEL: Final = "stub"
# More than are worth a lease.
_FIRST: Final = 100


class _Generous:
    """A Lessor that grants what is asked for."""

    async def lease(self, wish: LeaseWish) -> LeaseGrant:
        """All of it."""
        return LeaseGrant(_MOST_MICROS, SystemClock().now() + timedelta(hours=1))

    async def trim(self, tenant: str, lease: str, keep_micros: int) -> None:
        """Takes it back."""


async def leased(count: int) -> list[float]:
    """What each of `count` admissions took, in microseconds, in rising order.

    With that of what a call cost, as each has it in the end.
    """
    pool = LeasePool(
        _Generous(),
        PriceList("1", {"1": {_MODEL: Price(50_000, 400_000, 5_000)}}),
        sizes=LeaseSizes(
            cover_seconds=10.0,
            least_micros=1,
            most_micros=_MOST_MICROS,
            most_leases=16,
            most_tenant_leases=16,
        ),
        ask_again_seconds=1.0,
        fails_closed=lambda _: False,
        clock=SystemClock(),
        ids=RandomIds(),
    )
    for number in range(_FIRST):
        pool.claim(_admission(-number), may_repeat=True)
    # The lease comes in its own time: here at once.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    took: list[float] = []
    for number in range(1, count + 1):
        admission = _admission(number)
        begun = time.perf_counter_ns()
        claim = pool.claim(admission, may_repeat=True)
        assert claim is not None, "there is a lease"
        pool.spend(admission.spending, claim, 20)
        took.append((time.perf_counter_ns() - begun) / 1000)
    await pool.close()
    return sorted(took)


def _admission(number: int) -> Admission:
    spending = Spending(_TENANT, "service:bench", f"{number}", "bench", "bench")
    return Admission(spending, _MODEL, Tier.FAST, 300, 100)
