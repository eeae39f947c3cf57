"""Test-only: leases of a governor that grants what it is told to."""

import asyncio
from datetime import timedelta
from typing import Final

from meshkit.errors import MeshError
from meshtest.clock import FakeClock
from meshtest.ids import FakeIds
from services.reasoning.generation import Spending
from services.reasoning.governor import Admission, LeaseGrant, LeaseWish, Settlement
from services.reasoning.lease_pool import Claim, LeasePool, LeaseSizes
from services.reasoning.model import Tier
from services.reasoning.price_list import Price, PriceList

COVER_SECONDS: Final = 10.0
# A thousand input tokens cost 1,000 micro-USD.
_PRICES: Final = PriceList(
    "1", {"1": {"paid": Price(1_000_000, 1_000_000, 0), "free": Price(0, 0, 0)}}
)
SPENDING: Final = Spending("acme", "service:executor", "", "chat", "helper", "s1")
_TASK: Final = "tenants/acme/tasks/t"
# So many soon after each other are worth a lease.
CALLS: Final = 4


class Lessor:
    """Grants what it is told to."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.wishes: list[LeaseWish] = []
        self.trims: list[tuple[str, str, int]] = []
        self.failure: MeshError | None = None
        self.hold: asyncio.Event | None = None
        self.hold_trims: asyncio.Event | None = None
        self.most_micros = 10**12
        self.lease_seconds = 600.0
        self.price_version = "1"
        self.retry_after_seconds = 0.0
        self.asks_for_sessions = False
        self.tiers: frozenset[Tier] = frozenset()

    async def lease(self, wish: LeaseWish) -> LeaseGrant:
        self.wishes.append(wish)
        if self.hold is not None:
            await self.hold.wait()
        if self.failure is not None:
            raise self.failure
        return LeaseGrant(
            micros=min(wish.micros, self.most_micros),
            expires_at=self._clock.now() + timedelta(seconds=self.lease_seconds),
            price_version=self.price_version,
            retry_after_seconds=self.retry_after_seconds,
            asks_for_sessions=self.asks_for_sessions,
            tiers=self.tiers,
        )

    async def trim(self, tenant: str, lease: str, keep_micros: int) -> None:
        self.trims.append((tenant, lease, keep_micros))
        if self.hold_trims is not None:
            await self.hold_trims.wait()
        if self.failure is not None:
            raise self.failure


class LeaseBench:
    """A pool of leases, and calls of one tenant that claim them."""

    def __init__(self, *, most_micros: int = 1_000_000, most_tenant_leases: int = 2) -> None:
        self.clock = FakeClock()
        self.lessor = Lessor(self.clock)
        self.closed_tenants: set[str] = set()
        self.pool = LeasePool(
            self.lessor,
            _PRICES,
            sizes=LeaseSizes(
                cover_seconds=COVER_SECONDS,
                least_micros=10_000,
                most_micros=most_micros,
                most_leases=2,
                most_tenant_leases=most_tenant_leases,
            ),
            ask_again_seconds=1.0,
            fails_closed=self.closed_tenants.__contains__,
            clock=self.clock,
            ids=FakeIds(),
        )

    def claim(
        self,
        *,
        model: str = "paid",
        tokens: int = 1_000,
        tier: Tier = Tier.BALANCED,
        tenant: str = "acme",
        key: str = "",
        session: str = "s1",
        task_limit_micros: int = 0,
        task_type: str = "chat",
    ) -> Claim | None:
        """Claims for a call that costs `tokens` micro-USD at most."""
        spending = Spending(
            tenant, "service:executor", key or "own", task_type, "helper", session, _TASK,
            task_limit_micros,
        )  # fmt: skip
        admission = Admission(spending, model, tier, tokens, 0)
        return self.pool.claim(admission, may_repeat=bool(key))

    async def lease(self) -> None:
        """As many calls as are worth a lease, and the lease."""
        for _ in range(CALLS):
            self.claim()
        await self.settle_down()

    async def settle_down(self) -> None:
        """Lets everything run that need not wait for the clock."""
        await self.clock.advance(0.0)

    async def spend(self, claim: Claim | None, cost_micros: int) -> Settlement:
        """The settlement of a claimed call, on its way."""
        assert claim is not None
        taken = self.pool.spend(SPENDING, claim, cost_micros)
        return Settlement(
            SPENDING, "paid", cost_micros, 0, lease=claim.lease.terms.lease, leased_micros=taken
        )
