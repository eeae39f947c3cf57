"""The service as it is shipped: built from its settings, with the real models."""

import io
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.common.v1.conversation_pb2 import ROLE_USER, Message, Part
from agentmesh.reasoning.v1 import model_pb2
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from agentmesh.reasoning.v1.reasoning_service_pb2_grpc import ReasoningServiceStub
from meshkit import config, log, redis_store
from meshkit.bus import Bus
from meshkit.client import Channels
from meshkit.clock import SystemClock
from meshkit.config import ConfigError
from meshkit.errors import BreakerOpen, ModelNotFound, ProviderFailed
from meshkit.ids import RandomIds
from meshkit.service import Resources
from meshtest.nats_server import NatsServer
from meshtest.serving import serving
from services.reasoning.budgeted_model import UNGOVERNED
from services.reasoning.main import build
from services.reasoning.model_settings import ModelSettings
from services.reasoning.provider_failures import Failure
from services.reasoning.settings import ReasoningSettings, Settings, TierName
from services.reasoning.upstream import Script
from services.reasoning.upstream_openai import OpenAIFormat, openai_server

# Nobody listens on this port.
_NOBODY = "127.0.0.1:1"


@pytest.fixture(scope="module")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server.url
    server.kill()


@asynccontextmanager
async def _resources(tmp_path: Path, nats_url: str) -> AsyncGenerator[Resources]:
    async with (
        AsyncExitStack() as stack,
        Channels({"governor": _NOBODY}, caller="service:reasoning") as channels,
        await Bus.connect(nats_url, name="reasoning") as bus,
        # Without it each process goes by what it sees itself.
        redis_store.connect(f"redis://{_NOBODY}") as redis,
    ):
        yield Resources(
            stack=stack,
            bus=bus,
            redis=redis,
            channels=channels,
            clock=SystemClock(),
            ids=RandomIds(),
            log=log.get("reasoning", stream=io.StringIO()),
            data_dir=tmp_path,
        )


@asynccontextmanager
async def _reasoning(
    tmp_path: Path, nats_url: str, section: ReasoningSettings, environ: Mapping[str, str]
) -> AsyncGenerator[ReasoningServiceStub]:
    async with _resources(tmp_path, nats_url) as resources:
        service = await build(resources, section, environ)
        async with serving(service.registrations) as channels:
            yield ReasoningServiceStub(channels.get("reasoning"))


async def test_it_answers_as_it_is_shipped_even_without_a_governor(
    tmp_path: Path, nats_url: str
) -> None:
    """Every tier has the offline model, which says what it is."""
    async with _reasoning(tmp_path, nats_url, ReasoningSettings(), {}) as reasoning:
        for tier in (
            tier_pb2.MODEL_TIER_FAST,
            tier_pb2.MODEL_TIER_BALANCED,
            tier_pb2.MODEL_TIER_POWERFUL,
        ):
            response = await reasoning.Generate(
                pb.GenerateRequest(
                    messages=[Message(role=ROLE_USER, parts=[Part(text="Hello")])], tier=tier
                ),
                timeout=30.0,
            )
            assert (response.model, response.tier) == ("offline", tier)
            assert "not a language model" in response.message.parts[0].text
            assert list(response.degradations) == [UNGOVERNED]


async def test_it_lists_the_models_of_the_machine(tmp_path: Path, nats_url: str) -> None:
    """Those of the environment first, then the embedded ones; no key is shown."""
    section = ReasoningSettings()
    async with _reasoning(
        tmp_path, nats_url, section, {"ANTHROPIC_API_KEY": "secret"}
    ) as reasoning:
        response = await reasoning.ListModels(pb.ListModelsRequest(), timeout=30.0)
    assert [(each.name, each.provider, each.state) for each in response.models] == [
        ("claude-sonnet-4-5", "anthropic", model_pb2.MODEL_STATE_READY),
        ("offline", "offline", model_pb2.MODEL_STATE_READY),
        ("minilm-l6-v2", "inprocess", model_pb2.MODEL_STATE_READY),
    ]
    claude, _, minilm = response.models
    assert minilm.dimensions == 384
    assert claude.output_price_micros_per_million > 0
    assert claude.description == (
        "Anthropic's API at api.anthropic.com. There because ANTHROPIC_API_KEY is set."
    )
    assert "secret" not in str(response)


async def test_the_stub_model_is_there_where_a_setting_asks_for_it(
    tmp_path: Path, nats_url: str
) -> None:
    """A tier may then name it, and calls of it cost something; nowhere else is it listed."""
    section = ReasoningSettings(stub_latency_ms=0, tiers={"fast": ["stub"]})
    async with _reasoning(tmp_path, nats_url, section, {}) as reasoning:
        answer = await reasoning.Generate(
            pb.GenerateRequest(
                messages=[Message(role=ROLE_USER, parts=[Part(text="Hello")])],
                tier=tier_pb2.MODEL_TIER_FAST,
            ),
            timeout=30.0,
        )
    assert answer.model == "stub"
    assert [call.tool for call in answer.message.tool_calls] == ["stub"]
    assert answer.usage.cost_micros > 0


