"""Nothing is spent that a budget forbids, and a governor that is away stops nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from agentmesh.common.v1 import tier_pb2
from agentmesh.common.v1.conversation_pb2 import ROLE_USER, Message, Part
from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as governor_pb
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit import deadline, errors
from meshtest.eventually import eventually
from services.reasoning.budgeted_model import SETTLED_LATER, UNGOVERNED
from services.reasoning.fixture_reasoning import Bench, reasoning_bench
from services.reasoning.generation import (
    Completion,
    GenerationRequest,
    ModelCall,
    Prompt,
    Spending,
)
from services.reasoning.model import Tier
from services.reasoning.provider_offline import OFFLINE
from services.reasoning.scripted_governor import allow
from services.reasoning.scripted_provider import PAID
from services.reasoning.token_estimate import prompt_tokens, text_tokens

_TIMEOUT = 60.0
_BUDGET = "tenants/default/budgets/tenant-day"
_DOWN = errors.DependencyUnavailable("Redis is down.")
_AWAY = errors.DependencyUnavailable("Failed to reach.", metadata={"dependency": "governor"})
_SLOW = errors.DependencyUnavailable("The ledger is slow.", metadata={"dependency": "ledger"})
_LATE = errors.DeadlineExceeded("The item was not done in time.", metadata={"limit": "call"})
_UNSETTLED = [
    _DOWN,
    _LATE,
    errors.QueueFull("4096 calls wait for an answer already.", retry_after_seconds=0.1),
    errors.RateLimited("Too many settlements.", retry_after_seconds=1.0),
    errors.Internal("The batch ended without this answer."),
]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with reasoning_bench() as bench:
        yield bench


def _request(model: str = "paid", **fields: object) -> pb.GenerateRequest:
    message = Message(role=ROLE_USER, parts=[Part(text="Hello")])
    request = pb.GenerateRequest(messages=[message], model=model)
    request.MergeFrom(pb.GenerateRequest(**fields))  # pyright: ignore[reportArgumentType]
    return request


def _always(
    response: governor_pb.AdmitResponse,
) -> Callable[[governor_pb.AdmitRequest], governor_pb.AdmitResponse]:
    def decide(request: governor_pb.AdmitRequest) -> governor_pb.AdmitResponse:
        return response

    return decide


async def _let_settle(bench: Bench) -> None:
    """The moment in which settlements wait for company, or for another attempt."""
    await eventually(lambda: bench.clock.sleeping == 1)
    await bench.clock.advance(0.1)


_INPUT_TOKENS = prompt_tokens(_request().messages, ())
_OUTPUT_TOKENS = 5  # of "All is well today."
_COST_MICROS = 2 * (_INPUT_TOKENS + _OUTPUT_TOKENS)


async def test_admission_and_settlement_name_the_spending(bench: Bench) -> None:
    """The key, the task with its cap, and the budgets' other scopes reach the governor."""
    request = _request(
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
            input_tokens=_INPUT_TOKENS,
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
        _INPUT_TOKENS, _OUTPUT_TOKENS, 1,
    )  # fmt: skip
    assert response.usage.cost_micros == _COST_MICROS


@pytest.mark.parametrize(("said", "settled"), [(3, 3), (-1, 0), (10**12, _INPUT_TOKENS)])
async def test_what_a_provider_had_cached_is_settled_as_such(
    bench: Bench, said: int, settled: int
) -> None:
    """As a part of the input and no more: what the governor refuses is charged to nobody."""
    bench.provider.cached_input_tokens = said
    await bench.reasoning.Generate(_request(), timeout=_TIMEOUT)
    (request,) = bench.governor.settled
    assert request.usage.input_tokens == _INPUT_TOKENS
    assert request.usage.cached_input_tokens == settled


