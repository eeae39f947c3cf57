"""Test-only: two governors on one broker and one Redis, whose budgets can be set."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest

from agentmesh.governor.v1 import cost_governor_service_pb2_grpc as pb_grpc
from meshkit import identity, redis_store
from meshkit.bus import Bus
from meshkit.operators import Operators
from meshkit.redis_line import RedisLine
from meshkit.server import Registration
from meshkit.unbroken import Unbroken
from meshtest.clock import FakeClock
from meshtest.serving import serving
from services.governor.account import Decision
from services.governor.budget_service import BudgetService
from services.governor.budget_store_jetstream import JetStreamBudgets
from services.governor.budgets import Budgets
from services.governor.governor_parts import Defaults, governor_parts
from services.governor.scripted_ledger import ScriptedLedger
from services.governor.service import CostGovernorService
from services.governor.spenders import Spenders

pytest_plugins = ["services.governor.fixture_governor"]

# They have tests of their own.
_NO_ALERTS = _NO_SPENDING = cast(Any, None)
_DEFAULTS = Defaults(1_000, 10_000)


@pytest.fixture
def noticed() -> list[Decision]:
    """The decisions that alerts are told of."""
    return []


@pytest.fixture
async def governors(
    nats_url: str, redis_url: str, clock: FakeClock, noticed: list[Decision]
) -> AsyncIterator[list[Any]]:
    """Two governors, each a server of its own; called for the tenant acme."""
    ledger = ScriptedLedger()
    async with AsyncExitStack() as stack:
        governors: list[Any] = []
        # To the second one, and to that alone, this test is an operator.
        for operators in ([], ["service:test"]):
            redis = await stack.enter_async_context(redis_store.connect(redis_url))
            line = await stack.enter_async_context(RedisLine(redis))
            bus = await stack.enter_async_context(await Bus.connect(nats_url, name="g"))
            budgets = Budgets(_DEFAULTS)
            store = JetStreamBudgets(bus, budgets, clock, most_per_tenant=3)
            await store.prepare()
            following = asyncio.create_task(store.follow())
            stack.callback(following.cancel)
            parts = governor_parts(
                line,
                clock,
                ledger,
                _DEFAULTS,
                budgets=budgets,
                budgets_known=lambda store=store: store.position,
                reach_budgets=store.reach,
            )
            service = BudgetService(
                budgets,
                store,
                parts.counters,
                parts.standings,
                Operators(operators),
                lambda tenant: frozenset({1}) if tenant == "free" else frozenset(),
                lambda wish, decision: noticed.append(decision),
            )
            registration = Registration(
                service_name="agentmesh.governor.v1.CostGovernorService",
                add=pb_grpc.add_CostGovernorServiceServicer_to_server,
                servicer=CostGovernorService(
                    parts.admission,
                    parts.leasing,
                    parts.settling,
                    parts.standings,
                    service,
                    alerts=_NO_ALERTS,
                    spending=_NO_SPENDING,
                    spenders=Spenders(),
                    unbroken=Unbroken(),
                ),
            )
            channels = await stack.enter_async_context(serving([registration]))
            governors.append(pb_grpc.CostGovernorServiceStub(channels.get("governor")))
        with identity.use(identity.Identity("acme", "user:anna")):
            yield governors
