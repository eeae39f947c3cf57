"""Test-only: a reasoning service on a real server, with a governor on another."""

import asyncio
import io
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agentmesh.governor.v1 import cost_governor_service_pb2_grpc as governor_grpc
from agentmesh.reasoning.v1 import reasoning_service_pb2_grpc as pb_grpc
from meshkit import log
from meshkit.client import Channels
from meshkit.errors import MeshError
from meshkit.server import Registration
from meshtest.clock import FakeClock
from meshtest.ids import FakeIds
from meshtest.serving import serving
from services.reasoning.allowance import Allowance
from services.reasoning.budgeted_model import BudgetedModel
from services.reasoning.catalogue import Catalogue
from services.reasoning.embedding import EmbeddingModel
from services.reasoning.endpoint_state import EndpointState
from services.reasoning.governor_grpc import GrpcGovernor
from services.reasoning.lease_pool import LeasePool, LeaseSizes
from services.reasoning.model import Kind, ModelSpec, Tier
from services.reasoning.model_check import ModelCheck
from services.reasoning.offline.plan import Planner
from services.reasoning.offline.times import TimeQuestions
from services.reasoning.price_list import Price, PriceList
from services.reasoning.provided_model import ProvidedModel
from services.reasoning.provider_offline import OFFLINE, OfflineProvider
from services.reasoning.reasoner import Reasoner
from services.reasoning.scripted_governor import (
    MICROS_PER_TOKEN,
    PRICE_VERSION,
    ScriptedGovernor,
)
from services.reasoning.scripted_provider import PAID, ScriptedProvider
from services.reasoning.scripted_settlement_store import ScriptedSettlementStore
from services.reasoning.service import ReasoningService
from services.reasoning.settlement_queue import SettlementQueue
from services.reasoning.structured import structured_providers