async def test_a_call_for_data_reserves_what_two_answers_may_need(bench: Bench) -> None:
    """The second time the model reads its first answer, too."""
    schema = '{"type": "object"}'
    bench.provider.text = "{}"
    parameters = pb.GenerationParameters(max_output_tokens=50, output_schema=schema)
    await bench.reasoning.Generate(_request(parameters=parameters), timeout=_TIMEOUT)
    (admitted,) = bench.governor.admitted
    assert admitted.input_tokens == 2 * (_INPUT_TOKENS + text_tokens(schema)) + 50
    assert admitted.max_output_tokens == 100


async def test_a_call_without_a_key_gets_one_of_its_own(bench: Bench) -> None:
    """Each such call is charged."""
    for _ in range(2):
        await bench.reasoning.Generate(_request(), timeout=_TIMEOUT)
    first, second = (each.key for each in bench.governor.admitted)
    assert first != second
    assert [each.key for each in bench.governor.settled] == [first, second]


async def test_a_limit_above_the_models_own_reserves_only_that(bench: Bench) -> None:
    """No model produces more than it can."""
    parameters = pb.GenerationParameters(max_output_tokens=10_000)
    await bench.reasoning.Generate(_request(parameters=parameters), timeout=_TIMEOUT)
    assert bench.governor.admitted[0].max_output_tokens == 100


async def test_a_free_call_is_settled_without_the_caller_waiting(bench: Bench) -> None:
    """Its cost is known to be nothing; the settlement follows."""
    response = await bench.reasoning.Generate(_request("offline"), timeout=_TIMEOUT)
    assert response.usage.cost_micros == 0
    await _let_settle(bench)
    settled = await eventually(lambda: bench.governor.settled)
    assert settled[0].model == "offline"


async def test_a_denied_call_names_the_budget_and_when_it_resets(bench: Bench) -> None:
    """RESOURCE_EXHAUSTED, and the model is not called."""
    resets_at = Timestamp()
    resets_at.FromJsonString("2026-01-02T00:00:00Z")
    bench.governor.decide = _always(
        governor_pb.AdmitResponse(
            decision=budget_pb2.DECISION_DENY,
            budget=_BUDGET,
            resets_at=resets_at,
            explanation="5 of 5 dollars are spent.",
        )
    )
    with pytest.raises(errors.BudgetExhausted) as caught:
        await bench.reasoning.Generate(_request(), timeout=_TIMEOUT)
    assert caught.value.message == (
        f"The budget {_BUDGET} is spent until 2026-01-02T00:00:00Z. 5 of 5 dollars are spent."
    )
    assert caught.value.metadata == {"budget": _BUDGET, "resets_at": "2026-01-02T00:00:00Z"}
    assert caught.value.quota == (errors.QuotaViolation(_BUDGET, "5 of 5 dollars are spent."),)
    assert bench.governor.settled == []


