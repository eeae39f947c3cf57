"""A governor that is away, or fails, stops nothing, and no charge is lost."""

from collections.abc import Awaitable, Callable

import pytest

from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as governor_pb
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit import deadline, errors
from meshtest.eventually import eventually
from services.reasoning.budgeted_calls import (
    BUDGET,
    COST_MICROS,
    DOWN,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    call_request,
    let_settle,
)
from services.reasoning.budgeted_model import SETTLED_LATER, UNGOVERNED
from services.reasoning.fixture_reasoning import Bench
from services.reasoning.generation import (
    GenerationRequest,
    Prompt,
    Spending,
)
from services.reasoning.model import Tier
from services.reasoning.scripted_governor import allow

pytest_plugins = ["services.reasoning.fixture_bench"]

_TIMEOUT = 60.0
_AWAY = errors.DependencyUnavailable("Failed to reach.", metadata={"dependency": "governor"})
_SLOW = errors.DependencyUnavailable("The ledger is slow.", metadata={"dependency": "ledger"})
_LATE = errors.DeadlineExceeded("The item was not done in time.", metadata={"limit": "call"})
_UNSETTLED = [
    DOWN,
    _LATE,
    errors.QueueFull("4096 calls wait for an answer already.", retry_after_seconds=0.1),
    errors.RateLimited("Too many settlements.", retry_after_seconds=1.0),
    errors.Internal("The batch ended without this answer."),
]


async def test_a_governor_that_is_away_stops_nothing(bench: Bench) -> None:
    """The call is made, says so, costs what the price list says, and is settled later."""
    bench.governor.failure = DOWN
    response = await bench.reasoning.Generate(call_request(spend_key="k"), timeout=_TIMEOUT)
    assert list(response.degradations) == [UNGOVERNED]
    assert response.usage.cost_micros == COST_MICROS
    await let_settle(bench)
    await eventually(lambda: bench.clock.sleeping == 1)
    bench.governor.failure = None
    await bench.clock.advance(0.1)
    settled = await eventually(lambda: bench.governor.settled)
    assert [(each.key, each.usage.output_tokens) for each in settled] == [("k", OUTPUT_TOKENS)]


async def test_a_governor_that_is_away_is_left_alone_for_a_while(bench: Bench) -> None:
    """It is asked again after a second, and then rules again."""
    bench.governor.failure = _AWAY
    for _ in range(3):
        await bench.reasoning.Generate(call_request("offline"), timeout=_TIMEOUT)
    assert len(bench.governor.admitted) == 1
    bench.governor.failure = None
    await bench.clock.advance(1.0)
    response = await bench.reasoning.Generate(call_request("offline"), timeout=_TIMEOUT)
    assert len(bench.governor.admitted) == 2
    assert list(response.degradations) == []


async def test_a_call_of_which_the_governor_cannot_tell_stands_for_no_other(
    bench: Bench,
) -> None:
    """That one is made on the local allowance; the next is asked for, and is refused."""

    def slow_for_one(request: governor_pb.AdmitRequest) -> governor_pb.AdmitResponse:
        if request.agent == "slow":
            raise _SLOW
        return governor_pb.AdmitResponse(decision=budget_pb2.DECISION_DENY, budget=BUDGET)

    bench.governor.decide = slow_for_one
    response = await bench.reasoning.Generate(call_request(agent="slow"), timeout=_TIMEOUT)
    assert list(response.degradations) == [UNGOVERNED]
    with pytest.raises(errors.BudgetExhausted):
        await bench.reasoning.Generate(call_request(agent="other"), timeout=_TIMEOUT)


