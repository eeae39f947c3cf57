"""Calls under a lease ask nobody, cost what the price list says, and are settled together."""

from collections.abc import AsyncIterator

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.common.v1.conversation_pb2 import ROLE_USER, Message, Part
from agentmesh.governor.v1 import cost_governor_service_pb2 as governor_pb
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit import errors
from meshtest.eventually import eventually
from services.reasoning.budgeted_model import UNGOVERNED
from services.reasoning.fixture_reasoning import Bench, reasoning_bench
from services.reasoning.model import Tier
from services.reasoning.scripted_governor import PRICE_VERSION, allow, grant_all
from services.reasoning.token_estimate import prompt_tokens

_TIMEOUT = 60.0
_MESSAGE = Message(role=ROLE_USER, parts=[Part(text="Hello")])
_INPUT_TOKENS = prompt_tokens([_MESSAGE], ())
_OUTPUT_TOKENS = 5  # of "All is well today."
_COST_MICROS = 2 * (_INPUT_TOKENS + _OUTPUT_TOKENS)
# As many as are worth a lease.
_CALLS = 4


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A service that has a lease for its chat."""
    async with reasoning_bench() as bench:
        bench.governor.grant = grant_all
        for _ in range(_CALLS):
            await _generate(bench)
        await eventually(lambda: bench.clock.sleeping == 1)
        yield bench


async def _generate(bench: Bench, key: str = "", **fields: object) -> pb.GenerateResponse:
    request = pb.GenerateRequest(
        messages=[_MESSAGE], model="paid", task_type="chat", agent="helper", spend_key=key
    )
    request.MergeFrom(pb.GenerateRequest(**fields))  # pyright: ignore[reportArgumentType]
    return await bench.reasoning.Generate(request, timeout=_TIMEOUT)


async def _settled(bench: Bench, count: int) -> list[tuple[str, int]]:
    """Key and part of the lease of the last settlements."""
    await eventually(lambda: bench.clock.sleeping >= 2)
    await bench.clock.advance(0.1)
    await eventually(lambda: len(bench.governor.settled) == _CALLS + count)
    return [(each.key, each.leased_micros) for each in bench.governor.settled[_CALLS:]]


async def test_a_leased_call_is_answered_without_the_governor(bench: Bench) -> None:
    """Its cost is the price list's, and its settlement says under which lease and prices."""
    response = await _generate(bench, "k", session="s1")
    assert response.usage.cost_micros == _COST_MICROS
    assert list(response.degradations) == []
    assert len(bench.governor.admitted) == _CALLS
    assert await _settled(bench, 1) == [("k", _COST_MICROS)]
    settled = bench.governor.settled[-1]
    assert (settled.lease, settled.price_version, settled.tier, settled.session) == (
        bench.governor.lease_requests[0].lease,
        PRICE_VERSION,
        tier_pb2.MODEL_TIER_BALANCED,
        "s1",
    )
    assert settled.call_time.ToJsonString() == "2026-01-01T00:00:00Z"
    assert (settled.task_type, settled.agent) == ("chat", "helper")
    assert settled.usage.output_tokens == _OUTPUT_TOKENS


async def test_what_was_cached_costs_less_of_the_lease(bench: Bench) -> None:
    """Half the price in this list; the settlement says how much of the input it was."""
    bench.provider.cached_input_tokens = 2
    response = await _generate(bench, "k")
    assert response.usage.cost_micros == _COST_MICROS - 2
    assert response.usage.cached_input_tokens == 2
    assert await _settled(bench, 1) == [("k", _COST_MICROS - 2)]
    assert bench.governor.settled[-1].usage.cached_input_tokens == 2


async def test_a_key_that_came_before_is_asked_for(bench: Bench) -> None:
    """The governor answers another key where the first is settled: that is charged besides."""
    await _generate(bench, "k")

    def decide(request: governor_pb.AdmitRequest) -> governor_pb.AdmitResponse:
        response = allow(request)
        response.reservation.key = "k#2"
        return response

    bench.governor.decide = decide
    await _generate(bench, "k")
    assert bench.governor.admitted[-1].key == "k"
    assert bench.governor.settled[-1].key == "k#2"
    assert bench.governor.settled[-1].lease == ""


async def test_a_leased_call_that_fails_costs_nothing_and_tells_nobody(bench: Bench) -> None:
    """What was set aside for it is free again."""
    bench.provider.failure = errors.ProviderFailed("It broke.", metadata={"provider": "scripted"})
    with pytest.raises(errors.ProviderFailed):
        await _generate(bench, "k")
    await bench.clock.advance(0.2)
    assert bench.governor.released == []
    assert len(bench.governor.settled) == _CALLS


