"""Admits calls in memory, out of leases that it takes, renews and gives back in the background."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, Final, Protocol

from meshkit.clock import Clock
from meshkit.errors import MeshError
from meshkit.frozen import frozen
from meshkit.ids import Ids
from meshkit.time_limit import within
from services.reasoning.generation import Spending
from services.reasoning.governor import Admission, LeaseGrant, LeaseWish, Settlement
from services.reasoning.lease import Demand, Lease, Terms
from services.reasoning.price_list import Price, PriceList
from services.reasoning.seen_keys import SeenKeys

# Fewer calls in the time that a lease covers are not worth one.
_BEGIN_CALLS: Final = 4.0
# The least time between two leases for the same work.
_RENEW_SECONDS: Final = 1.0
# How often leases are looked at, while there are any.
_LOOK_SECONDS: Final = 1.0
# Nothing is admitted under a lease in the last part of its life: the governor's clock is
# another one, and a call takes its time.
_MARGIN_SECONDS: Final = 10.0
# However long it is granted. Budgets may change, and what a clock says that was set is not
# believed.
_LONGEST_SECONDS: Final = 60.0
# Before a lease is asked for again whose prices are unknown here.
_OTHER_PRICES_SECONDS: Final = 60.0
# How long the end of the process waits until all are given back.
_CLOSE_SECONDS: Final = 2.0
_KEYS: Final = 20_000


class Lessor(Protocol):
    """Grants leases and takes them back. Both raise MeshError, and may be repeated."""

    async def lease(self, wish: LeaseWish) -> LeaseGrant:
        """Sets an amount aside."""
        ...

    async def trim(self, tenant: str, lease: str, keep_micros: int) -> None:
        """Gives back what a lease holds beyond `keep_micros`."""
        ...


@frozen
class LeaseSizes:
    """How much is leased, and for how many kinds of work at a time."""

    # A lease covers what so long a time needs, going by what the last ones needed.
    cover_seconds: float
    # Of one lease, in micro-USD; with 0 as the most, each call is asked for.
    least_micros: int
    most_micros: int
    most_leases: int
    # Of one tenant: who has many kinds of work takes no other's lease.
    most_tenant_leases: int


@frozen
class Claim:
    """A call that was admitted under a lease."""

    lease: Lease
    held_micros: int
    price: Price


class LeasePool:
    """A lease for each kind of work that is busy: a tenant, a task type and an agent.

    No call waits for a lease: what none covers is asked for singly while the
    next one is on its way.
    """

    def __init__(
        self,
        lessor: Lessor,
        prices: PriceList,
        *,
        sizes: LeaseSizes,
        ask_again_seconds: float,
        fails_closed: Callable[[str], bool],
        clock: Clock,
        ids: Ids,
    ) -> None:
        """`ask_again_seconds`: after a governor that could not be reached.

        `fails_closed`: whether the governor has to be asked for each call of a tenant.
        """
        self._lessor: Final = lessor
        self._prices: Final = prices
        self._sizes: Final = sizes
        self._ask_again_seconds: Final = ask_again_seconds
        self._fails_closed: Final = fails_closed
        self._clock: Final = clock
        self._ids: Final = ids
        self._seen: Final = SeenKeys(_KEYS)
        # The longest unused first, of all and of each tenant.
        self._works: Final[OrderedDict[tuple[str, str, str], _Work]] = OrderedDict()
        self._of_tenants: Final[dict[str, OrderedDict[tuple[str, str, str], None]]] = {}
        # All that the governor may hold something for, by name.
        self._leases: Final[dict[str, Lease]] = {}
        self._retired: Final[set[Lease]] = set()
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._is_looking = False
        self._closed = False

    def claim(self, admission: Admission, *, may_repeat: bool) -> Claim | None:
        """Admits a call under a lease; None where the governor has to be asked for it.

        `may_repeat`: the call's key is its caller's, who may have used it before.
        A claim ends with `spend` or `give_back`.
        """
        spending = admission.spending
        if self._closed or not self._sizes.most_micros or self._fails_closed(spending.tenant):
            return None
        # A call that is made again is charged besides: only the governor can tell.
        is_repeat = may_repeat and not self._seen.add(spending.tenant, spending.key)
        # A task with a cap has a budget of its own.
        if is_repeat or spending.task_limit_micros:
            return None
        now = self._clock.monotonic_seconds()
        work = self._work(spending, now)
        lease = work.lease
        prices = self._prices.present if lease is None else lease.terms.prices
        price = prices.get(admission.model)
        if price is None:
            return None
        micros = price.cost_micros(admission.input_tokens, admission.max_output_tokens)
        work.demand.asked(micros, now)
        if lease is None or now >= lease.terms.ends_at:
            self._want(work, now)
            return None
        if not lease.terms.cover(admission.tier, spending.session):
            return None
        if not lease.take(micros):
            self._want(work, now)
            return None
        if now >= work.renew_at or lease.free_micros < work.demand.low_micros():
            self._want(work, now)
        return Claim(lease, micros, price)

    def spend(self, spending: Spending, claim: Claim, cost_micros: int) -> int:
        """Ends a claim's call; how much of the lease its settlement takes."""
        self.note(spending, cost_micros)
        return claim.lease.spend(claim.held_micros, cost_micros)

    def give_back(self, claim: Claim) -> None:
        """Ends a claim's call that cost nothing."""
        claim.lease.give_back(claim.held_micros)

    def note(self, spending: Spending, cost_micros: int) -> None:
        """A call has cost so much: the next lease has to hold that, too."""
        work = self._works.get((spending.tenant, spending.task_type, spending.agent))
        if work is not None:
            work.demand.spent(cost_micros)

    def settled(self, settlement: Settlement) -> None:
        """The governor knows a settlement."""
        lease = self._leases.get(settlement.lease)
        if lease is not None:
            lease.settled(settlement.leased_micros)

    def refused(self, settlement: Settlement) -> None:
        """The governor does not take a settlement, whoever repeats it."""
        lease = self._leases.get(settlement.lease)
        if lease is not None:
            lease.refused(settlement.leased_micros)

    async def close(self) -> None:
        """Gives all leases back; from now on each call is asked for."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        unknown = [work for work in self._works.values() if work.asked_for]
        with suppress(TimeoutError), within(_CLOSE_SECONDS):
            await asyncio.gather(
                *(self._trim(each.tenant, each.asked_for, 0) for each in unknown),
                *(
                    self._trim(lease.tenant, name, lease.trim())
                    for name, lease in self._leases.items()
                ),
            )
        self._leases.clear()

    def _work(self, spending: Spending, now: float) -> "_Work":
        key = (spending.tenant, spending.task_type, spending.agent)
        work = self._works.get(key)
        if work is None:
            work = _Work(*key, Demand(self._sizes.cover_seconds, now))
            self._works[key] = work
            own = self._of_tenants.setdefault(spending.tenant, OrderedDict())
            own[key] = None
            if len(own) > self._sizes.most_tenant_leases:
                self._forget(next(iter(own)))
            if len(self._works) > self._sizes.most_leases:
                self._forget(next(iter(self._works)))
        else:
            self._works.move_to_end(key)
            self._of_tenants[spending.tenant].move_to_end(key)
        work.used_at = now
        return work

    def _want(self, work: "_Work", now: float) -> None:
        """Takes the next lease in the background, unless that is useless or done already."""
        if work.is_asking or now < work.ask_from or work.demand.calls < _BEGIN_CALLS:
            return
        work.is_asking = True
        self._begin(self._acquire(work))

    async def _acquire(self, work: "_Work") -> None:
        try:
            wait_seconds = await self._try_to_acquire(work)
        except MeshError:
            # Asked for with the same name again, it is found if it was granted.
            wait_seconds = self._ask_again_seconds
        finally:
            work.is_asking = False
        work.ask_from = self._clock.monotonic_seconds() + wait_seconds

    async def _try_to_acquire(self, work: "_Work") -> float:
        """Takes a lease; how long to wait before the next one, in seconds."""
        before = work.lease
        needed = work.demand.micros(before.held_micros if before else 0)
        micros = min(max(needed, self._sizes.least_micros), self._sizes.most_micros)
        work.asked_for = work.asked_for or self._ids.new()
        began = self._clock.monotonic_seconds()
        name = work.asked_for
        # Work that is free needs the lease's word alone.
        wish = LeaseWish(work.tenant, name, work.task_type, work.agent, micros if needed else 1)
        grant = await self._lessor.lease(wish)
        work.asked_for = ""
        if not grant.micros:
            return max(grant.retry_after_seconds, _RENEW_SECONDS)
        terms = self._terms(name, grant, began)
        if terms is None or terms.ends_at <= self._clock.monotonic_seconds():
            await self._trim(work.tenant, name, 0)
            return _OTHER_PRICES_SECONDS if terms is None else _RENEW_SECONDS
        lease = Lease(work.tenant, terms)
        self._leases[name] = lease
        if self._works.get(work.key) is not work:
            # Too many others were busy in the meantime.
            await self._retire(lease)
            return 0.0
        work.lease = lease
        work.renew_at = (began + terms.ends_at) / 2
        self._look()
        if before is not None:
            await self._retire(before)
        return _RENEW_SECONDS

    def _terms(self, name: str, grant: LeaseGrant, began: float) -> Terms | None:
        """None where its prices are unknown here."""
        version = grant.price_version or self._prices.version
        prices = self._prices.versions.get(version)
        if prices is None:
            return None
        seconds = (grant.expires_at - self._clock.now()).total_seconds()
        seconds -= min(_MARGIN_SECONDS, seconds / 2)
        return Terms(
            lease=name,
            micros=grant.micros,
            ends_at=began + min(seconds, _LONGEST_SECONDS),
            price_version=grant.price_version,
            prices=prices,
            asks_for_sessions=grant.asks_for_sessions,
            tiers=grant.tiers,
        )

    async def _retire(self, lease: Lease) -> None:
        """Gives back what is free of a lease; the rest when its calls are settled."""
        if lease.has_leftovers:
            await self._trim(lease.tenant, lease.terms.lease, lease.trim())
        # Calls may have ended meanwhile that needed less than was kept for them.
        if lease.bound_micros or lease.has_leftovers:
            self._retired.add(lease)
        else:
            self._leases.pop(lease.terms.lease, None)

    async def _trim(self, tenant: str, lease: str, keep_micros: int) -> None:
        # What is not given back expires.
        with suppress(MeshError):
            await self._lessor.trim(tenant, lease, keep_micros)

    def _forget(self, key: tuple[str, str, str]) -> None:
        work = self._works.pop(key)
        own = self._of_tenants[work.tenant]
        del own[key]
        if not own:
            del self._of_tenants[work.tenant]
        if work.lease is not None:
            self._begin(self._retire(work.lease))
        if work.asked_for and not work.is_asking:
            self._begin(self._trim(work.tenant, work.asked_for, 0))

    def _look(self) -> None:
        if not self._is_looking:
            self._is_looking = True
            self._begin(self._keep_looking())

    async def _keep_looking(self) -> None:
        """Gives back what nobody uses, until there is nothing left to look at."""
        try:
            while self._leases:
                await self._clock.sleep(_LOOK_SECONDS)
                now = self._clock.monotonic_seconds()
                for key, work in list(self._works.items()):
                    if work.used_at <= now - self._sizes.cover_seconds:
                        self._forget(key)
                    elif work.lease is not None and now >= work.lease.terms.ends_at:
                        # No other is to be had, and what is free of it is of use to nobody.
                        ended, work.lease = work.lease, None
                        await self._retire(ended)
                for lease in [each for each in self._retired if not each.bound_micros]:
                    self._retired.discard(lease)
                    await self._retire(lease)
        finally:
            self._is_looking = False

    def _begin(self, job: Coroutine[Any, Any, None]) -> None:
        # In a context of its own: whose call brought it about does not matter.
        task = asyncio.get_running_loop().create_task(job, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Work:
    """A kind of work, and the lease under which its calls are admitted."""

    __slots__ = (
        "agent", "ask_from", "asked_for", "demand", "is_asking", "key", "lease", "renew_at",
        "task_type", "tenant", "used_at",
    )  # fmt: skip

    def __init__(self, tenant: str, task_type: str, agent: str, demand: Demand) -> None:
        self.key: Final = (tenant, task_type, agent)
        self.tenant: Final = tenant
        self.task_type: Final = task_type
        self.agent: Final = agent
        self.demand: Final = demand
        self.lease: Lease | None = None
        self.used_at = 0.0
        # No lease is asked for before.
        self.ask_from = 0.0
        # A lease is old from then on.
        self.renew_at = 0.0
        self.is_asking = False
        # The name of a lease that may have been granted; empty for none.
        self.asked_for = ""
