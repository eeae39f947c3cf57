"""Reasoning's composition root."""

import os
import random
import zoneinfo
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from agentmesh.governor.v1.cost_governor_service_pb2_grpc import CostGovernorServiceStub
from agentmesh.reasoning.v1 import reasoning_service_pb2_grpc as pb_grpc
from meshkit.config import ConfigError
from meshkit.redis_line import RedisLine
from meshkit.server import Dependency, Registration
from meshkit.service import Resources, Service, serve_program
from services.reasoning.allowance import Allowance
from services.reasoning.budgeted_model import BudgetedModel
from services.reasoning.catalogue import Catalogue
from services.reasoning.embedding import Embedder, EmbeddingModel
from services.reasoning.endpoint_rates import RateRules
from services.reasoning.endpoint_state import EndpointStates
from services.reasoning.generation import Generator, Provider
from services.reasoning.governor_grpc import GrpcGovernor
from services.reasoning.lease_pool import LeasePool, LeaseSizes
from services.reasoning.model import Kind, ModelSpec, Tier
from services.reasoning.model_check import ModelCheck
from services.reasoning.model_environment import models_of
from services.reasoning.model_providers import ServedModel, make_providers
from services.reasoning.model_settings import ModelSettings
from services.reasoning.offline.plan import Planner
from services.reasoning.offline.times import TimeQuestions
from services.reasoning.price_list import Price, load_prices, price_line
from services.reasoning.provided_model import ProvidedModel
from services.reasoning.provider_offline import OFFLINE, OfflineProvider
from services.reasoning.provider_stub import STUB, StubProvider
from services.reasoning.reasoner import Reasoner
from services.reasoning.resilience_parts import EndpointLimitSettings, Resilience
from services.reasoning.service import ReasoningService
from services.reasoning.settings import ReasoningSettings, Settings, TierName
from services.reasoning.settlement_file import SettlementFile
from services.reasoning.settlement_queue import SettlementQueue
from services.reasoning.structured import structured_providers
from services.reasoning.triton_models import CODE_EMBEDDER, code_embedder, triton_generators
from tasklog.policy_store import PolicyStore

if TYPE_CHECKING:
    from services.reasoning.embedder_triton import TritonEmbedder

# The one price book of the mesh. The governor charges by it.
_PRICE_BOOK: Final = Path(__file__).parents[1] / "governor" / "prices.yaml"