async def test_the_local_allowance_bounds_what_is_spent_without_the_governor(
    bench: Bench,
) -> None:
    """What it reserves at worst must be left; it refills, and free calls need none."""
    bench.governor.failure = DOWN
    worst = 2 * (INPUT_TOKENS + 100)
    for _ in range(1_000 // worst):
        await bench.reasoning.Generate(call_request(), timeout=_TIMEOUT)
    with pytest.raises(errors.DependencyUnavailable) as caught:
        await bench.reasoning.Generate(call_request(), timeout=_TIMEOUT)
    assert caught.value.message == (
        "The cost governor cannot be reached, and what may be spent without it is spent."
    )
    assert caught.value.metadata == {"dependency": "governor"}
    assert caught.value.retry_after_seconds == 1.0


async def test_without_the_governor_a_tenant_uses_the_tiers_that_it_may(bench: Bench) -> None:
    """The call goes to the next lower one, as the governor would send it; both are told."""
    bench.governor.failure = DOWN
    bench.forbidden_tiers.add(Tier.BALANCED)
    response = await bench.reasoning.Generate(call_request(), timeout=_TIMEOUT)
    assert (response.model, response.usage.cost_micros) == ("offline", 0)
    assert list(response.degradations) == [
        "Answered by the fast tier instead of the balanced one:"
        " The tenant default may not use that one.",
        UNGOVERNED,
    ]
    bench.forbidden_tiers.add(Tier.FAST)
    with pytest.raises(errors.DependencyUnavailable) as caught:
        await bench.reasoning.Generate(call_request(), timeout=_TIMEOUT)
    assert caught.value.message == (
        "The cost governor cannot be reached, and this tenant may not use the balanced tier."
    )
    assert caught.value.retry_after_seconds == 1.0


async def test_calls_that_cannot_be_settled_are_bounded(bench: Bench) -> None:
    """When as many settlements wait as may, nothing more is begun without the governor."""
    bench.governor.failure = DOWN
    for _ in range(4):
        await bench.reasoning.Generate(call_request("offline"), timeout=_TIMEOUT)
    assert bench.settlements.full
    with pytest.raises(errors.DependencyUnavailable):
        await bench.reasoning.Generate(call_request("offline"), timeout=_TIMEOUT)


def _fall_after_admission(bench: Bench, failure: errors.MeshError) -> None:
    def admit_and_fall(request: governor_pb.AdmitRequest) -> governor_pb.AdmitResponse:
        bench.governor.failure = failure
        return allow(request)

    bench.governor.decide = admit_and_fall


async def _generate(bench: Bench) -> pb.GenerateResponse:
    return await bench.reasoning.Generate(call_request(spend_key="k"), timeout=_TIMEOUT)


async def _stream(bench: Bench) -> pb.GenerateResponse:
    request = pb.GenerateStreamRequest(request=call_request(spend_key="k"))
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
    assert response.usage.cost_micros == COST_MICROS
    await let_settle(bench)
    await eventually(lambda: bench.clock.sleeping == 1)
    bench.governor.failure = None
    await bench.clock.advance(0.1)
    settled = await eventually(lambda: bench.governor.settled)
    assert [(each.key, each.usage.output_tokens) for each in settled] == [("k", OUTPUT_TOKENS)]
    assert bench.governor.released == []


async def test_a_charge_that_the_governor_refuses_does_not_take_the_answer(bench: Bench) -> None:
    """The model was paid for it: the caller gets it at the price of the list."""
    _fall_after_admission(bench, errors.NoPrice("The model 'paid' has no price."))
    response = await _generate(bench)
    assert list(response.degradations) == [SETTLED_LATER]
    assert response.usage.cost_micros == COST_MICROS


@pytest.mark.parametrize("left_seconds", [0.0, 0.04])
async def test_a_caller_without_time_tells_nothing_about_the_governor(
    bench: Bench, left_seconds: float
) -> None:
    """Its call fails, and gives back what it may have reserved; the governor rules the others."""
    bench.governor.failure = _LATE
    asked = GenerationRequest(
        Prompt(call_request().messages, ()), "paid", None, Spending("default", "service:test", "k")
    )
    with deadline.limit(left_seconds), pytest.raises(errors.DeadlineExceeded):
        await bench.reasoner.generate(asked)
    await let_settle(bench)
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
        await bench.reasoning.Generate(call_request(), timeout=_TIMEOUT)
