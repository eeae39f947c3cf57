"""Two hundred calls on the last dollar, over three governors of which one is killed half-way."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final, cast

import pytest
import pytest_asyncio

from agentmesh.common.v1 import usage_pb2
from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from agentmesh.governor.v1.cost_governor_service_pb2_grpc import CostGovernorServiceStub
from meshkit import identity, redis_store
from meshkit.client import Channels
from meshkit.errors import DeadlineExceeded, DependencyUnavailable
from meshtest.eventually import eventually
from meshtest.everywhere import Everywhere
from meshtest.nats_server import NatsServer
from meshtest.redis_server import RedisServer
from tests.gateway.running_gateway import gateway
from tests.spending.governors import GovernorProcess, governors
from tests.spending.journal import charges

pytest_plugins = ["meshtest.fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

_DOLLAR: Final = 1_000_000
_CALLS: Final = 200
# So many at a time: who waits for an answer for longer than a reservation lasts has lost it.
_AT_ONCE: Final = 40
# All of them call in less.
_RESERVED_SECONDS: Final = 15
_TIMEOUT: Final = 20.0
# 1,000 tokens each way of this model cost 0.018 dollars.
_MODEL: Final = "claude-sonnet-4-5"
_TOKENS: Final = 1_000
_RESERVED: Final = 18_000
# Other callers die: they settle nothing.
_SETTLE_ONE_IN: Final = 5
# For good, or for as long as others have reserved what is left.
_REFUSED: Final = (budget_pb2.DECISION_DENY, budget_pb2.DECISION_THROTTLE)


@dataclass(frozen=True, slots=True)
class _Tenant:
    """Somebody who has a dollar, and calls governors."""

    stub: Any
    name: str

    @property
    def parent(self) -> str:
        """The tenant, as requests name it."""
        return f"tenants/{self.name}"

    async def admit(self, key: str) -> pb.AdmitResponse:
        """Asks whether a call may be made."""
        request = pb.AdmitRequest(
            parent=self.parent,
            key=key,
            model=_MODEL,
            input_tokens=_TOKENS,
            max_output_tokens=_TOKENS,
            task_type="chat",
            agent="helper",
        )
        with self._identity():
            return await self.stub.Admit(request, timeout=_TIMEOUT)

    async def settle(self, key: str, output_tokens: int) -> pb.SettleResponse:
        """Says what a call used."""
        request = pb.SettleRequest(
            parent=self.parent,
            key=key,
            model=_MODEL,
            usage=usage_pb2.Usage(input_tokens=_TOKENS, output_tokens=output_tokens, model_calls=1),
            task_type="chat",
            agent="helper",
        )
        request.call_time.GetCurrentTime()
        with self._identity():
            return await self.stub.Settle(request, timeout=_TIMEOUT)

    async def spend(self) -> tuple[pb.SpendWindow, pb.SpendWindow]:
        """What the counters say of the day, and of the month."""
        with self._identity():
            request = pb.GetSpendRequest(parent=self.parent)
            spend = await self.stub.GetSpend(request, timeout=_TIMEOUT)
        return spend.day, spend.month

    async def booked(self) -> int:
        """What the ledger has."""
        with self._identity():
            request = pb.QuerySpendRequest(parent=self.parent)
            spent = await self.stub.QuerySpend(request, timeout=_TIMEOUT)
        return sum(row.usage.cost_micros for row in spent.rows)

    def _identity(self) -> AbstractContextManager[object]:
        return identity.use(identity.Identity(self.name, "user:test"))


@dataclass
class _Callers:
    """The callers, and what they were told."""

    tenant: _Tenant
    killed: GovernorProcess
    answers: int = 0
    # What each that settled was told that it cost, by its key.
    charged: dict[str, int] = field(default_factory=dict[str, int])
    decisions: list[int] = field(default_factory=list[int])

    async def call_all(self) -> None:
        """Has all of them call, a few at a time."""
        few = asyncio.Semaphore(_AT_ONCE)

        async def call(number: int) -> None:
            async with few:
                await self._call(number)

        await asyncio.gather(*(call(number) for number in range(_CALLS)))

    async def _call(self, number: int) -> None:
        """Asks, and where it may, settles twice."""
        key = f"task-{number}/1/1"
        admitted = await self._insist(lambda: self.tenant.admit(key))
        self.decisions.append(admitted.decision)
        self.answers += 1
        if self.answers == _CALLS // 2:
            self.killed.kill()
        if admitted.decision in _REFUSED:
            assert admitted.budget.startswith(f"{self.tenant.parent}/budgets/tenant-")
            return
        assert admitted.reservation.reserved_micros == _RESERVED
        assert admitted.reservation.key == key
        if number % _SETTLE_ONE_IN == 0:
            return
        # All of what was reserved, or half of it.
        tokens = _TOKENS if number % 2 else _TOKENS // 2
        first, second = [await self._insist(lambda: self.tenant.settle(key, tokens)) for _ in "12"]
        assert first.cost_micros == second.cost_micros
        assert second.repeated_settlement
        self.charged[key] = first.cost_micros

    async def _insist(self, ask: Any) -> Any:
        """Repeats what met the governor that is killed, as callers do."""
        while True:
            try:
                return await ask()
            except (DependencyUnavailable, DeadlineExceeded):
                await asyncio.sleep(0.05)


@dataclass(frozen=True, slots=True)
class _Running:
    """Three governors whose tenants have a dollar, and a stub that calls them through Envoy."""

    three: list[GovernorProcess]
    stub: Any
    nats_url: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    shared_nats: NatsServer, shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[_Running]:
    """They are there for every test, each of which has a tenant of its own."""
    folder, nats_url = tmp_path_factory.mktemp("governors"), shared_nats.new_account()
    section = {
        "day_limit_micros": _DOLLAR,
        "month_limit_micros": _DOLLAR,
        "reservation_seconds": _RESERVED_SECONDS,
        # As the gateway knows everybody.
        "spenders": ["user:anonymous"],
    }
    async with (
        governors(
            folder, 3, nats_url=nats_url, redis_url=shared_redis.url, section=section
        ) as three,
        gateway(folder, [each.port for each in three]) as front,
        Channels(Everywhere(front.address), caller="user:test") as channels,
    ):
        yield _Running(three, CostGovernorServiceStub(channels.get("gateway")), nats_url)


async def test_the_last_dollar_is_spent_once(running: _Running) -> None:
    """The limit is never passed, callers, journal, ledger and counters agree to the micro-dollar,
    and nothing stays reserved after expiry, though one governor died among the calls."""
    tenant = _Tenant(running.stub, "acme")
    callers = _Callers(tenant, killed=running.three[1])
    await callers.call_all()

    day, month = await tenant.spend()
    assert day.spent_micros + day.reserved_micros <= _DOLLAR
    assert day.spent_micros == sum(callers.charged.values())
    assert month.spent_micros == day.spent_micros
    # As many as fit were admitted: denied was only what did not.
    refused = sum(decision in _REFUSED for decision in callers.decisions)
    assert len(callers.decisions) - refused >= _DOLLAR // _RESERVED
    assert refused > _CALLS // 2

    journal = {
        key: each.usage.cost_micros for (_, key), each in (await charges(running.nats_url)).items()
    }
    assert journal == callers.charged

    async def ledger_has_all() -> bool:
        assert await tenant.booked() == sum(callers.charged.values())
        return True

    await eventually(ledger_has_all, timeout_seconds=60)

    async def nothing_is_reserved() -> bool:
        day, month = await tenant.spend()
        assert (day.reserved_micros, month.reserved_micros) == (0, 0)
        return True

    await eventually(nothing_is_reserved, timeout_seconds=_RESERVED_SECONDS + 60)
    # What callers that died had reserved may be spent by others.
    left = _DOLLAR - sum(callers.charged.values())
    assert left >= _RESERVED
    admitted = await tenant.admit("afterwards")
    assert admitted.decision == budget_pb2.DECISION_ALLOW


async def test_a_lost_redis_is_rebuilt_to_the_micro_dollar(
    running: _Running, shared_redis: RedisServer
) -> None:
    """Redis comes back empty, and no governor grants a micro-dollar that was spent."""
    tenant = _Tenant(running.stub, "other")
    for number in range(20):
        await tenant.admit(f"k{number}")
        await tenant.settle(f"k{number}", _TOKENS - number)
    before = await tenant.spend()
    assert before[0].spent_micros > 0
    async with redis_store.connect(shared_redis.url) as redis:
        await cast(Any, redis).flushall()
    shared_redis.kill()
    shared_redis.start()

    async def rebuilt() -> bool:
        try:
            assert await tenant.spend() == before
        except DependencyUnavailable as error:
            raise LookupError(error.message) from error
        return True

    await eventually(rebuilt, timeout_seconds=60)