async def build(
    resources: Resources, section: ReasoningSettings, environ: Mapping[str, str] = os.environ
) -> Service:
    """Reasoning on these resources.

    `environ` has the keys of providers. Raises ConfigError for a tier
    with an unknown model, and for a model without a price.
    """
    book = section.price_book or _PRICE_BOOK
    prices = load_prices(book)
    embeddings, dependencies = _embeddings(section, resources)
    stubs = _stubs(section)
    found = models_of(
        environ, openai_model=section.openai_model, anthropic_model=section.anthropic_model
    )
    by_triton = triton_generators(section.triton_models, section.triton_target)
    configured = {**(section.models or found), **by_triton}
    served = make_providers(configured, environ, resources.stack, resources.clock)
    embedding_specs = [each.spec for each in embeddings]
    models = [OFFLINE, *embedding_specs, *(STUB for _ in stubs), *(each.spec for each in served)]
    slot = code_embedder(section.triton_models)
    if section.embedder == "triton" and not slot.callable:
        models.append(slot)
    tiers = _tiers(section, found)
    _check(tiers, models, prices.present, book)
    catalogue = Catalogue(
        models,
        {Tier[name.upper()]: names for name, names in tiers.items()},
        default_tier=Tier[section.default_tier.upper()],
    )
    governor = GrpcGovernor(
        CostGovernorServiceStub(resources.channels.get("governor")),
        caller="service:reasoning",
        timeout_seconds=section.governor_timeout_seconds,
    )
    resources.stack.push_async_callback(governor.close)
    policies = PolicyStore(resources.bus)
    await policies.prepare()

    def fails_closed(tenant: str) -> bool:
        return policies.current.tenant(tenant).fail_closed

    def may_use(tenant: str, tier: Tier) -> bool:
        allowed = policies.current.tenant(tenant).allowed_model_tiers
        return not allowed or tier in allowed

    leases = LeasePool(
        governor,
        prices,
        sizes=LeaseSizes(
            cover_seconds=section.lease_cover_seconds,
            least_micros=section.lease_least_micros,
            most_micros=section.lease_most_micros,
            most_leases=section.leases,
            most_tenant_leases=section.tenant_leases,
        ),
        ask_again_seconds=section.governor_ask_again_seconds,
        fails_closed=fails_closed,
        clock=resources.clock,
        ids=resources.ids,
    )
    store = SettlementFile(resources.data_dir / "reasoning" / "settlements", resources.ids.new())
    resources.stack.callback(store.close)
    settlements = SettlementQueue(
        governor,
        store,
        leases,
        clock=resources.clock,
        log=resources.log,
        size=section.waiting_settlements,
        together_seconds=section.settle_every_seconds,
        drain_seconds=section.drain_seconds,
    )

    async def settle() -> None:
        try:
            await settlements.run()
        finally:
            # Last, when what was spent under them is settled.
            await leases.close()

    allowance = Allowance(
        section.allowance_micros_per_minute,
        section.allowance_micros_per_minute * section.tenant_allowance_percent // 100,
        resources.clock,
    )

    def budgeted(inner: Generator, first_of: Callable[[Tier], ModelSpec | None]) -> BudgetedModel:
        return BudgetedModel(
            inner,
            governor,
            leases,
            settlements,
            first_of=first_of,
            prices=prices,
            allowance=allowance,
            fails_closed=fails_closed,
            may_use=may_use,
            ask_again_seconds=section.governor_ask_again_seconds,
            clock=resources.clock,
            ids=resources.ids,
        )

    offline = OfflineProvider(Planner(TimeQuestions(zoneinfo.available_timezones)))
    providers = {each.spec.name: each.provider for each in served if each.provider}
    provided = ProvidedModel(
        structured_providers({OFFLINE.name: offline, **stubs, **providers}, models)
    )
    resilience = Resilience(
        section.resilience,
        catalogue,
        {each.spec: _limits(each.settings) for each in served if each.provider},
        resources,
        await resources.stack.enter_async_context(RedisLine(resources.redis)),
        random=random.random,
    )
    paid = budgeted(resilience.around_providers(provided), resilience.first_of)
    reasoner = Reasoner(catalogue, resilience.around_budgets(paid, OFFLINE), embeddings)
    check = ModelCheck(
        catalogue,
        # Straight to the provider, and never to a cheaper model: it is this one that is asked.
        budgeted(provided, lambda _: None),
        reasoner.embed,
        timeout_seconds=section.check_timeout_seconds,
        clock=resources.clock,
    )
    states, following = _with_triton(section, resilience.endpoints, served)
    return Service(
        registrations=[
            Registration(
                service_name="agentmesh.reasoning.v1.ReasoningService",
                add=pb_grpc.add_ReasoningServiceServicer_to_server,
                servicer=ReasoningService(reasoner, check, prices.present, states),
                dependencies=dependencies,
            )
        ],
        background=[settle, settlements.take_over, policies.follow, *following],
    )


def _with_triton(
    section: ReasoningSettings, states: EndpointStates, served: Sequence[ServedModel]
) -> tuple[EndpointStates, Sequence[Callable[[], Awaitable[None]]]]:
    """The states with what Tritons say, and what follows them. The library is imported here."""
    places = {
        each.spec.name: (each.settings.address, each.settings.model or each.spec.name)
        for each in served
        if each.settings.provider == "triton"
    }
    if section.embedder == "triton":
        places[_minilm("triton").name] = (section.triton_target, "text_embedder")
    if "code_embedder" in section.triton_models:
        places[CODE_EMBEDDER] = (section.triton_target, "code_embedder")
    if not places:
        return states, ()
    from services.reasoning.triton_health import TritonHealth, TritonModel

    models = {name: TritonModel(*place) for name, place in places.items()}
    health = TritonHealth(states, models, every_seconds=section.triton_check_seconds)
    return health, (health.follow,)


