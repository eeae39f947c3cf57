"""Nothing is spent that a budget forbids."""

import asyncio
from dataclasses import replace

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from agentmesh.common.v1 import tier_pb2
from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as governor_pb
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit import errors
from meshtest.eventually import eventually
from services.reasoning.budgeted_calls import (
    BUDGET,
    COST_MICROS,
    DOWN,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    always,
    call_request,
    let_settle,
)
from services.reasoning.fixture_reasoning import Bench
from services.reasoning.generation import (
    Completion,
    ModelCall,
    Prompt,
    Spending,
)
from services.reasoning.model import Tier
from services.reasoning.provider_offline import OFFLINE
from services.reasoning.scripted_governor import allow
from services.reasoning.scripted_provider import PAID
from services.reasoning.token_estimate import text_tokens

pytest_plugins = ["services.reasoning.fixture_bench"]

_TIMEOUT = 60.0


async def test_admission_and_settlement_name_the_spending(bench: Bench) -> None:
    """The key, the task with its cap, and the budgets' other scopes reach the governor."""
    request = call_request(
        spend_key="task/1/1",
        task_type="chat",
        agent="assistant",
        session="s1",
        parameters=pb.GenerationParameters(max_output_tokens=50),
        task_budget=pb.TaskBudget(
            task="tenants/default/tasks/t1", limit_micros=900, spent_micros=7
        ),
        lane=tier_pb2.LANE_INTERACTIVE,
    )
    response = await bench.reasoning.Generate(request, timeout=_TIMEOUT)
    assert bench.governor.admitted == [
        governor_pb.AdmitRequest(
            parent="tenants/default",
            key="task/1/1",
            model="paid",
            tier=tier_pb2.MODEL_TIER_BALANCED,
            input_tokens=INPUT_TOKENS,
            max_output_tokens=50,
            task_type="chat",
            agent="assistant",
            session="s1",
            task="tenants/default/tasks/t1",
            task_limit_micros=900,
            task_spent_micros=7,
            lane=tier_pb2.LANE_INTERACTIVE,
        )
    ]
    (settled,) = bench.governor.settled
    assert (settled.key, settled.model, settled.task) == (
        "task/1/1", "paid", "tenants/default/tasks/t1",
    )  # fmt: skip
    assert (settled.usage.input_tokens, settled.usage.output_tokens, settled.usage.model_calls) == (
        INPUT_TOKENS, OUTPUT_TOKENS, 1,
    )  # fmt: skip
    assert response.usage.cost_micros == COST_MICROS


@pytest.mark.parametrize(("said", "settled"), [(3, 3), (-1, 0), (10**12, INPUT_TOKENS)])
async def test_what_a_provider_had_cached_is_settled_as_such(
    bench: Bench, said: int, settled: int
) -> None:
    """As a part of the input and no more: what the governor refuses is charged to nobody."""
    bench.provider.cached_input_tokens = said
    await bench.reasoning.Generate(call_request(), timeout=_TIMEOUT)
    (request,) = bench.governor.settled
    assert request.usage.input_tokens == INPUT_TOKENS
    assert request.usage.cached_input_tokens == settled


async def test_a_call_for_data_reserves_what_two_answers_may_need(bench: Bench) -> None:
    """The second time the model reads its first answer, too."""
    schema = '{"type": "object"}'
    bench.provider.text = "{}"
    parameters = pb.GenerationParameters(max_output_tokens=50, output_schema=schema)
    await bench.reasoning.Generate(call_request(parameters=parameters), timeout=_TIMEOUT)
    (admitted,) = bench.governor.admitted
    assert admitted.input_tokens == 2 * (INPUT_TOKENS + text_tokens(schema)) + 50
    assert admitted.max_output_tokens == 100


async def test_a_call_without_a_key_gets_one_of_its_own(bench: Bench) -> None:
    """Each such call is charged."""
    for _ in range(2):
        await bench.reasoning.Generate(call_request(), timeout=_TIMEOUT)
    first, second = (each.key for each in bench.governor.admitted)
    assert first != second
    assert [each.key for each in bench.governor.settled] == [first, second]


