"""Models on the command line: listed, and tested."""

# Output is compared line by line, and its lines are as long as they are.
# ruff: noqa: E501

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentmesh.common.v1.tier_pb2 import MODEL_TIER_FAST, MODEL_TIER_POWERFUL
from agentmesh.common.v1.usage_pb2 import Usage
from agentmesh.reasoning.v1 import model_pb2
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from agentmesh.reasoning.v1.reasoning_service_pb2_grpc import ReasoningServiceServicer
from cli.command_mesh import Commands, commands_for
from meshkit.errors import BudgetExhausted, MeshError, ProviderFailed, to_status

_KEYS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY")


def _models() -> list[model_pb2.Model]:
    return [
        model_pb2.Model(
            name="quick",
            provider="openai",
            kind=model_pb2.MODEL_KIND_GENERATOR,
            tier=MODEL_TIER_FAST,
            context_tokens=128_000,
            max_output_tokens=8192,
            input_price_micros_per_million=250_000,
            cached_input_price_micros_per_million=25_000,
            output_price_micros_per_million=2_000_000,
            state=model_pb2.MODEL_STATE_READY,
            breaker=model_pb2.BREAKER_STATE_CLOSED,
            description="Small talk.",
        ),
        model_pb2.Model(
            name="clever",
            provider="anthropic",
            kind=model_pb2.MODEL_KIND_GENERATOR,
            tier=MODEL_TIER_POWERFUL,
            context_tokens=200_000,
            input_price_micros_per_million=5_000_000,
            output_price_micros_per_million=25_000_000,
            state=model_pb2.MODEL_STATE_UNAVAILABLE,
            breaker=model_pb2.BREAKER_STATE_OPEN,
            state_reason="7 of 9 calls failed.",
            description="Thinks.",
        ),
        model_pb2.Model(
            name="vectors",
            provider="inprocess",
            kind=model_pb2.MODEL_KIND_EMBEDDER,
            context_tokens=256,
            state=model_pb2.MODEL_STATE_READY,
            description="Embeds.",
        ),
    ]


class _Reasoning(ReasoningServiceServicer):
    """Three models, which answer as a test wants it."""

    def __init__(self) -> None:
        self.checked: list[str] = []
        # What a model's check finds, or is refused with.
        self.found: dict[str, MeshError] = {}
        self.refused: dict[str, MeshError] = {}

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Any
    ) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=_models())

    async def CheckModel(
        self, request: pb.CheckModelRequest, context: Any
    ) -> pb.CheckModelResponse:
        self.checked.append(request.model)
        if request.model in self.refused:
            raise self.refused[request.model]
        (model,) = (each for each in _models() if each.name == request.model)
        answer = pb.CheckModelResponse(model=model)
        answer.latency.FromMilliseconds(1500)
        if request.model in self.found:
            answer.error.CopyFrom(to_status(self.found[request.model]))
            return answer
        answer.usage.CopyFrom(Usage(input_tokens=9, output_tokens=2, cost_micros=7, model_calls=1))
        if model.kind == model_pb2.MODEL_KIND_GENERATOR:
            answer.first_token_latency.FromMilliseconds(250)
        return answer


@pytest.fixture
def reasoning(monkeypatch: pytest.MonkeyPatch) -> _Reasoning:
    for name in _KEYS:
        monkeypatch.delenv(name, raising=False)
    # What it lacks, these commands do not call.
    return _Reasoning()  # pyright: ignore[reportAbstractUsage]


@pytest.fixture
async def commands(reasoning: _Reasoning) -> AsyncIterator[Commands]:
    async with commands_for(ReasoningService=reasoning) as commands:
        yield commands


async def test_models_are_listed_with_prices_and_how_they_are_doing(commands: Commands) -> None:
    """Why a model is not used stands where its description would."""
    result = await commands.run("model", "list")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "MODEL    PROVIDER   TIER      HEALTH       BREAKER  CONTEXT   IN/M  CACHED/M   OUT/M  ABOUT",
        "quick    openai     fast      ready        closed   128,000  $0.25    $0.025   $2.00  Small talk.",
        "clever   anthropic  powerful  unavailable  open     200,000  $5.00     $0.00  $25.00  7 of 9 calls failed.",
        "vectors  inprocess  embedder  ready        -            256  $0.00     $0.00   $0.00  Embeds.",
    ]