def _stubs(section: ReasoningSettings) -> Mapping[str, Provider]:
    """The stub model's provider by the model's name, where the settings ask for one."""
    if section.stub_latency_ms is None:
        return {}
    return {STUB.name: StubProvider(latency_seconds=section.stub_latency_ms / 1000)}


def _limits(settings: ModelSettings) -> EndpointLimitSettings:
    """What a model's provider allows."""
    rates = RateRules(settings.requests_per_minute, settings.tokens_per_minute)
    return EndpointLimitSettings(rates, settings.max_in_flight)


def _embeddings(
    section: ReasoningSettings, resources: Resources
) -> tuple[Sequence[EmbeddingModel], Sequence[Dependency]]:
    """What embeds, the default first, and what this service cannot do without.

    The libraries are imported here: most meshes need one of the two.
    """
    found: list[EmbeddingModel] = []
    dependencies: list[Dependency] = []
    if section.embedder == "triton":
        text = _on_triton(section, resources, "text_embedder")
        found.append(EmbeddingModel(_minilm("triton"), text))
        dependencies.append(text)
    else:
        found.append(EmbeddingModel(_minilm("inprocess"), _in_process(section, resources)))
    if "code_embedder" in section.triton_models:
        code = _on_triton(section, resources, "code_embedder")
        found.append(EmbeddingModel(code_embedder(section.triton_models), code))
    return found, dependencies


def _on_triton(section: ReasoningSettings, resources: Resources, model: str) -> "TritonEmbedder":
    from services.reasoning.embedder_triton import TritonEmbedder

    embedder = TritonEmbedder(section.triton_target, model)
    resources.stack.push_async_callback(embedder.close)
    return embedder


def _in_process(section: ReasoningSettings, resources: Resources) -> Embedder:
    from models.minilm.architecture import PACKAGED_MODEL
    from models.minilm.embedder import MiniLmEmbedder
    from services.reasoning.embedder_inprocess import InProcessEmbedder

    # The weights are loaded by the first text, so that nothing waits for them at the start.
    model = MiniLmEmbedder(section.embedding_model or PACKAGED_MODEL)
    embedder = InProcessEmbedder(model)
    resources.stack.push_async_callback(embedder.close)
    return embedder


def _minilm(provider: str) -> ModelSpec:
    return ModelSpec(
        name="minilm-l6-v2",
        provider=provider,
        kind=Kind.EMBEDDER,
        context_tokens=256,
        dimensions=384,
        description="all-MiniLM-L6-v2: unit vectors of sentences and short passages, in English.",
    )


def _tiers(
    section: ReasoningSettings, found: Mapping[str, ModelSettings]
) -> Mapping[str, Sequence[str]]:
    """The models of each tier. What the environment gives comes first, unless settings decide.

    A tier that the settings leave out has the models of the next cheaper one.
    """
    decided = section.models or "tiers" in section.model_fields_set
    first = () if decided else tuple(found)
    tiers: dict[str, Sequence[str]] = {}
    names: Sequence[str] = [OFFLINE.name]
    for tier in get_args(TierName):
        names = section.tiers.get(tier, names)
        tiers[tier] = (*first, *names)
    return tiers


def _check(
    tiers: Mapping[str, Sequence[str]],
    models: Sequence[ModelSpec],
    prices: Mapping[str, Price],
    book: Path,
) -> None:
    known = [model.name for model in models]
    for name in known:
        if known.count(name) > 1:
            raise ConfigError(f"reasoning.models: {name!r} is the name of another model already")
    for tier, names in tiers.items():
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"reasoning.tiers.{tier}: there is no model {name!r};"
                    f" known are {', '.join(known)}"
                )
    for model in models:
        if model.callable and model.name not in prices:
            raise ConfigError(
                f"reasoning.price_book: has no price for the model {model.name!r}."
                f" Add a line to the last version in {book}, in millionths of a dollar per"
                f" million tokens, with 0 for what is free: {price_line(model.name)}"
            )


def main() -> None:
    """Runs reasoning as a process of its own."""
    serve_program("reasoning", Settings, lambda resources, s: build(resources, s.reasoning))


if __name__ == "__main__":
    main()