async def test_a_limit_above_the_models_own_reserves_only_that(bench: Bench) -> None:
    """No model produces more than it can."""
    parameters = pb.GenerationParameters(max_output_tokens=10_000)
    await bench.reasoning.Generate(call_request(parameters=parameters), timeout=_TIMEOUT)
    assert bench.governor.admitted[0].max_output_tokens == 100


async def test_a_free_call_is_settled_without_the_caller_waiting(bench: Bench) -> None:
    """Its cost is known to be nothing; the settlement follows."""
    response = await bench.reasoning.Generate(call_request("offline"), timeout=_TIMEOUT)
    assert response.usage.cost_micros == 0
    await let_settle(bench)
    settled = await eventually(lambda: bench.governor.settled)
    assert settled[0].model == "offline"


async def test_a_denied_call_names_the_budget_and_when_it_resets(bench: Bench) -> None:
    """RESOURCE_EXHAUSTED, and the model is not called."""
    resets_at = Timestamp()
    resets_at.FromJsonString("2026-01-02T00:00:00Z")
    bench.governor.decide = always(
        governor_pb.AdmitResponse(
            decision=budget_pb2.DECISION_DENY,
            budget=BUDGET,
            resets_at=resets_at,
            explanation="5 of 5 dollars are spent.",
        )
    )
    with pytest.raises(errors.BudgetExhausted) as caught:
        await bench.reasoning.Generate(call_request(), timeout=_TIMEOUT)
    assert caught.value.message == (
        f"The budget {BUDGET} is spent until 2026-01-02T00:00:00Z. 5 of 5 dollars are spent."
    )
    assert caught.value.metadata == {"budget": BUDGET, "resets_at": "2026-01-02T00:00:00Z"}
    assert caught.value.quota == (errors.QuotaViolation(BUDGET, "5 of 5 dollars are spent."),)
    assert bench.governor.settled == []


async def test_a_throttled_call_says_when_to_come_back(bench: Bench) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo."""
    bench.governor.decide = always(
        governor_pb.AdmitResponse(
            decision=budget_pb2.DECISION_THROTTLE, budget=BUDGET, retry_after=Duration(seconds=3)
        )
    )
    with pytest.raises(errors.RateLimited) as caught:
        await bench.reasoning.Generate(call_request(), timeout=_TIMEOUT)
    assert caught.value.retry_after_seconds == 3.0
    assert caught.value.message == f"The budget {BUDGET} slows calls down; come back in 3 s."


async def test_a_degraded_call_goes_to_the_cheaper_tier_and_says_so(bench: Bench) -> None:
    """The answer tells the reader, and what was really called is settled."""

    def degrade(request: governor_pb.AdmitRequest) -> governor_pb.AdmitResponse:
        response = allow(request)
        response.decision = budget_pb2.DECISION_DEGRADE
        response.degrade_to = tier_pb2.MODEL_TIER_FAST
        response.explanation = "85 % of the day's budget are spent."
        return response

    bench.governor.decide = degrade
    response = await bench.reasoning.Generate(call_request(), timeout=_TIMEOUT)
    assert (response.model, response.tier) == ("offline", tier_pb2.MODEL_TIER_FAST)
    assert list(response.degradations) == [
        "Answered by the fast tier instead of the balanced one: 85 % of the day's budget are spent."
    ]
    settled = await eventually(lambda: bench.governor.settled)
    assert settled[0].model == "offline"


async def test_a_degraded_answer_costs_no_more_than_is_reserved(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no longer than the model that was asked for would have made it."""

    def degrade(request: governor_pb.AdmitRequest) -> governor_pb.AdmitResponse:
        response = allow(request)
        response.decision = budget_pb2.DECISION_DEGRADE
        response.degrade_to = tier_pb2.MODEL_TIER_BALANCED
        return response

    prompts: list[Prompt] = []
    complete = bench.provider.complete

    async def recorded(prompt: Prompt) -> Completion:
        prompts.append(prompt)
        return await complete(prompt)

    monkeypatch.setattr(bench.provider, "complete", recorded)
    bench.governor.decide = degrade
    for most, asked in ((60, 0), (60, 30), (500, 0)):
        dear = replace(PAID, name="dear", max_output_tokens=most)
        prompt = Prompt(call_request().messages, (), max_output_tokens=asked)
        spending = Spending("default", "user:test")
        answer = await bench.generator.generate(ModelCall(prompt, dear, Tier.POWERFUL, spending))
        assert answer.model is PAID
    # 100 are PAID's own most.
    assert [each.max_output_tokens for each in prompts] == [60, 30, 0]


