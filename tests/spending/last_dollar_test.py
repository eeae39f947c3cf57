"""A thousand calls on the last dollar, over three governors of which one is killed half-way."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import pytest

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

_DOLLAR: Final = 1_000_000
_CALLS: Final = 1_000
_RESERVED_SECONDS: Final = 8
_TIMEOUT: Final = 20.0
_PARENT: Final = "tenants/acme"
# 1,000 tokens each way of this model cost 0.018 dollars.
_MODEL: Final = "claude-sonnet-4-5"
_TOKENS: Final = 1_000
_RESERVED: Final = 18_000
# Other callers die: they settle nothing.
_SETTLE_ONE_IN: Final = 5
# For good, or for as long as others have reserved what is left.
_REFUSED: Final = (budget_pb2.DECISION_DENY, budget_pb2.DECISION_THROTTLE)


@dataclass
class _Callers:
    """A thousand callers, and what they were told."""

    stub: Any
    killed: GovernorProcess
    answers: int = 0
    # What each that settled was told that it cost, by its key.
    charged: dict[str, int] = field(default_factory=dict[str, int])
    decisions: list[int] = field(default_factory=list[int])

    async def call(self, number: int) -> None:
        """Asks, and where it may, settles twice."""
        key = f"task-{number}/1/1"
        admitted = await self._insist(lambda: self.stub.Admit(_admit(key), timeout=_TIMEOUT))
        self.decisions.append(admitted.decision)
        self.answers += 1
        if self.answers == _CALLS // 2:
            self.killed.kill()
        if admitted.decision in _REFUSED:
            assert admitted.budget.startswith(f"{_PARENT}/budgets/tenant-")
            return
        assert admitted.reservation.reserved_micros == _RESERVED
        assert admitted.reservation.key == key
        if number % _SETTLE_ONE_IN == 0:
            return
        # All of what was reserved, or half of it.
        settle = _settle(key, _TOKENS if number % 2 else _TOKENS // 2)
        first, second = [
            await self._insist(lambda: self.stub.Settle(settle, timeout=_TIMEOUT)) for _ in "12"
        ]
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


@pytest.fixture
async def running(
    nats_server: NatsServer, redis_server: RedisServer, tmp_path: Path
) -> AsyncGenerator[tuple[list[GovernorProcess], Any]]:
    """Three governors whose tenants have a dollar, and a stub that calls them through Envoy."""
    section = {
        "day_limit_micros": _DOLLAR,
        "month_limit_micros": _DOLLAR,
        "reservation_seconds": _RESERVED_SECONDS,
        # As the gateway knows everybody.
        "spenders": ["user:anonymous"],
    }
    async with (
        governors(
            tmp_path, 3, nats_url=nats_server.url, redis_url=redis_server.url, section=section
        ) as three,
        gateway(tmp_path, [each.port for each in three]) as front,
        Channels(Everywhere(front.address), caller="user:test") as channels,
    ):
        with identity.use(identity.Identity("acme", "user:test")):
            yield three, CostGovernorServiceStub(channels.get("gateway"))


async def test_the_last_dollar_is_spent_once(
    running: tuple[list[GovernorProcess], Any], nats_server: NatsServer
) -> None:
    """The limit is never passed, callers, journal, ledger and counters agree to the micro-dollar,
    and nothing stays reserved after expiry, though one governor died among the calls."""
    three, stub = running
    callers = _Callers(stub, killed=three[1])
    await asyncio.gather(*(callers.call(number) for number in range(_CALLS)))

    day, month = await _spend(stub)
    assert day.spent_micros + day.reserved_micros <= _DOLLAR
    assert day.spent_micros == sum(callers.charged.values())
    assert month.spent_micros == day.spent_micros
    # As many as fit were admitted: denied was only what did not.
    refused = sum(decision in _REFUSED for decision in callers.decisions)
    assert len(callers.decisions) - refused >= _DOLLAR // _RESERVED
    assert refused > _CALLS // 2

    journal = {
        key: each.usage.cost_micros for (_, key), each in (await charges(nats_server.url)).items()
    }
    assert journal == callers.charged

    async def ledger_has_all() -> bool:
        spent = await stub.QuerySpend(pb.QuerySpendRequest(parent=_PARENT), timeout=_TIMEOUT)
        assert sum(row.usage.cost_micros for row in spent.rows) == sum(callers.charged.values())
        return True

    await eventually(ledger_has_all, timeout_seconds=20)

    async def nothing_is_reserved() -> bool:
        day, month = await _spend(stub)
        assert (day.reserved_micros, month.reserved_micros) == (0, 0)
        return True

    await eventually(nothing_is_reserved, timeout_seconds=_RESERVED_SECONDS + 10)
    # What callers that died had reserved may be spent by others.
    left = _DOLLAR - sum(callers.charged.values())
    assert left >= _RESERVED
    admitted = await stub.Admit(_admit("afterwards"), timeout=_TIMEOUT)
    assert admitted.decision == budget_pb2.DECISION_ALLOW


async def test_a_lost_redis_is_rebuilt_to_the_micro_dollar(
    running: tuple[list[GovernorProcess], Any], redis_server: RedisServer
) -> None:
    """Redis comes back empty, and no governor grants a micro-dollar that was spent."""
    _, stub = running
    for number in range(20):
        await stub.Admit(_admit(f"k{number}"), timeout=_TIMEOUT)
        await stub.Settle(_settle(f"k{number}", _TOKENS - number), timeout=_TIMEOUT)
    before = await _spend(stub)
    assert before[0].spent_micros > 0
    async with redis_store.connect(redis_server.url) as redis:
        await cast(Any, redis).flushall()
    redis_server.kill()
    redis_server.start()

    async def rebuilt() -> bool:
        try:
            assert await _spend(stub) == before
        except DependencyUnavailable as error:
            raise LookupError(error.message) from error
        return True

    await eventually(rebuilt, timeout_seconds=20)


async def _spend(stub: Any) -> tuple[pb.SpendWindow, pb.SpendWindow]:
    spend = await stub.GetSpend(pb.GetSpendRequest(parent=_PARENT), timeout=_TIMEOUT)
    return spend.day, spend.month


def _admit(key: str) -> pb.AdmitRequest:
    return pb.AdmitRequest(
        parent=_PARENT,
        key=key,
        model=_MODEL,
        input_tokens=_TOKENS,
        max_output_tokens=_TOKENS,
        task_type="chat",
        agent="helper",
    )


def _settle(key: str, output_tokens: int) -> pb.SettleRequest:
    request = pb.SettleRequest(
        parent=_PARENT,
        key=key,
        model=_MODEL,
        usage=usage_pb2.Usage(input_tokens=_TOKENS, output_tokens=output_tokens, model_calls=1),
        task_type="chat",
        agent="helper",
    )
    request.call_time.GetCurrentTime()
    return request
