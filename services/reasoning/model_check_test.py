"""A check calls one model, past its breaker, and says how that went."""

from collections.abc import Callable

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as governor_pb
from agentmesh.reasoning.v1 import model_pb2
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit import errors
from meshtest.eventually import eventually
from services.reasoning.endpoint_state import Breaker, EndpointState
from services.reasoning.fixture_reasoning import Bench
from services.reasoning.provider_failures import Failure, provider_failure

pytest_plugins = ["services.reasoning.fixture_bench"]

_TIMEOUT = 60.0


def _always(
    answer: governor_pb.AdmitResponse,
) -> Callable[[governor_pb.AdmitRequest], governor_pb.AdmitResponse]:
    return lambda request: answer


async def _check(bench: Bench, model: str) -> pb.CheckModelResponse:
    return await bench.reasoning.CheckModel(pb.CheckModelRequest(model=model), timeout=_TIMEOUT)


async def test_a_model_that_answers_is_well_and_its_call_is_charged(bench: Bench) -> None:
    """It is told what that took and cost; the budget knows of it as a check."""
    answer = await _check(bench, "paid")
    assert not answer.HasField("error")
    assert answer.model.name == "paid"
    assert answer.model.tier == tier_pb2.MODEL_TIER_BALANCED
    assert answer.HasField("latency")
    assert answer.HasField("first_token_latency")
    usage = answer.usage
    assert (usage.model_calls, usage.output_tokens) == (1, 5)
    assert usage.cost_micros == 2 * (usage.input_tokens + usage.output_tokens)
    (admitted,) = bench.governor.admitted
    assert (admitted.model, admitted.task_type, admitted.max_output_tokens) == (
        "paid",
        "model-check",
        16,
    )
    (settled,) = bench.governor.settled
    assert settled.usage.output_tokens == 5


async def test_an_embedder_embeds_a_few_words(bench: Bench) -> None:
    """Nobody speaks, so there is no first piece of text."""
    answer = await _check(bench, "tiny")
    assert not answer.HasField("error")
    assert answer.model.kind == model_pb2.MODEL_KIND_EMBEDDER
    assert not answer.HasField("first_token_latency")
    assert answer.usage.input_tokens > 0
    assert bench.governor.admitted == []


@pytest.mark.parametrize(
    "failure",
    [
        provider_failure(Failure.OVERLOADED, provider="scripted", model="paid", why="answered 503"),
        provider_failure(
            Failure.RATE_LIMITED, provider="scripted", model="paid", why="answered 429"
        ),
    ],
    ids=lambda error: error.reason,
)
async def test_a_model_that_fails_is_a_finding(bench: Bench, failure: errors.MeshError) -> None:
    """What it failed with comes in the answer, and what was reserved is given back."""
    bench.provider.text, bench.provider.failure = "", failure
    answer = await _check(bench, "paid")
    found = errors.from_status(answer.error)
    assert (found.reason, found.message) == (failure.reason, failure.message)
    assert (answer.usage.cost_micros, answer.usage.model_calls) == (0, 0)
    await eventually(lambda: bench.clock.sleeping == 1)
    await bench.clock.advance(0.1)
    released = await eventually(lambda: bench.governor.released)
    assert [each.key for each in released] == [each.key for each in bench.governor.admitted]


async def test_an_embedder_that_fails_is_a_finding(bench: Bench) -> None:
    """Like any other model."""
    bench.embedder.failure = errors.ProviderFailed("Triton is away.")
    answer = await _check(bench, "tiny")
    assert errors.from_status(answer.error).message == "Triton is away."


async def test_a_model_that_does_not_answer_fails_the_check_in_its_time(bench: Bench) -> None:
    """The call is ended, and nobody waits for it."""
    bench.provider.go_on.clear()
    answer = await _check(bench, "paid")
    found = errors.from_status(answer.error)
    assert found.reason == "PROVIDER_FAILED"
    assert found.message == "The model paid (scripted) did not answer within 2 s."
    assert bench.provider.closed_streams == 1


async def test_an_open_breaker_is_shown_and_passed(bench: Bench) -> None:
    """The check is how people see whether the model works again."""
    bench.endpoints.states["paid"] = EndpointState(Breaker.OPEN, "5 calls in a row failed.")
    answer = await _check(bench, "paid")
    assert not answer.HasField("error")
    assert answer.model.breaker == model_pb2.BREAKER_STATE_OPEN
    assert answer.model.state == model_pb2.MODEL_STATE_UNAVAILABLE
    assert answer.model.state_reason == "5 calls in a row failed."


async def test_a_model_that_cannot_be_called_is_a_finding(bench: Bench) -> None:
    """So that all models can be checked one after the other."""
    answer = await _check(bench, "gpt-5-mini")
    assert errors.from_status(answer.error).reason == "MODEL_NOT_FOUND"
    assert answer.model.state == model_pb2.MODEL_STATE_NOT_CONFIGURED


async def test_an_unknown_model_is_not_found(bench: Bench) -> None:
    """Those that there are, are named."""
    with pytest.raises(errors.ModelNotFound) as caught:
        await _check(bench, "gpt-6")
    assert caught.value.message == (
        "There is no model 'gpt-6'. There are: offline, paid, tiny, gpt-5-mini."
    )


async def test_a_check_without_a_name_names_the_field(bench: Bench) -> None:
    """All models are not checked at once: that would be paid for."""
    with pytest.raises(errors.InvalidField) as caught:
        await _check(bench, "")
    assert [(each.field, each.description) for each in caught.value.violations] == [
        ("model", "must be the name of a model")
    ]


async def test_a_spent_budget_refuses_a_check(bench: Bench) -> None:
    """As it refuses every other call: this is no finding about the model."""
    denied = governor_pb.AdmitResponse(
        decision=budget_pb2.DECISION_DENY, budget="tenants/test/budgets/day"
    )
    bench.governor.decide = _always(denied)
    with pytest.raises(errors.BudgetExhausted):
        await _check(bench, "paid")


async def test_a_budget_that_wants_cheaper_calls_refuses_a_check(bench: Bench) -> None:
    """Another model's answer would say nothing about this one."""
    degraded = governor_pb.AdmitResponse(
        decision=budget_pb2.DECISION_DEGRADE,
        degrade_to=tier_pb2.MODEL_TIER_FAST,
        budget="tenants/test/budgets/day",
    )
    bench.governor.decide = _always(degraded)
    with pytest.raises(errors.BudgetExhausted):
        await _check(bench, "paid")
    assert [each.model for each in bench.governor.admitted] == ["paid"]