async def test_a_paid_call_instead_of_a_free_one_is_asked_for(bench: Bench) -> None:
    """Nothing was reserved for it: the tenant may not use the tier of the free one."""

    def decide(request: governor_pb.AdmitRequest) -> governor_pb.AdmitResponse:
        if request.model == "paid":
            return governor_pb.AdmitResponse(
                decision=budget_pb2.DECISION_DENY, budget=BUDGET, explanation="It is spent."
            )
        response = allow(request)
        response.decision = budget_pb2.DECISION_DEGRADE
        response.degrade_to = tier_pb2.MODEL_TIER_BALANCED
        return response

    bench.governor.decide = decide
    prompt, spending = Prompt(call_request().messages, ()), Spending("default", "user:test")
    with pytest.raises(errors.BudgetExhausted):
        await bench.generator.generate(ModelCall(prompt, OFFLINE, Tier.POWERFUL, spending))
    assert [(each.model, each.tier) for each in bench.governor.admitted] == [
        ("offline", tier_pb2.MODEL_TIER_POWERFUL),
        ("paid", tier_pb2.MODEL_TIER_BALANCED),
    ]


async def test_a_call_too_dear_is_asked_for_anew_as_a_cheaper_one(bench: Bench) -> None:
    """Nothing was reserved for it as it was; what is refused then is refused for good."""

    def too_dear(request: governor_pb.AdmitRequest) -> governor_pb.AdmitResponse:
        if request.model == "offline":
            return allow(request)
        return governor_pb.AdmitResponse(
            decision=budget_pb2.DECISION_DEGRADE,
            degrade_to=tier_pb2.MODEL_TIER_FAST,
            budget=BUDGET,
            explanation="0.80 USD more do not fit.",
        )

    bench.governor.decide = too_dear
    response = await bench.reasoning.Generate(call_request(), timeout=_TIMEOUT)
    assert [each.model for each in bench.governor.admitted] == ["paid", "offline"]
    assert response.model == "offline"
    assert list(response.degradations) == [
        "Answered by the fast tier instead of the balanced one: 0.80 USD more do not fit."
    ]


def _degrade_to_nothing(request: governor_pb.AdmitRequest) -> governor_pb.AdmitResponse:
    """To a tier that has no model here."""
    response = allow(request)
    response.decision = budget_pb2.DECISION_DEGRADE
    response.degrade_to = tier_pb2.MODEL_TIER_POWERFUL
    response.explanation = "The tenant default may use POWERFUL models only."
    return response


async def test_a_tier_without_a_model_sends_a_call_nowhere(bench: Bench) -> None:
    """A budget that is nearly spent stops no call: it goes on where it was to go."""
    bench.governor.decide = _degrade_to_nothing
    response = await bench.reasoning.Generate(call_request(), timeout=_TIMEOUT)
    assert response.model == "paid"
    assert list(response.degradations) == []


async def test_a_tier_that_the_tenant_may_not_use_is_not_gone_on_with(bench: Bench) -> None:
    """Where the tier that it may use has no model: what was reserved is given back."""
    bench.governor.decide = _degrade_to_nothing
    bench.forbidden_tiers.add(Tier.BALANCED)
    with pytest.raises(errors.ModelNotFound) as caught:
        await bench.reasoning.Generate(call_request(spend_key="k"), timeout=_TIMEOUT)
    assert caught.value.message == (
        "No model of the tier powerful can be called."
        " The tenant default may use POWERFUL models only."
    )
    assert caught.value.metadata == {"tier": "powerful"}
    await let_settle(bench)
    released = await eventually(lambda: bench.governor.released)
    assert [each.key for each in released] == ["k"]
    assert bench.governor.settled == []


async def test_a_failed_call_gives_its_reservation_back(bench: Bench) -> None:
    """Nothing was used; the provider's error reaches the caller."""
    bench.provider.failure = errors.ProviderFailed("It broke.", metadata={"provider": "scripted"})
    with pytest.raises(errors.ProviderFailed) as caught:
        await bench.reasoning.Generate(call_request(spend_key="k"), timeout=_TIMEOUT)
    assert caught.value.metadata == {"provider": "scripted"}
    await let_settle(bench)
    released = await eventually(lambda: bench.governor.released)
    assert [each.key for each in released] == ["k"]
    assert bench.governor.settled == []