async def test_a_leased_stream_is_charged_at_its_end(bench: Bench) -> None:
    """As a call without pieces is."""
    request = pb.GenerateRequest(
        messages=[_MESSAGE], model="paid", task_type="chat", agent="helper", spend_key="k"
    )
    stream = bench.reasoning.GenerateStream(
        pb.GenerateStreamRequest(request=request), timeout=_TIMEOUT
    )
    *_, last = [each async for each in stream]
    assert last.response.usage.cost_micros == _COST_MICROS
    assert await _settled(bench, 1) == [("k", _COST_MICROS)]


async def test_a_leased_stream_that_is_left_is_charged_for_what_it_produced(bench: Bench) -> None:
    """One word and the prompt."""
    bench.provider.go_on.clear()
    request = pb.GenerateRequest(
        messages=[_MESSAGE], model="paid", task_type="chat", agent="helper", spend_key="k"
    )
    stream = bench.reasoning.GenerateStream(
        pb.GenerateStreamRequest(request=request), timeout=_TIMEOUT
    )
    async for update in stream:
        assert update.text_delta == "All"
        break
    stream.cancel()
    assert await _settled(bench, 1) == [("k", 2 * (_INPUT_TOKENS + 1))]


async def test_a_task_with_a_cap_is_asked_for(bench: Bench) -> None:
    """Its cap is a budget that no lease knows."""
    budget = pb.TaskBudget(task="tenants/default/tasks/t", limit_micros=900)
    await _generate(bench, "k", task_budget=budget)
    assert bench.governor.admitted[-1].task_limit_micros == 900


async def test_a_governor_that_goes_away_is_not_missed_while_the_lease_lasts(bench: Bench) -> None:
    """What was leased is set aside; the settlements wait until it is back."""
    bench.governor.failure = errors.DependencyUnavailable("Redis is down.")
    for number in range(3):
        response = await _generate(bench, f"k{number}")
        assert list(response.degradations) == []
    await eventually(lambda: bench.clock.sleeping >= 2)
    await bench.clock.advance(0.1)
    await eventually(lambda: bench.clock.sleeping >= 2)
    bench.governor.failure = None
    assert await _settled(bench, 3) == [(f"k{number}", _COST_MICROS) for number in range(3)]


async def test_calls_under_a_lease_wait_where_too_many_settlements_do(bench: Bench) -> None:
    """Nothing is begun that may not be told to the governor."""
    bench.governor.failure = errors.DependencyUnavailable("Redis is down.")
    for number in range(4):
        await _generate(bench, f"k{number}")
    assert bench.settlements.full
    with pytest.raises(errors.DependencyUnavailable):
        await _generate(bench, "k4")


async def test_a_tenant_that_fails_closed_is_refused_while_the_governor_is_away(
    bench: Bench,
) -> None:
    """With RetryInfo, even for a model that is free; other tenants' calls go on."""
    bench.governor.failure = errors.DependencyUnavailable("Redis is down.")
    bench.closed_tenants.add("default")
    for model in ("paid", "offline"):
        with pytest.raises(errors.DependencyUnavailable) as caught:
            await _generate(bench, model=model)
        assert caught.value.message == (
            "The cost governor cannot be reached, and this tenant's calls need its consent."
        )
        assert caught.value.retry_after_seconds == 1.0
        assert caught.value.metadata == {"dependency": "governor"}
    bench.closed_tenants.clear()
    assert list((await _generate(bench, agent="other")).degradations) == [UNGOVERNED]


async def test_a_tenant_that_fails_closed_is_asked_for_each_call(bench: Bench) -> None:
    """Even where there is a lease, since it became one."""
    bench.closed_tenants.add("default")
    await _generate(bench, "k")
    assert bench.governor.admitted[-1].key == "k"


async def test_a_tier_that_the_tenant_may_use_no_more_is_asked_for(bench: Bench) -> None:
    """Though its lease, which is older than that, would cover it."""
    bench.forbidden_tiers.add(Tier.BALANCED)
    await _generate(bench, "k")
    assert bench.governor.admitted[-1].key == "k"
    bench.forbidden_tiers.clear()
    await _generate(bench, "k2")
    assert bench.governor.admitted[-1].key == "k"


async def test_the_end_gives_the_lease_back_after_the_last_settlement() -> None:
    """Nothing stays reserved."""
    async with reasoning_bench() as bench:
        bench.governor.grant = grant_all
        for _ in range(_CALLS):
            await _generate(bench)
        await eventually(lambda: bench.clock.sleeping == 1)
        await _generate(bench, "k")
    assert bench.governor.settled[-1].key == "k"
    (released,) = bench.governor.released
    assert (released.key, released.keep_micros) == (bench.governor.lease_requests[0].lease, 0)