async def test_a_throttled_call_says_when_to_come_back(bench: Bench) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo."""
    bench.governor.decide = _always(
        governor_pb.AdmitResponse(
            decision=budget_pb2.DECISION_THROTTLE, budget=_BUDGET, retry_after=Duration(seconds=3)
        )
    )
    with pytest.raises(errors.RateLimited) as caught:
        await bench.reasoning.Generate(_request(), timeout=_TIMEOUT)
    assert caught.value.retry_after_seconds == 3.0
    assert caught.value.message == f"The budget {_BUDGET} slows calls down; come back in 3 s."


async def test_a_degraded_call_goes_to_the_cheaper_tier_and_says_so(bench: Bench) -> None:
    """The answer tells the reader, and what was really called is settled."""

    def degrade(request: governor_pb.AdmitRequest) -> governor_pb.AdmitResponse:
        response = allow(request)
        response.decision = budget_pb2.DECISION_DEGRADE
        response.degrade_to = tier_pb2.MODEL_TIER_FAST
        response.explanation = "85 % of the day's budget are spent."
        return response

    bench.governor.decide = degrade
    response = await bench.reasoning.Generate(_request(), timeout=_TIMEOUT)
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
        prompt = Prompt(_request().messages, (), max_output_tokens=asked)
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
                decision=budget_pb2.DECISION_DENY, budget=_BUDGET, explanation="It is spent."
            )
        response = allow(request)
        response.decision = budget_pb2.DECISION_DEGRADE
        response.degrade_to = tier_pb2.MODEL_TIER_BALANCED
        return response

    bench.governor.decide = decide
    prompt, spending = Prompt(_request().messages, ()), Spending("default", "user:test")
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
            budget=_BUDGET,
            explanation="0.80 USD more do not fit.",
        )

    bench.governor.decide = too_dear
    response = await bench.reasoning.Generate(_request(), timeout=_TIMEOUT)
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
    response = await bench.reasoning.Generate(_request(), timeout=_TIMEOUT)
    assert response.model == "paid"
    assert list(response.degradations) == []


async def test_a_tier_that_the_tenant_may_not_use_is_not_gone_on_with(bench: Bench) -> None:
    """Where the tier that it may use has no model: what was reserved is given back."""
    bench.governor.decide = _degrade_to_nothing
    bench.forbidden_tiers.add(Tier.BALANCED)
    with pytest.raises(errors.ModelNotFound) as caught:
        await bench.reasoning.Generate(_request(spend_key="k"), timeout=_TIMEOUT)
    assert caught.value.message == (
        "No model of the tier powerful can be called."
        " The tenant default may use POWERFUL models only."
    )
    assert caught.value.metadata == {"tier": "powerful"}
    await _let_settle(bench)
    released = await eventually(lambda: bench.governor.released)
    assert [each.key for each in released] == ["k"]
    assert bench.governor.settled == []


async def test_a_governor_that_is_away_stops_nothing(bench: Bench) -> None:
    """The call is made, says so, costs what the price list says, and is settled later."""
    bench.governor.failure = _DOWN
    response = await bench.reasoning.Generate(_request(spend_key="k"), timeout=_TIMEOUT)
    assert list(response.degradations) == [UNGOVERNED]
    assert response.usage.cost_micros == _COST_MICROS
    await _let_settle(bench)
    await eventually(lambda: bench.clock.sleeping == 1)
    bench.governor.failure = None
    await bench.clock.advance(0.1)
    settled = await eventually(lambda: bench.governor.settled)
    assert [(each.key, each.usage.output_tokens) for each in settled] == [("k", _OUTPUT_TOKENS)]


async def test_a_governor_that_is_away_is_left_alone_for_a_while(bench: Bench) -> None:
    """It is asked again after a second, and then rules again."""
    bench.governor.failure = _AWAY
    for _ in range(3):
        await bench.reasoning.Generate(_request("offline"), timeout=_TIMEOUT)
    assert len(bench.governor.admitted) == 1
    bench.governor.failure = None
    await bench.clock.advance(1.0)
    response = await bench.reasoning.Generate(_request("offline"), timeout=_TIMEOUT)
    assert len(bench.governor.admitted) == 2
    assert list(response.degradations) == []


async def test_a_call_of_which_the_governor_cannot_tell_stands_for_no_other(
    bench: Bench,
) -> None:
    """That one is made on the local allowance; the next is asked for, and is refused."""

    def slow_for_one(request: governor_pb.AdmitRequest) -> governor_pb.AdmitResponse:
        if request.agent == "slow":
            raise _SLOW
        return governor_pb.AdmitResponse(decision=budget_pb2.DECISION_DENY, budget=_BUDGET)

    bench.governor.decide = slow_for_one
    response = await bench.reasoning.Generate(_request(agent="slow"), timeout=_TIMEOUT)
    assert list(response.degradations) == [UNGOVERNED]
    with pytest.raises(errors.BudgetExhausted):
        await bench.reasoning.Generate(_request(agent="other"), timeout=_TIMEOUT)


async def test_the_local_allowance_bounds_what_is_spent_without_the_governor(
    bench: Bench,
) -> None:
    """What it reserves at worst must be left; it refills, and free calls need none."""
    bench.governor.failure = _DOWN
    worst = 2 * (_INPUT_TOKENS + 100)
    for _ in range(1_000 // worst):
        await bench.reasoning.Generate(_request(), timeout=_TIMEOUT)
    with pytest.raises(errors.DependencyUnavailable) as caught:
        await bench.reasoning.Generate(_request(), timeout=_TIMEOUT)
    assert caught.value.message == (
        "The cost governor cannot be reached, and what may be spent without it is spent."
    )
    assert caught.value.metadata == {"dependency": "governor"}
    assert caught.value.retry_after_seconds == 1.0


async def test_calls_that_cannot_be_settled_are_bounded(bench: Bench) -> None:
    """When as many settlements wait as may, nothing more is begun without the governor."""
    bench.governor.failure = _DOWN
    for _ in range(4):
        await bench.reasoning.Generate(_request("offline"), timeout=_TIMEOUT)
    assert bench.settlements.full
    with pytest.raises(errors.DependencyUnavailable):
        await bench.reasoning.Generate(_request("offline"), timeout=_TIMEOUT)


def _fall_after_admission(bench: Bench, failure: errors.MeshError) -> None:
    def admit_and_fall(request: governor_pb.AdmitRequest) -> governor_pb.AdmitResponse:
        bench.governor.failure = failure
        return allow(request)

    bench.governor.decide = admit_and_fall


async def _generate(bench: Bench) -> pb.GenerateResponse:
    return await bench.reasoning.Generate(_request(spend_key="k"), timeout=_TIMEOUT)


async def _stream(bench: Bench) -> pb.GenerateResponse:
    request = pb.GenerateStreamRequest(request=_request(spend_key="k"))
    stream = bench.reasoning.GenerateStream(request, timeout=_TIMEOUT)
    return [each async for each in stream][-1].response


@pytest.mark.parametrize("ask", [_generate, _stream])
@pytest.mark.parametrize("failure", _UNSETTLED, ids=lambda failure: failure.reason)
async def test_a_governor_that_fails_after_the_call_loses_no_charge(
    bench: Bench,
    failure: errors.MeshError,
    ask: Callable[[Bench], Awaitable[pb.GenerateResponse]],
) -> None:
    """However it fails, the answer is given, says so, and is settled later."""
    _fall_after_admission(bench, failure)
    response = await ask(bench)
    assert list(response.degradations) == [SETTLED_LATER]
    assert response.usage.cost_micros == _COST_MICROS
    await _let_settle(bench)
    await eventually(lambda: bench.clock.sleeping == 1)
    bench.governor.failure = None
    await bench.clock.advance(0.1)
    settled = await eventually(lambda: bench.governor.settled)
    assert [(each.key, each.usage.output_tokens) for each in settled] == [("k", _OUTPUT_TOKENS)]
    assert bench.governor.released == []


async def test_a_charge_that_the_governor_refuses_does_not_take_the_answer(bench: Bench) -> None:
    """The model was paid for it: the caller gets it at the price of the list."""
    _fall_after_admission(bench, errors.NoPrice("The model 'paid' has no price."))
    response = await _generate(bench)
    assert list(response.degradations) == [SETTLED_LATER]
    assert response.usage.cost_micros == _COST_MICROS


@pytest.mark.parametrize("left_seconds", [0.0, 0.04])
async def test_a_caller_without_time_tells_nothing_about_the_governor(
    bench: Bench, left_seconds: float
) -> None:
    """Its call fails, and gives back what it may have reserved; the governor rules the others."""
    bench.governor.failure = _LATE
    asked = GenerationRequest(
        Prompt(_request().messages, ()), "paid", None, Spending("default", "service:test", "k")
    )
    with deadline.limit(left_seconds), pytest.raises(errors.DeadlineExceeded):
        await bench.reasoner.generate(asked)
    await _let_settle(bench)
    released = await eventually(lambda: bench.governor.released)
    assert [each.key for each in released] == ["k"]
    bench.governor.failure = None
    response = await _generate(bench)
    assert list(response.degradations) == []


async def test_a_governor_that_takes_too_long_is_away(bench: Bench) -> None:
    """A caller with time left gets its answer all the same."""
    bench.governor.failure = _LATE
    response = await _generate(bench)
    assert list(response.degradations) == [UNGOVERNED]


async def test_what_the_governor_refuses_is_told_to_the_caller(bench: Bench) -> None:
    """A model without a price is not called on the local allowance."""
    bench.governor.failure = errors.NoPrice("The model 'paid' has no price.")
    with pytest.raises(errors.NoPrice):
        await bench.reasoning.Generate(_request(), timeout=_TIMEOUT)


async def test_a_failed_call_gives_its_reservation_back(bench: Bench) -> None:
    """Nothing was used; the provider's error reaches the caller."""
    bench.provider.failure = errors.ProviderFailed("It broke.", metadata={"provider": "scripted"})
    with pytest.raises(errors.ProviderFailed) as caught:
        await bench.reasoning.Generate(_request(spend_key="k"), timeout=_TIMEOUT)
    assert caught.value.metadata == {"provider": "scripted"}
    await _let_settle(bench)
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
    response = await bench.reasoning.Generate(_request(spend_key="k"), timeout=_TIMEOUT)
    assert response.usage.cost_micros == _COST_MICROS
    assert list(response.degradations) == []
    for _ in range(2):
        await _let_settle(bench)
    (settled,) = await eventually(lambda: bench.governor.settled)
    assert settled.key.startswith("k#")
    assert settled.usage.output_tokens == _OUTPUT_TOKENS
    assert asked == ["k", "k", settled.key]


