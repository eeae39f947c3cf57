"""Any order of events keeps the books: the counters against a plain model of them."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
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
from services.governor.calls import Allowed, MadeCall, PlannedCall, Settlement
from services.governor.governor_parts import Defaults, governor_parts
from services.governor.scripted_ledger import ScriptedLedger
from services.governor.window import WindowKind, window_of

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
        return self.window(WindowKind.MONTH), self.window(WindowKind.DAY)

    def window(self, kind: WindowKind) -> str:
        return str(window_of(kind, self.now, UTC))

    def reserved(self, window: str) -> int:
        return sum(amount for amount, _, windows in self.held.values() if window in windows)

    def advance(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.held = {key: held for key, held in self.held.items() if held[1] > self.now}

    def admit(self, key: str, amount: int) -> tuple[str, int] | None:
        first, again = key, 2
        while key in self.settled:
            key, again = f"{first}#{again}", again + 1
        if key in self.held:
            return key, self.held[key][0]
        for window, limit in zip(self.windows, (_MONTH_LIMIT, _DAY_LIMIT), strict=True):
            if self.spent.get(window, 0) + self.reserved(window) + amount > limit:
                return None
        self.held[key] = (amount, self.now + timedelta(seconds=600), self.windows)
        return key, amount

    def settle(self, key: str, amount: int) -> str:
        if key in self.settled:
            return "repeated" if self.settled[key] == amount else "conflict"
        self.held.pop(key, None)
        self.settled[key] = amount
        for window in self.windows:
            self.spent[window] = self.spent.get(window, 0) + amount
        return "settled"

    def release(self, key: str) -> int | None:
        if key in self.settled:
            return None
        return self.held.pop(key, (0,))[0]


_keys = st.sampled_from(["a", "b", "a#2", "b#2"])
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
            parts = governor_parts(
                line, clock, ScriptedLedger(), Defaults(_DAY_LIMIT, _MONTH_LIMIT)
            )
            governor = parts.governor
            for operation, key, amount in steps:
                if operation == "advance":
                    await clock.advance(amount)
                    model.advance(amount)
                elif operation == "admit":
                    (verdict,) = await governor.admit([PlannedCall(tenant, key, "unit", amount, 0)])
                    got = None
                    if isinstance(verdict, Allowed):
                        got = verdict.key, verdict.reserved_micros
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
                for spend in await parts.standings.spend(tenant):
                    window, standing = str(spend.window), spend.standing
                    assert standing.spent_micros == model.spent.get(window, 0)
                    assert standing.reserved_micros == model.reserved(window)

    asyncio.run(run())
