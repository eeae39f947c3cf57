"""What models there are, and the vectors of those that make them, over a real server."""

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.reasoning.v1 import model_pb2
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit import errors
from services.reasoning.endpoint_state import Breaker, EndpointState
from services.reasoning.fixture_reasoning import Bench

pytest_plugins = ["services.reasoning.fixture_bench"]

_TIMEOUT = 60.0


async def test_embed_answers_in_the_order_of_the_texts(bench: Bench) -> None:
    """Vectors, the model that made them, and what it used."""
    response = await bench.reasoning.Embed(
        pb.EmbedRequest(texts=["abc", "", "abcde"]), timeout=_TIMEOUT
    )
    assert [list(each.values) for each in response.embeddings] == [[3, 1], [0, 1], [5, 1]]
    assert response.model == "tiny"
    assert (response.usage.input_tokens, response.usage.model_calls) == (3, 1)


@pytest.mark.parametrize("count", [0, 257])
async def test_embed_takes_1_to_256_texts(bench: Bench, count: int) -> None:
    """Neither none nor more."""
    with pytest.raises(errors.InvalidField) as caught:
        await bench.reasoning.Embed(pb.EmbedRequest(texts=["a"] * count), timeout=_TIMEOUT)
    assert caught.value.violations == (
        errors.Violation("texts", f"must hold 1 to 256 texts, not {count}"),
    )


async def test_embed_takes_1_mib(bench: Bench) -> None:
    """More is too large."""
    with pytest.raises(errors.TooLarge) as caught:
        await bench.reasoning.Embed(pb.EmbedRequest(texts=["x" * (1 << 20)]), timeout=_TIMEOUT)
    assert caught.value.metadata["limit_bytes"] == "1048576"


async def test_embed_knows_its_model_by_name(bench: Bench) -> None:
    """Another name is not found, and the right one is told."""
    with pytest.raises(errors.ModelNotFound) as caught:
        await bench.reasoning.Embed(pb.EmbedRequest(texts=["a"], model="offline"), timeout=_TIMEOUT)
    assert caught.value.message == "There is no embedding model 'offline'. Known: tiny."


async def test_models_are_listed_in_order_of_tier_with_prices_and_states(bench: Bench) -> None:
    """Each model once; what has no key says which."""
    response = await bench.reasoning.ListModels(pb.ListModelsRequest(), timeout=_TIMEOUT)
    assert [(each.name, each.provider, each.tier, each.state) for each in response.models] == [
        ("offline", "offline", tier_pb2.MODEL_TIER_FAST, model_pb2.MODEL_STATE_READY),
        ("paid", "scripted", tier_pb2.MODEL_TIER_BALANCED, model_pb2.MODEL_STATE_READY),
        ("tiny", "inprocess", tier_pb2.MODEL_TIER_UNSPECIFIED, model_pb2.MODEL_STATE_READY),
        (
            "gpt-5-mini",
            "openai",
            tier_pb2.MODEL_TIER_UNSPECIFIED,
            model_pb2.MODEL_STATE_NOT_CONFIGURED,
        ),
    ]
    offline, paid, tiny, keyed = response.models
    assert "no language model" in offline.description
    assert (paid.input_price_micros_per_million, paid.kind) == (
        2_000_000,
        model_pb2.MODEL_KIND_GENERATOR,
    )
    assert paid.cached_input_price_micros_per_million == 1_000_000
    assert (paid.context_tokens, paid.max_output_tokens) == (1000, 100)
    assert (paid.breaker, paid.state_reason) == (model_pb2.BREAKER_STATE_UNSPECIFIED, "")
    assert (tiny.dimensions, tiny.kind) == (2, model_pb2.MODEL_KIND_EMBEDDER)
    assert keyed.description == "Needs the environment variable OPENAI_API_KEY."
    assert keyed.state_reason == keyed.description


@pytest.mark.parametrize(
    ("endpoint", "state", "breaker", "reason"),
    [
        (
            EndpointState(Breaker.CLOSED),
            model_pb2.MODEL_STATE_READY,
            model_pb2.BREAKER_STATE_CLOSED,
            "",
        ),
        (
            EndpointState(Breaker.CLOSED, "It may have 60 requests a minute."),
            model_pb2.MODEL_STATE_READY,
            model_pb2.BREAKER_STATE_CLOSED,
            "It may have 60 requests a minute.",
        ),
        (
            EndpointState(Breaker.HALF_OPEN, "Some calls are let through."),
            model_pb2.MODEL_STATE_READY,
            model_pb2.BREAKER_STATE_HALF_OPEN,
            "Some calls are let through.",
        ),
        (
            EndpointState(Breaker.OPEN),
            model_pb2.MODEL_STATE_UNAVAILABLE,
            model_pb2.BREAKER_STATE_OPEN,
            "Its breaker is open.",
        ),
    ],
)
async def test_models_are_listed_with_how_their_endpoints_are_doing(
    bench: Bench, endpoint: EndpointState, state: int, breaker: int, reason: str
) -> None:
    """Only an open breaker makes a model unavailable; why is said in any case."""
    bench.endpoints.states["paid"] = endpoint
    response = await bench.reasoning.ListModels(pb.ListModelsRequest(), timeout=_TIMEOUT)
    (paid,) = (each for each in response.models if each.name == "paid")
    assert (paid.state, paid.breaker, paid.state_reason) == (state, breaker, reason)


async def test_models_of_a_tier_are_listed_in_order_of_preference(bench: Bench) -> None:
    """A model that stands in several tiers is shown with the one asked for."""
    response = await bench.reasoning.ListModels(
        pb.ListModelsRequest(tier=tier_pb2.MODEL_TIER_BALANCED), timeout=_TIMEOUT
    )
    assert [(each.name, each.tier) for each in response.models] == [
        ("paid", tier_pb2.MODEL_TIER_BALANCED),
        ("offline", tier_pb2.MODEL_TIER_BALANCED),
    ]


async def test_pages_of_models_follow_each_other(bench: Bench) -> None:
    """A token belongs to its tier."""
    first = await bench.reasoning.ListModels(pb.ListModelsRequest(page_size=3), timeout=_TIMEOUT)
    second = await bench.reasoning.ListModels(
        pb.ListModelsRequest(page_size=3, page_token=first.next_page_token), timeout=_TIMEOUT
    )
    assert [each.name for each in [*first.models, *second.models]] == [
        "offline", "paid", "tiny", "gpt-5-mini",
    ]  # fmt: skip
    assert second.next_page_token == ""
    for token, tier in [(first.next_page_token, 1), ("nonsense", 0), ("bW9kZWxz", 0)]:
        with pytest.raises(errors.InvalidPageToken):
            await bench.reasoning.ListModels(
                pb.ListModelsRequest(page_token=token, tier=tier),  # pyright: ignore[reportArgumentType]
                timeout=_TIMEOUT,
            )