ALLOWANCE_MICROS: Final = 1_000
# For a model to answer a check.
CHECK_SECONDS: Final = 2.0
_PRICE: Final = MICROS_PER_TOKEN * 1_000_000
PRICES: Final = {
    "paid": Price(_PRICE, _PRICE, _PRICE // 2),
    "offline": Price(0, 0, 0),
    "tiny": Price(0, 0, 0),
}
SIZES: Final = LeaseSizes(
    cover_seconds=10.0,
    least_micros=10_000,
    most_micros=1_000_000,
    most_leases=4,
    most_tenant_leases=4,
)
TINY: Final = ModelSpec(
    name="tiny",
    provider="inprocess",
    kind=Kind.EMBEDDER,
    context_tokens=256,
    dimensions=2,
    description="Counts characters.",
)


KEYLESS: Final = ModelSpec(
    name="gpt-5-mini",
    provider="openai",
    kind=Kind.GENERATOR,
    context_tokens=1000,
    max_output_tokens=100,
    description="Needs the environment variable OPENAI_API_KEY.",
    callable=False,
)


class CountingEmbedder:
    """Makes vectors of the lengths of texts."""

    def __init__(self) -> None:
        # While set, everything fails with it.
        self.failure: MeshError | None = None

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The length of each, and 1."""
        if self.failure is not None:
            raise self.failure
        return np.array([[len(text), 1] for text in texts], np.float32)


class ScriptedEndpoints:
    """States of endpoints, as a test sets them."""

    def __init__(self) -> None:
        # By the name of the model; all others are well and have no breaker.
        self.states: Final[dict[str, EndpointState]] = {}

    def state(self, model: str) -> EndpointState:
        """What the test has set."""
        return self.states.get(model, EndpointState())


@dataclass(frozen=True)
class Bench:
    """A reasoning service, what it depends on, and a client."""

    reasoning: pb_grpc.ReasoningServiceStub
    # What it serves.
    reasoner: Reasoner
    # What makes its calls.
    generator: BudgetedModel
    governor: ScriptedGovernor
    provider: ScriptedProvider
    embedder: CountingEmbedder
    endpoints: ScriptedEndpoints
    clock: FakeClock
    settlements: SettlementQueue
    leases: LeasePool
    # Tenants whose calls need a governor that answers.
    closed_tenants: set[str]
    # Tiers that no tenant may use.
    forbidden_tiers: set[Tier]


@asynccontextmanager
async def reasoning_bench(*, caller: str = "service:test") -> AsyncGenerator[Bench]:
    """The service with `offline` as fast, `paid` as balanced, and no powerful model.

    `caller`: who its client is.
    """
    # What it lacks, reasoning does not call.
    scripted = ScriptedGovernor()  # pyright: ignore[reportAbstractUsage]
    registration = Registration(
        "agentmesh.governor.v1.CostGovernorService",
        governor_grpc.add_CostGovernorServiceServicer_to_server,
        scripted,
    )
    async with serving([registration]) as governor_channels:
        clock, provider, embedder = FakeClock(), ScriptedProvider(), CountingEmbedder()
        endpoints = ScriptedEndpoints()
        closed_tenants: set[str] = set()
        forbidden_tiers: set[Tier] = set()
        parts = _parts(
            governor_channels,
            clock,
            provider,
            embedder,
            closed_tenants.__contains__,
            lambda _, tier: tier not in forbidden_tiers,
        )
        working = asyncio.create_task(parts.settlements.run())
        served = Registration(
            "agentmesh.reasoning.v1.ReasoningService",
            pb_grpc.add_ReasoningServiceServicer_to_server,
            ReasoningService(parts.reasoner, parts.check, PRICES, endpoints),
        )
        async with serving([served], caller=caller) as channels:
            stub = pb_grpc.ReasoningServiceStub(channels.get("reasoning"))
            yield Bench(
                stub,
                parts.reasoner,
                parts.generator,
                scripted,
                provider,
                embedder,
                endpoints,
                clock,
                parts.settlements,
                parts.leases,
                closed_tenants,
                forbidden_tiers,
            )
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        await parts.leases.close()


@dataclass(frozen=True, slots=True)
class _Parts:
    reasoner: Reasoner
    generator: BudgetedModel
    check: ModelCheck
    settlements: SettlementQueue
    leases: LeasePool


def _parts(
    channels: Channels,
    clock: FakeClock,
    provider: ScriptedProvider,
    embedder: CountingEmbedder,
    fails_closed: Callable[[str], bool],
    may_use: Callable[[str, Tier], bool],
) -> _Parts:
    catalogue = Catalogue(
        [OFFLINE, PAID, TINY, KEYLESS],
        {Tier.FAST: ["offline"], Tier.BALANCED: ["paid", "offline"]},
        default_tier=Tier.BALANCED,
    )
    governor = GrpcGovernor(
        governor_grpc.CostGovernorServiceStub(channels.get("governor")),
        caller="service:reasoning",
        timeout_seconds=5.0,
    )
    prices = PriceList(PRICE_VERSION, {PRICE_VERSION: PRICES})
    leases = LeasePool(
        governor,
        prices,
        sizes=SIZES,
        ask_again_seconds=1.0,
        fails_closed=fails_closed,
        clock=clock,
        ids=FakeIds(),
    )
    settlements = SettlementQueue(
        governor,
        ScriptedSettlementStore(),
        leases,
        clock=clock,
        log=log.get("test", stream=io.StringIO()),
        size=4,
        together_seconds=0.1,
        drain_seconds=1.0,
    )
    offline = OfflineProvider(Planner(TimeQuestions(list)))
    allowance, ids = Allowance(2 * ALLOWANCE_MICROS, ALLOWANCE_MICROS, clock), FakeIds()

    def budgeted(first_of: Callable[[Tier], ModelSpec | None]) -> BudgetedModel:
        return BudgetedModel(
            ProvidedModel(
                structured_providers({OFFLINE.name: offline, PAID.name: provider}, [OFFLINE, PAID])
            ),
            governor,
            leases,
            settlements,
            first_of=first_of,
            prices=prices,
            allowance=allowance,
            fails_closed=fails_closed,
            may_use=may_use,
            ask_again_seconds=1.0,
            clock=clock,
            ids=ids,
        )

    generator = budgeted(catalogue.first_of)
    reasoner = Reasoner(catalogue, generator, [EmbeddingModel(TINY, embedder)])
    check = ModelCheck(
        catalogue,
        budgeted(lambda _: None),
        reasoner.embed,
        timeout_seconds=CHECK_SECONDS,
        clock=clock,
    )
    return _Parts(reasoner, generator, check, settlements, leases)