@pytest.mark.parametrize(
    ("tiers", "wanted", "model"),
    [
        ({"fast": ["stub"]}, tier_pb2.MODEL_TIER_UNSPECIFIED, "stub"),
        ({"fast": ["stub"]}, tier_pb2.MODEL_TIER_POWERFUL, "stub"),
        ({"powerful": ["stub"]}, tier_pb2.MODEL_TIER_UNSPECIFIED, "offline"),
        ({"fast": ["stub"], "powerful": ["offline"]}, tier_pb2.MODEL_TIER_BALANCED, "stub"),
    ],
)
async def test_a_tier_that_is_left_out_has_the_models_of_the_next_cheaper_one(
    tmp_path: Path,
    nats_url: str,
    tiers: dict[TierName, list[str]],
    wanted: tier_pb2.ModelTier,
    model: str,
) -> None:
    """Below the first one stands the offline model; no tier goes without by accident."""
    section = ReasoningSettings(stub_latency_ms=0, tiers=tiers)
    async with _reasoning(tmp_path, nats_url, section, {}) as reasoning:
        answer = await reasoning.Generate(
            pb.GenerateRequest(
                messages=[Message(role=ROLE_USER, parts=[Part(text="Hello")])], tier=wanted
            ),
            timeout=30.0,
        )
    assert answer.model == model


async def test_a_tier_whose_keys_are_missing_says_which(tmp_path: Path, nats_url: str) -> None:
    """Who set the tiers reads what is left to do."""
    section = ReasoningSettings(
        models={"claude-sonnet-4-5": ModelSettings(provider="anthropic")},
        tiers={"balanced": ["claude-sonnet-4-5"]},
    )
    async with _reasoning(tmp_path, nats_url, section, {}) as reasoning:
        with pytest.raises(ModelNotFound) as caught:
            await reasoning.Generate(
                pb.GenerateRequest(messages=[Message(role=ROLE_USER, parts=[Part(text="Hello")])]),
                timeout=30.0,
            )
    assert caught.value.message == (
        "No model of the tier balanced can be called."
        " claude-sonnet-4-5: Needs the environment variable ANTHROPIC_API_KEY."
    )


async def test_a_tier_with_an_unknown_model_is_refused(tmp_path: Path, nats_url: str) -> None:
    """One line with the key and the models that there are."""
    async with _resources(tmp_path, nats_url) as resources:
        with pytest.raises(ConfigError) as caught:
            await build(resources, ReasoningSettings(tiers={"fast": ["ofline"]}), {})
    assert str(caught.value) == (
        "reasoning.tiers.fast: there is no model 'ofline'; known are offline, minilm-l6-v2"
    )


async def test_a_model_without_a_price_is_refused(tmp_path: Path, nats_url: str) -> None:
    """What is free must be stated."""
    book = tmp_path / "prices.yaml"
    book.write_text(
        'versions: [{version: "1", models: {minilm-l6-v2: {input: 0, output: 0, cached_input: 0}}}]'
    )
    async with _resources(tmp_path, nats_url) as resources:
        with pytest.raises(ConfigError) as caught:
            await build(resources, ReasoningSettings(price_book=book), {})
    assert str(caught.value) == (
        "reasoning.price_book: has no price for the model 'offline'. Add a line to the last"
        f" version in {book}, in millionths of a dollar per million tokens, with 0 for what is"
        " free: offline: {input: 0, output: 0, cached_input: 0, batch_input: 0, batch_output: 0}"
    )


async def test_a_model_of_the_environment_answers_in_every_tier(
    tmp_path: Path, nats_url: str
) -> None:
    """With an address alone, and at a price; the offline model is behind it."""
    async with openai_server(OpenAIFormat(model="gpt-5-mini", key="")) as server:
        environ = {"OPENAI_BASE_URL": server.base_url}
        async with _reasoning(tmp_path, nats_url, ReasoningSettings(), environ) as reasoning:
            request = pb.GenerateRequest(
                messages=[Message(role=ROLE_USER, parts=[Part(text="Hello")])],
                tier=tier_pb2.MODEL_TIER_POWERFUL,
                # What is reserved without a governor is little.
                parameters=pb.GenerationParameters(max_output_tokens=100),
            )
            answer = await reasoning.Generate(request, timeout=30.0)
            server.http.default = Script(failure=Failure.SERVER_ERROR)
            fallen_back = await reasoning.Generate(request, timeout=30.0)
    assert (answer.model, answer.message.parts[0].text) == ("gpt-5-mini", "Hello, world.")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (12, 5)
    assert answer.usage.cost_micros > 0
    assert fallen_back.model == "offline"
    assert "authorization" not in server.http.requests[0].headers