async def test_a_call_that_is_broken_off_is_charged_for_what_the_model_read(bench: Bench) -> None:
    """The provider has the request, and is paid for it, whoever waits for the answer."""
    bench.provider.go_on.clear()
    request = _request(spend_key="t/1/1")
    call = asyncio.ensure_future(bench.reasoning.Generate(request, timeout=_TIMEOUT))
    await eventually(lambda: bench.provider.waiting)
    call.cancel()
    await eventually(lambda: bench.clock.sleeping == 1)
    await bench.clock.advance(0.1)
    (settled,) = await eventually(lambda: bench.governor.settled)
    assert (settled.key, settled.usage.input_tokens, settled.usage.output_tokens) == (
        "t/1/1", _INPUT_TOKENS, 0,
    )  # fmt: skip


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_second_try_that_is_broken_off_is_charged_with_the_first(
    bench: Bench, streamed: bool
) -> None:
    """Once: for what the first one used, and for what the model reads the second time."""
    bench.provider.text = "No data."
    request = _request(parameters=pb.GenerationParameters(output_schema='{"type": "object"}'))
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
    assert settled.usage.input_tokens > 2 * _INPUT_TOKENS


@pytest.mark.parametrize("decision", ["DECISION_DEGRADE", "DECISION_THROTTLE", "DECISION_DENY"])
async def test_a_second_call_of_the_same_needs_room_in_the_budget(
    bench: Bench, decision: str
) -> None:
    """It is made as asked, or not at all; without a governor it is not."""
    call = ModelCall(
        Prompt(_request().messages, ()),
        PAID,
        Tier.BALANCED,
        Spending("default", "user:test", key="t/1/1#hedge"),
        spare=True,
    )
    bench.governor.decide = _always(
        governor_pb.AdmitResponse(
            decision=decision,
            degrade_to=tier_pb2.MODEL_TIER_FAST,
            budget=_BUDGET,
        )
    )
    with pytest.raises(errors.BudgetExhausted) as caught:
        await bench.generator.generate(call)
    assert str(caught.value) == "No budget has room for a second call of the same."
    bench.governor.failure = _DOWN
    with pytest.raises(errors.BudgetExhausted):
        await bench.generator.generate(call)
    assert bench.governor.settled == []
