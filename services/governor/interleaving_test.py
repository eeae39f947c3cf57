"""Any order of events keeps the books and the limits: several governors, faults, and time."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar, cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshkit import redis_store
from meshkit.errors import AlreadySettled, DependencyUnavailable
from meshkit.redis_line import RedisLine
from meshtest.clock import FakeClock
from meshtest.redis_server import RedisServer
from services.governor.account import Usage
from services.governor.budget import Budget, Scope, ScopeKind, Thresholds
from services.governor.budgets import Budgets
from services.governor.calls import Allowed, MadeCall, PlannedCall, Settlement, WantedLease
from services.governor.governor_parts import Defaults, GovernorParts, governor_parts
from services.governor.scripted_ledger import ScriptedLedger
from services.governor.standings import BudgetStanding
from services.governor.window import WindowKind

# Ten minutes before the last day of a month ends, where it ends first.
_START = datetime(2026, 3, 31, 21, 50, tzinfo=UTC)
_DEFAULTS = Defaults(1000, 1500)
_ZONES = ("UTC", "Europe/Berlin", "America/New_York")
_RESERVED_SECONDS = 600
_LIKELY, _MOST = 120, 300
_PATIENT = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


pytest_plugins = ["meshtest.fixtures"]


@dataclass(frozen=True, slots=True)
class _Likely:
    output_tokens: int


class _Open(NamedTuple):
    """A call that was admitted and is neither settled nor released."""

    key: str
    tenant: str
    reserved_micros: int
    admitted_at: float
    # What it asked for.
    most_micros: int = 0


@dataclass
class _World:
    """Three governors on one Redis and one ledger, and what their callers remember."""

    governors: list[GovernorParts]
    budgets: Budgets
    ledger: ScriptedLedger
    clock: FakeClock
    lose_redis: Callable[[], Coroutine[Any, Any, None]]
    calls: list[_Open] = field(default_factory=list[_Open])
    leases: dict[str, _Open] = field(default_factory=dict[str, _Open])
    # Settlements whose answer nobody heard: callers repeat them.
    unheard: list[MadeCall] = field(default_factory=list[MadeCall])
    settled: list[MadeCall] = field(default_factory=list[MadeCall])
    has_lost_redis: bool = False
    count: int = 0
    # How often a budget was set or removed.
    words: int = 0

    def governor(self, number: int) -> GovernorParts:
        return self.governors[number % len(self.governors)]

    def new_key(self) -> str:
        self.count += 1
        return f"k{self.count}"

    def budget(self, limit: int, choice: int) -> Budget:
        scopes = (
            (Scope(ScopeKind.GLOBAL), WindowKind.DAY),
            (Scope(ScopeKind.TENANT, "acme"), WindowKind.DAY),
            (Scope(ScopeKind.TASK_TYPE, "acme", "chat"), WindowKind.MONTH),
            (Scope(ScopeKind.AGENT, "acme", "helper"), WindowKind.DAY),
            (Scope(ScopeKind.SESSION, "acme", "s1"), WindowKind.LIFETIME),
        )
        scope, window = scopes[choice % len(scopes)]
        lines = (Thresholds(), Thresholds(degrade=50, throttle=90))[choice % 2]
        return Budget(scope, window, limit, _ZONES[choice % len(_ZONES)], lines)

    def set_budget(self, limit: int, choice: int) -> None:
        self.words += 1
        self.budgets.put(self.budget(limit, choice), self.words)

    def remove_budget(self, choice: int) -> None:
        self.words += 1
        budget = self.budget(1, choice)
        self.budgets.remove((budget.scope, budget.window), self.words)

    async def admit(self, number: int, tenant: str, tokens: int, key: str = "") -> None:
        call = PlannedCall(
            tenant,
            key or self.new_key(),
            "unit",
            0,
            tokens,
            tier=2,
            task_type="chat",
            agent="helper",
            session="s1" if tokens % 2 else "",
        )
        (verdict,) = await self.governor(number).admission.admit([call])
        if isinstance(verdict, Allowed) and verdict.key not in {each.key for each in self.calls}:
            self.calls.append(
                _Open(
                    verdict.key,
                    tenant,
                    verdict.reserved_micros,
                    self.clock.monotonic_seconds(),
                    tokens,
                )
            )

    async def take_lease(self, number: int, micros: int) -> None:
        wanted = WantedLease("acme", f"lease-{self.new_key()}", micros, "chat", "helper")
        lease = await self.governor(number).leasing.lease(wanted)
        if lease.micros:
            self.leases[lease.lease] = _Open(
                lease.lease, "acme", lease.micros, self.clock.monotonic_seconds()
            )

    async def settle(self, number: int, call: MadeCall, fault: str = "") -> None:
        parts = self.governor(number)
        if fault == "unwritten":
            self.ledger.append_failure = DependencyUnavailable("The journal is away.")
        parts.counters.fault = fault
        try:
            (outcome,) = await parts.settling.settle([call])
        except DependencyUnavailable as error:
            outcome = error
        self.ledger.append_failure, parts.counters.fault = None, ""
        if isinstance(outcome, Settlement):
            self.settled.append(call)
        elif isinstance(outcome, DependencyUnavailable):
            self.unheard.append(call)
        else:
            assert isinstance(outcome, AlreadySettled)

    def made(self, call: _Open, tokens: int, **more: Any) -> MadeCall:
        return MadeCall(
            call.tenant,
            call.key,
            "unit",
            Usage(output_tokens=tokens, model_calls=1),
            task_type="chat",
            agent="helper",
            called_at=self.clock.now(),
            **more,
        )

    async def hear_all(self) -> None:
        """Callers repeat what they heard no answer to."""
        repeated, self.unheard = self.unheard, []
        for number, call in enumerate(repeated):
            await self.settle(number, call)
        assert not self.unheard

    async def standings(self) -> list[BudgetStanding]:
        budgets = {
            each.name: each
            for tenant in ("acme", "other")
            for each in self.budgets.of(tenant, "chat", "helper", "s1")
        }
        return await self.governors[0].standings.of(lambda: list(budgets.values()))


@asynccontextmanager
async def _world(server: RedisServer, start: datetime = _START) -> AsyncGenerator[_World]:
    clock, ledger, budgets = FakeClock(start), ScriptedLedger(), Budgets(_DEFAULTS)
    ledger.profiles["acme", "chat", 2] = _Likely(_LIKELY)
    async with redis_store.connect(server.url) as store, RedisLine(store) as line:

        async def lose_redis() -> None:
            await cast(Any, store).flushall()

        await lose_redis()
        governors = [
            governor_parts(
                line,
                clock,
                ledger,
                _DEFAULTS,
                budgets=budgets,
                reservation_seconds=_RESERVED_SECONDS,
            )
            for _ in range(3)
        ]
        yield _World(governors, budgets, ledger, clock, lose_redis)


_numbers = st.integers(0, 2)
_tenants = st.sampled_from(["acme", "acme", "other"])
_tokens = st.sampled_from([1, 50, 200, _MOST, 999])
_faults = st.sampled_from(["", "", "unwritten", "dies", "unheard"])
_seconds = st.sampled_from([1, 300, 601, 3_600, 40_000])
_limits = st.sampled_from([100, 500, 1000, 5000])
_some = st.integers(0, 9)
_chaos = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), _numbers, _tenants, _tokens),
        st.tuples(st.just("admit again"), _numbers, _some),
        st.tuples(st.just("settle"), _numbers, _some, _tokens, _faults),
        st.tuples(st.just("repeat"), _numbers, _some),
        st.tuples(st.just("contradict"), _numbers, _some),
        st.tuples(st.just("release"), _numbers, _some, st.sampled_from([0, 20])),
        st.tuples(st.just("lease"), _numbers, st.sampled_from([10, 100, 400])),
        st.tuples(st.just("settle leased"), _numbers, _some, _tokens, _faults),
        st.tuples(st.just("set budget"), _limits, _some),
        st.tuples(st.just("remove budget"), _some),
        st.tuples(st.just("hear"), _numbers, _some),
        st.tuples(st.just("open ahead"), _numbers),
        st.tuples(st.just("pass"), _seconds),
        st.tuples(st.just("lose Redis")),
    ),
    max_size=30,
)


@_PATIENT
@given(_chaos)
def test_whatever_happens_counters_and_ledger_agree_in_the_end(
    shared_redis: RedisServer, steps: list[tuple[Any, ...]]
) -> None:
    """Governors that die, answers that are lost, windows that change, budgets that are set, removed
    and set again in other time zones, leases, a Redis that is lost: the sums are the ledger's, and
    nothing stays reserved after expiry."""

    async def run() -> None:
        async with _world(shared_redis) as world:
            for step in steps:
                await _step(world, step)
            await world.hear_all()
            await world.clock.advance(_RESERVED_SECONDS + 1)
            for each in await world.standings():
                balance = world.ledger.balance_now(
                    each.budget.scope, each.window.start, each.window.end
                )
                assert each.standing.spent_micros == balance.spent_micros, each
                assert each.standing.usage == balance.usage, each
                assert each.standing.reserved_micros == 0, each
            first = {key: each.usage.cost_micros for key, each in world.ledger.firsts().items()}
            told: dict[tuple[str, str], int] = {}
            for call in world.settled:
                told.setdefault((call.tenant, call.key), call.usage.output_tokens)
            assert told == first

    asyncio.run(run())


_Item = TypeVar("_Item")


def _pick(items: Sequence[_Item], some: int) -> _Item:
    return items[some % len(items)]


def _take(items: list[_Item], some: int) -> _Item:
    return items.pop(some % len(items))


async def _step(world: _World, step: tuple[Any, ...]) -> None:
    match step:
        case ("admit", number, tenant, tokens):
            await world.admit(number, tenant, tokens)
        case ("admit again", number, some) if world.settled:
            before = _pick(world.settled, some)
            await world.admit(number, before.tenant, 50, before.key.partition("#")[0])
        case ("settle", number, some, tokens, fault) if world.calls:
            call = _take(world.calls, some)
            await world.settle(number, world.made(call, tokens), fault)
        case ("repeat", number, some) if world.settled:
            await world.settle(number, _pick(world.settled, some))
        case ("contradict", number, some) if world.settled:
            before = _pick(world.settled, some)
            (outcome,) = await world.governor(number).settling.settle(
                [world.made(_Open(before.key, before.tenant, 0, 0.0), 12_345)]
            )
            # Where Redis was lost it is not known; the ledger has the first all the same.
            assert isinstance(outcome, AlreadySettled) or world.has_lost_redis
        case ("release", number, some, keep) if world.calls:
            call = _take(world.calls, some)
            await world.governor(number).leasing.release(call.tenant, call.key, keep)
        case ("lease", number, micros):
            await world.take_lease(number, micros)
        case ("settle leased", number, some, tokens, fault) if world.leases:
            lease = _pick(list(world.leases.values()), some)
            call = _Open(world.new_key(), "acme", tokens, 0.0)
            made = world.made(call, tokens, lease=lease.key, leased_micros=tokens)
            await world.settle(number, made, fault)
        case ("set budget", limit, some):
            world.set_budget(limit, some)
        case ("remove budget", some):
            world.remove_budget(some)
        case ("hear", number, some) if world.unheard:
            await world.settle(number, _take(world.unheard, some))
        case ("open ahead", number):
            parts, now = world.governor(number), world.clock.now()
            await parts.openings.open(parts.scopes.beginning(now, now + timedelta(hours=1)))
        case ("pass", seconds):
            await world.clock.advance(seconds)
        case ("lose Redis",):
            world.has_lost_redis = True
            await world.lose_redis()
        case _:
            pass


_honest = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), _numbers, _tenants, st.sampled_from([1, 50, 200, _MOST])),
        st.tuples(st.just("settle"), _numbers, _some, st.sampled_from([1, 50, _LIKELY, _MOST])),
        st.tuples(st.just("release"), _numbers, _some),
        st.tuples(st.just("lease"), _numbers, st.sampled_from([10, 100, 400])),
        st.tuples(st.just("spend leased"), _numbers, _some, st.sampled_from([1, 50, 200])),
        st.tuples(st.just("trim"), _numbers, _some),
        st.tuples(st.just("pass"), st.sampled_from([1, 60, 601])),
    ),
    max_size=40,
)


@_PATIENT
@given(st.lists(st.tuples(_limits, _some), max_size=4), _honest)
def test_spend_never_passes_a_limit(
    shared_redis: RedisServer, limits: list[tuple[int, int]], steps: list[tuple[Any, ...]]
) -> None:
    """While calls are settled within the time of their reservations, and within one window, what
    is spent and reserved stays within every limit, whoever admits, however it is leased, and
    however much more than was likely a call uses."""

    async def run() -> None:
        # No day ends within hours, in any of the zones.
        async with _world(shared_redis, datetime(2026, 3, 15, 12, tzinfo=UTC)) as world:
            for limit, choice in limits:
                world.set_budget(limit, choice)
            for step in steps:
                await _honest_step(world, step)
                for each in await world.standings():
                    standing = each.standing
                    assert (
                        standing.spent_micros + standing.reserved_micros <= each.budget.limit_micros
                    ), each

    asyncio.run(run())


async def _honest_step(world: _World, step: tuple[Any, ...]) -> None:
    now = world.clock.monotonic_seconds()
    world.calls = [each for each in world.calls if now - each.admitted_at < _RESERVED_SECONDS]
    world.leases = {
        key: each
        for key, each in world.leases.items()
        if now - each.admitted_at < _RESERVED_SECONDS
    }
    match step:
        case ("settle", number, some, tokens) if world.calls:
            call = _take(world.calls, some)
            # A call uses what it asked for at most, and that is what a denial goes by.
            used = min(tokens, call.most_micros)
            await world.settle(number, world.made(call, used))
        case ("release", number, some) if world.calls:
            call = _take(world.calls, some)
            await world.governor(number).leasing.release(call.tenant, call.key)
        case ("spend leased", number, some, tokens) if world.leases:
            lease = _pick(list(world.leases.values()), some)
            cost = min(tokens, lease.reserved_micros)
            world.leases[lease.key] = lease._replace(reserved_micros=lease.reserved_micros - cost)
            call = _Open(world.new_key(), "acme", cost, now)
            made = world.made(call, cost, lease=lease.key, leased_micros=cost)
            await world.settle(number, made)
        case ("trim", number, some) if world.leases:
            lease = world.leases.pop(_pick(list(world.leases), some))
            await world.governor(number).leasing.release("acme", lease.key)
        case ("admit" | "lease" | "pass", *_):
            await _step(world, step)
        case _:
            pass