async def test_models_are_listed_as_json_with_the_contracts_names(commands: Commands) -> None:
    """Every field, whether it says something or not."""
    result = await commands.run("model", "list", "--json")
    assert result.exit_code == 0, result.output
    quick, clever, _ = json.loads(result.stdout)["models"]
    assert quick["breaker"] == "BREAKER_STATE_CLOSED"
    assert quick["cached_input_price_micros_per_million"] == 25_000
    assert quick["max_output_tokens"] == 8192
    assert quick["state_reason"] == ""
    assert clever["state_reason"] == "7 of 9 calls failed."


async def test_all_models_are_tested_one_after_the_other(
    commands: Commands, reasoning: _Reasoning
) -> None:
    """What each took and cost; progress goes to stderr."""
    result = await commands.run("model", "test")
    assert result.exit_code == 0, result.output
    assert reasoning.checked == ["quick", "clever", "vectors"]
    assert result.stdout.splitlines() == [
        "MODEL    PROVIDER   RESULT  LATENCY  FIRST TOKEN  TOKENS       COST  WHY",
        "quick    openai     ok        1.5 s       250 ms      11  $0.000007",
        "clever   anthropic  ok        1.5 s       250 ms      11  $0.000007",
        "vectors  inprocess  ok        1.5 s            -      11  $0.000007",
    ]
    assert result.stderr.splitlines() == [
        "quick: answered in 1.5 s",
        "clever: answered in 1.5 s",
        "vectors: answered in 1.5 s",
    ]


async def test_a_model_that_fails_makes_the_command_fail(
    commands: Commands, reasoning: _Reasoning
) -> None:
    """The others are tested all the same, and why it failed is said."""
    reasoning.found["quick"] = ProviderFailed("The model quick (openai) answered 503.")
    result = await commands.run("model", "test")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1:] == [
        "quick    openai     failed    1.5 s            -       -          -  The model quick (openai) answered 503.",
        "clever   anthropic  ok        1.5 s       250 ms      11  $0.000007",
        "vectors  inprocess  ok        1.5 s            -      11  $0.000007",
        "1 model of 3 failed.",
    ]


async def test_a_spent_budget_fails_the_models_that_cost_something(
    commands: Commands, reasoning: _Reasoning
) -> None:
    """Free ones are still tested."""
    reasoning.refused["clever"] = BudgetExhausted("The budget tenant-day is spent.")
    result = await commands.run("model", "test", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["failed"] == 1
    assert [(each["model"], each["ok"]) for each in document["models"]] == [
        ("quick", True),
        ("clever", False),
        ("vectors", True),
    ]
    quick, clever, vectors = document["models"]
    assert (quick["latency_ms"], quick["first_token_ms"]) == (1500.0, 250.0)
    assert quick["usage"]["cost_micros"] == 7
    assert quick["error"] is None
    assert clever["error"]["message"] == "The budget tenant-day is spent."
    assert clever["latency_ms"] is None
    assert vectors["first_token_ms"] is None


async def test_models_that_are_named_are_tested_once_each(
    commands: Commands, reasoning: _Reasoning
) -> None:
    """In the order in which they are named."""
    result = await commands.run("model", "test", "vectors", "quick", "vectors")
    assert result.exit_code == 0, result.output
    assert reasoning.checked == ["vectors", "quick"]


async def test_an_unknown_name_is_told_before_anything_is_spent(
    commands: Commands, reasoning: _Reasoning
) -> None:
    """With the names that there are."""
    result = await commands.run("model", "test", "quick", "slow")
    assert result.exit_code == 2
    assert "There is no model 'slow'; there are quick, clever, vectors." in result.stderr
    assert reasoning.checked == []


async def test_a_failure_of_the_mesh_itself_ends_the_command(
    commands: Commands, reasoning: _Reasoning
) -> None:
    """It says nothing about the models."""
    reasoning.refused["clever"] = ProviderFailed("Something else.")
    result = await commands.run("model", "test")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "Something else." in result.stderr


async def test_the_help_says_what_a_test_costs_and_what_breakers_mean(commands: Commands) -> None:
    """Who reads it need not look elsewhere."""
    tested = (await commands.run("model", "test", "--help")).stdout
    assert "paid for" in tested
    assert "The exit code is 1 where a model failed." in " ".join(tested.split())
    listed = " ".join((await commands.run("model", "list", "--help")).stdout.split())
    assert "US dollars per million tokens" in listed
    assert "half-open where a few calls are let through" in listed
