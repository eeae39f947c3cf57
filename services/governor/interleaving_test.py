"""Any order of events keeps the books: the counters against a plain model of them."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshkit import redis_store
from meshkit.errors import AlreadySettled
from meshkit.redis_line import RedisLine
from meshtest.clock import FakeClock
from meshtest.redis_server import RedisServer
from services.governor.account import Usage
from services.governor.counters_redis import RedisCounters
from services.governor.governor import (
    Allowed,
    CostGovernor,
    Limits,
    MadeCall,
    PlannedCall,
    Settlement,
)
from services.governor.price_book import ModelPrice, PriceBook, PriceVersion
from services.governor.window import day_of, month_of

# A token costs one micro-USD, so that tokens can be read as money.
_MODELS = {"unit": ModelPrice(1_000_000, 1_000_000, 1_000_000, 0, 0)}
_BOOK = PriceBook([PriceVersion("1", date(2026, 1, 1), _MODELS)])
# Ten minutes before the last day of a month begins.
_START = datetime(2026, 3, 30, 23, 50, tzinfo=UTC)
_DAY_LIMIT, _MONTH_LIMIT = 1000, 1500
_PATIENT = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis; each example takes a tenant of its own."""
    running = RedisServer(tmp_path_factory.mktemp("redis"))
    running.start()
    yield running
    running.kill()


@dataclass
class _Model:
    """What the counters should say, in the plainest form."""

    now: datetime = _START
    spent: dict[str, int] = field(default_factory=dict[str, int])
    held: dict[str, tuple[int, datetime, tuple[str, str]]] = field(
        default_factory=dict[str, tuple[int, datetime, tuple[str, str]]]
    )
    settled: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def windows(self) -> tuple[str, str]:
        return month_of(self.now).id, day_of(self.now).id

    def reserved(self, window: str) -> int:
        return sum(amount for amount, _, windows in self.held.values() if window in windows)

    def advance(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.held = {key: held for key, held in self.held.items() if held[1] > self.now}

    def admit(self, key: str, amount: int) -> int | None:
        if key in self.held:
            return self.held[key][0]
        for window, limit in zip(self.windows, (_MONTH_LIMIT, _DAY_LIMIT), strict=True):
            if self.spent.get(window, 0) + self.reserved(window) + amount > limit:
                return None
        self.held[key] = (amount, self.now + timedelta(seconds=600), self.windows)
        return amount

    def settle(self, key: str, amount: int) -> str:
        if key in self.settled and key not in self.held:
            return "repeated" if self.settled[key] == amount else "conflict"
        _, _, windows = self.held.pop(key, (0, self.now, self.windows))
        self.settled[key] = amount
        for window in windows:
            self.spent[window] = self.spent.get(window, 0) + amount
        return "settled"

    def release(self, key: str) -> int | None:
        if key in self.settled and key not in self.held:
            return None
        return self.held.pop(key, (0,))[0]


_keys = st.sampled_from(["a", "b", "c", "d"])
_amounts = st.sampled_from([1, 200, 400, 999, 1000])
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), _keys, _amounts),
        st.tuples(st.just("settle"), _keys, _amounts),
        st.tuples(st.just("release"), _keys, st.just(0)),
        st.tuples(st.just("advance"), st.just(""), st.sampled_from([1, 300, 599, 600, 40_000])),
    ),
    max_size=25,
)
_tenants = count()


@_PATIENT
@given(_steps)
def test_any_interleaving_keeps_the_books(
    server: RedisServer, steps: list[tuple[str, str, int]]
) -> None:
    """Whatever happens in whatever order, answers and sums are those of the plain model."""

    async def run() -> None:
        tenant, model, clock = f"p{next(_tenants)}", _Model(), FakeClock(_START)
        async with redis_store.connect(server.url) as store, RedisLine(store) as line:
            governor = CostGovernor(
                prices=_BOOK,
                default_limits=Limits(_DAY_LIMIT, _MONTH_LIMIT),
                tenant_limits={},
                counters=RedisCounters(line, clock, remember_settled_seconds=3600),
                clock=clock,
                reservation_seconds=600,
            )
            for operation, key, amount in steps:
                if operation == "advance":
                    await clock.advance(amount)
                    model.advance(amount)
                elif operation == "admit":
                    (verdict,) = await governor.admit([PlannedCall(tenant, key, "unit", amount, 0)])
                    got = verdict.reserved_micros if isinstance(verdict, Allowed) else None
                    assert got == model.admit(key, amount)
                elif operation == "settle":
                    (outcome,) = await governor.settle(
                        [MadeCall(tenant, key, "unit", Usage(input_tokens=amount))]
                    )
                    said = "conflict"
                    if isinstance(outcome, Settlement):
                        said = "repeated" if outcome.repeated else "settled"
                    assert said == model.settle(key, amount)
                else:
                    freed = model.release(key)
                    try:
                        assert await governor.release(tenant, key) == freed
                    except AlreadySettled:
                        assert freed is None
                for spend in await governor.spend(tenant):
                    window, standing = spend.window.id, spend.standing
                    assert standing.spent_micros == model.spent.get(window, 0)
                    assert standing.reserved_micros == model.reserved(window)

    asyncio.run(run())