async def test_a_model_that_fails_is_left_alone_and_the_answers_say_so(
    tmp_path: Path, nats_url: str
) -> None:
    """Another one answers in its place, and the list of models tells why."""
    async with openai_server(OpenAIFormat(model="gpt-5-mini", key="")) as server:
        server.http.default = Script(failure=Failure.SERVER_ERROR)
        environ = {"OPENAI_BASE_URL": server.base_url}
        async with _reasoning(tmp_path, nats_url, ReasoningSettings(), environ) as reasoning:
            request = pb.GenerateRequest(
                messages=[Message(role=ROLE_USER, parts=[Part(text="Hello")])],
                parameters=pb.GenerationParameters(max_output_tokens=10),
            )
            sentences: list[str] = []
            for _ in range(10):
                answer = await reasoning.Generate(request, timeout=10.0)
                sentences.append(answer.degradations[0])
            went_out = len(server.http.requests)
            models = (await reasoning.ListModels(pb.ListModelsRequest(), timeout=30.0)).models
            request.model = "gpt-5-mini"
            with pytest.raises(BreakerOpen) as caught:
                await reasoning.Generate(request, timeout=30.0)
    rules = " It goes by rules and is no language model."
    assert sentences[0] == f"Answered by offline instead of gpt-5-mini, which failed.{rules}"
    assert sentences[-1] == (
        f"Answered by offline instead of gpt-5-mini, which failed before and is left alone.{rules}"
    )
    assert went_out < 10
    (listed,) = (each for each in models if each.name == "gpt-5-mini")
    assert (listed.state, listed.breaker) == (
        model_pb2.MODEL_STATE_UNAVAILABLE,
        model_pb2.BREAKER_STATE_OPEN,
    )
    assert listed.state_reason.startswith("The model gpt-5-mini fails, and is left alone.")
    assert 0 < (caught.value.retry_after_seconds or 0) <= 6


async def test_settings_of_tiers_are_not_overruled_by_a_key(tmp_path: Path, nats_url: str) -> None:
    """Who chose the models of a tier has chosen; the key's model can be called by its name."""
    section = ReasoningSettings(tiers={"fast": ["offline"], "balanced": ["offline"]})
    environ = {"OPENAI_API_KEY": "secret"}
    async with _reasoning(tmp_path, nats_url, section, environ) as reasoning:
        response = await reasoning.ListModels(pb.ListModelsRequest(), timeout=30.0)
    assert [(each.name, each.tier) for each in response.models] == [
        ("offline", tier_pb2.MODEL_TIER_FAST),
        ("minilm-l6-v2", tier_pb2.MODEL_TIER_UNSPECIFIED),
        ("gpt-5-mini", tier_pb2.MODEL_TIER_UNSPECIFIED),
    ]


async def test_a_model_of_the_environment_needs_a_price_as_well(
    tmp_path: Path, nats_url: str
) -> None:
    """The line to add is in the error, quoted where YAML wants it so."""
    environ = {"OPENAI_BASE_URL": "http://127.0.0.1:11434/v1", "OPENAI_MODEL": "llama3.1:8b"}
    async with _resources(tmp_path, nats_url) as resources:
        with pytest.raises(ConfigError) as caught:
            await build(resources, ReasoningSettings(), environ)
    assert str(caught.value).endswith(
        '"llama3.1:8b": {input: 0, output: 0, cached_input: 0, batch_input: 0, batch_output: 0}'
    )


async def test_code_is_embedded_by_the_model_that_is_there_for_it(
    tmp_path: Path, nats_url: str
) -> None:
    """Beside a default embedder in this process, too; where its Triton is away, that is told."""
    section = ReasoningSettings(triton_models=["code_embedder"], triton_target=_NOBODY)
    async with _reasoning(tmp_path, nats_url, section, {}) as reasoning:
        listed = (await reasoning.ListModels(pb.ListModelsRequest(), timeout=10)).models
        with pytest.raises(ProviderFailed, match=r"^Failed to embed texts on Triton at 127"):
            await reasoning.Embed(
                pb.EmbedRequest(texts=["x = 1"], model="code-embedder"), timeout=10
            )
        with pytest.raises(ModelNotFound, match=r"Known: minilm-l6-v2, code-embedder\.$"):
            await reasoning.Embed(pb.EmbedRequest(texts=["x = 1"], model="coder"), timeout=10)
    assert [each.name for each in listed if each.kind == model_pb2.MODEL_KIND_EMBEDDER] == [
        "minilm-l6-v2",
        "code-embedder",
    ]


def test_triton_needs_its_address(tmp_path: Path) -> None:
    """The settings say what is missing before anything starts."""
    environ = {"AGENTMESH_DATA_DIR": str(tmp_path), "AGENTMESH_REASONING__EMBEDDER": "triton"}
    with pytest.raises(ConfigError) as caught:
        config.load(Settings, path=None, environ=environ)
    assert str(caught.value) == (
        "settings: reasoning: triton_target: needed with `embedder: triton`, such as 127.0.0.1:8001"
    )
