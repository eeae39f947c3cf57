"""The parts put together as they are shipped, on a real Redis."""

import io
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, cast

import pytest

from agentmesh.common.v1 import tier_pb2
from meshkit import log, redis_store
from meshkit.clock import SystemClock
from meshkit.errors import MeshError, ProviderFailed
from meshkit.ids import RandomIds
from meshkit.redis_line import RedisLine
from meshkit.service import Resources
from meshtest.eventually import eventually
from meshtest.redis_server import RedisServer
from services.reasoning.catalogue import Catalogue
from services.reasoning.endpoint_rates import RateRules
from services.reasoning.endpoint_state import Breaker as Position
from services.reasoning.generation import Generator, ModelCall
from services.reasoning.model import Tier
from services.reasoning.provider_failures import Failure
from services.reasoning.resilience_parts import EndpointLimitSettings, Resilience
from services.reasoning.resilience_settings import (
    BreakerSettings,
    DegradeSettings,
    HedgeSettings,
    ResilienceSettings,
)
from services.reasoning.scripted_generator import ScriptedGenerator, answer, call_of, failing, spec

pytest_plugins = ["meshtest.fixtures"]

_LARGE: Final = spec("large")
_OTHER: Final = spec("other")
_OFFLINE: Final = spec("offline", "offline")
_SETTINGS: Final = ResilienceSettings(
    breaker=BreakerSettings(pause_seconds=30.0), hedge=HedgeSettings(warm_up=10)
)
Make = Callable[..., Resilience]


@pytest.fixture
async def make(redis_server: RedisServer) -> AsyncIterator[Make]:
    """Parts, each as another process would have them."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_store.connect(redis_server.url))
        line = await stack.enter_async_context(RedisLine(redis))
        resources = Resources(
            stack=stack,
            bus=cast(Any, None),
            redis=redis,
            channels=cast(Any, None),
            clock=SystemClock(),
            ids=RandomIds(),
            log=log.get("test", stream=io.StringIO()),
            data_dir=Path(),
        )
        catalogue = Catalogue(
            [_LARGE, _OTHER, _OFFLINE],
            {Tier.BALANCED: ["large", "other"]},
            default_tier=Tier.BALANCED,
        )
        limits = EndpointLimitSettings(RateRules(600, 1_000_000), 100)

        def parts(settings: ResilienceSettings = _SETTINGS) -> Resilience:
            return Resilience(
                settings,
                catalogue,
                {_LARGE: limits, _OTHER: limits},
                resources,
                line,
                random=lambda: 0.5,
            )

        yield parts


def _whole(parts: Resilience, inner: ScriptedGenerator) -> Generator:
    return parts.around_budgets(parts.around_providers(inner), _OFFLINE)


def _down(*models: str) -> ScriptedGenerator:
    inner = ScriptedGenerator()

    async def script(call: ModelCall) -> None:
        if call.model.name in models:
            raise failing(Failure.TIMEOUT, call.model.name)

    inner.script = script
    return inner


async def _opened(parts: Resilience, model: Generator) -> None:
    async def opened() -> bool:
        await model.generate(call_of(_LARGE))
        return parts.endpoints.state("large").breaker is Position.OPEN

    assert await eventually(opened)


async def test_a_cheaper_tiers_model_is_one_whose_breaker_is_closed(make: Make) -> None:
    """Where all are open it is the preferred one: its failure tells when to come again."""
    parts = make()
    assert parts.first_of(Tier.BALANCED) is _LARGE
    await _opened(parts, _whole(parts, _down("large")))
    assert parts.first_of(Tier.BALANCED) is _OTHER
    assert parts.first_of(Tier.FAST) is None
    both = _down("large", "other")
    for _ in range(20):
        with pytest.raises(MeshError):
            await _whole(parts, both).generate(call_of(_OTHER))
    await eventually(lambda: parts.endpoints.refusal("other"))
    assert parts.first_of(Tier.BALANCED) is _LARGE


async def test_what_others_found_out_is_listed_by_a_process_without_calls(make: Make) -> None:
    """At the second look at the latest."""
    busy, idle = make(), make()
    await _opened(busy, _whole(busy, _down("large")))
    await eventually(lambda: idle.endpoints.state("large").breaker is Position.OPEN)


async def test_the_last_answer_and_the_offline_model_are_as_configured(make: Make) -> None:
    """Neither by default."""
    call = call_of(_LARGE)
    with pytest.raises(ProviderFailed):
        await _whole(make(), _down("large", "other")).generate(call)
    offline = make(ResilienceSettings(degrade=DegradeSettings(to_offline=True)))
    given = await _whole(offline, _down("large", "other")).generate(call)
    assert given.model is _OFFLINE
    kept = make(ResilienceSettings(degrade=DegradeSettings(last_answer_seconds=60)))
    inner = ScriptedGenerator()
    model = _whole(kept, inner)
    assert await model.generate(call) == answer(call)
    inner.script = _down("large", "other").script
    again = await model.generate(call)
    assert again.completion.message == answer(call).completion.message
    assert again.degradations[0].startswith(
        "No model could be reached: this is what large answered to the same request "
    )


async def test_a_slow_call_of_the_interactive_lane_is_made_a_second_time(make: Make) -> None:
    """Through breakers and limits like any other."""
    parts, inner = make(), ScriptedGenerator()
    model = _whole(parts, inner)
    call = call_of(_LARGE, key="t/1/1", lane=tier_pb2.LANE_INTERACTIVE)
    for _ in range(10):
        await model.generate(call)
    inner.calls.clear()

    async def first_hangs(call: ModelCall) -> None:
        await eventually(lambda: call.spare, timeout_seconds=30.0)

    inner.script = first_hangs
    generation = await model.generate(call)
    assert generation.completion == answer(call).completion
    assert [each.spending.key for each in inner.calls] == ["t/1/1", "t/1/1#hedge"]