async def test_a_call_beside_another_with_its_key_is_charged_besides(bench: Bench) -> None:
    """They share a reservation, and both are paid: the later is settled under a key of its own."""
    asked: list[str] = []

    def refuse_once(request: governor_pb.SettleRequest) -> None:
        asked.append(request.key)
        if request.key == "k":
            raise errors.AlreadySettled("Settled with other figures.")

    bench.governor.check_settlement = refuse_once
    response = await bench.reasoning.Generate(call_request(spend_key="k"), timeout=_TIMEOUT)
    assert response.usage.cost_micros == COST_MICROS
    assert list(response.degradations) == []
    for _ in range(2):
        await let_settle(bench)
    (settled,) = await eventually(lambda: bench.governor.settled)
    assert settled.key.startswith("k#")
    assert settled.usage.output_tokens == OUTPUT_TOKENS
    assert asked == ["k", "k", settled.key]


async def test_a_call_that_is_broken_off_is_charged_for_what_the_model_read(bench: Bench) -> None:
    """The provider has the request, and is paid for it, whoever waits for the answer."""
    bench.provider.go_on.clear()
    request = call_request(spend_key="t/1/1")
    call = asyncio.ensure_future(bench.reasoning.Generate(request, timeout=_TIMEOUT))
    await eventually(lambda: bench.provider.waiting)
    call.cancel()
    await eventually(lambda: bench.clock.sleeping == 1)
    await bench.clock.advance(0.1)
    (settled,) = await eventually(lambda: bench.governor.settled)
    assert (settled.key, settled.usage.input_tokens, settled.usage.output_tokens) == (
        "t/1/1", INPUT_TOKENS, 0,
    )  # fmt: skip


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_second_try_that_is_broken_off_is_charged_with_the_first(
    bench: Bench, streamed: bool
) -> None:
    """Once: for what the first one used, and for what the model reads the second time."""
    bench.provider.text = "No data."
    request = call_request(parameters=pb.GenerationParameters(output_schema='{"type": "object"}'))
    answered = asyncio.Event()
    complete = bench.provider.complete

    async def complete_once(prompt: Prompt) -> Completion:
        if len(prompt.messages) > 2:
            answered.set()
            await asyncio.Event().wait()
        return await complete(prompt)

    bench.provider.complete = complete_once

    async def ask() -> None:
        if streamed:
            stream = bench.reasoning.GenerateStream(
                pb.GenerateStreamRequest(request=request), timeout=_TIMEOUT
            )
            async for _ in stream:
                pass
        else:
            await bench.reasoning.Generate(request, timeout=_TIMEOUT)

    call = asyncio.ensure_future(ask())
    await eventually(answered.is_set)
    call.cancel()
    await eventually(lambda: bench.clock.sleeping == 1)
    await bench.clock.advance(0.1)
    (settled,) = await eventually(lambda: bench.governor.settled)
    assert settled.usage.output_tokens == text_tokens("No data.")
    assert settled.usage.input_tokens > 2 * INPUT_TOKENS


@pytest.mark.parametrize("decision", ["DECISION_DEGRADE", "DECISION_THROTTLE", "DECISION_DENY"])
async def test_a_second_call_of_the_same_needs_room_in_the_budget(
    bench: Bench, decision: str
) -> None:
    """It is made as asked, or not at all; without a governor it is not."""
    call = ModelCall(
        Prompt(call_request().messages, ()),
        PAID,
        Tier.BALANCED,
        Spending("default", "user:test", key="t/1/1#hedge"),
        spare=True,
    )
    bench.governor.decide = always(
        governor_pb.AdmitResponse(
            decision=decision,
            degrade_to=tier_pb2.MODEL_TIER_FAST,
            budget=BUDGET,
        )
    )
    with pytest.raises(errors.BudgetExhausted) as caught:
        await bench.generator.generate(call)
    assert str(caught.value) == "No budget has room for a second call of the same."
    bench.governor.failure = DOWN
    with pytest.raises(errors.BudgetExhausted):
        await bench.generator.generate(call)
    assert bench.governor.settled == []
