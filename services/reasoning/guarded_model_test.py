"""The chain around a provider, on a real Redis: what is counted, what waits, what goes out."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final

import pytest

from meshkit import deadline, log, redis_store
from meshkit.clock import Clock, SystemClock
from meshkit.errors import (
    BreakerOpen,
    DeadlineExceeded,
    MeshError,
    ProviderFailed,
    RateLimited,
)
from meshkit.ids import RandomIds
from meshkit.redis_line import RedisLine
from meshtest.eventually import eventually
from meshtest.redis_server import RedisServer
from services.reasoning.breaker import Breaker
from services.reasoning.endpoint_limits import EndpointLimits
from services.reasoning.endpoint_standing import BreakerRules
from services.reasoning.endpoint_standings_redis import RedisStandings
from services.reasoning.endpoint_state import Breaker as Position
from services.reasoning.endpoint_state import EndpointState
from services.reasoning.endpoints import Endpoint, Endpoints
from services.reasoning.extra_calls import ExtraCalls
from services.reasoning.generation import ModelCall
from services.reasoning.guarded_model import GuardedModel
from services.reasoning.in_flight import InFlight
from services.reasoning.provider_failures import OF_THE_ENDPOINT, Failure, failure_of
from services.reasoning.retried_model import RetriedModel
from services.reasoning.scripted_generator import (
    TEXT,
    ScriptedGenerator,
    answer,
    call_of,
    failing,
    spec,
    until_broken,
)

pytest_plugins = ["meshtest.fixtures"]

_LARGE: Final = spec("large")
_CALL: Final = call_of(_LARGE)
_RULES: Final = BreakerRules(least_failures=5, pause_seconds=0.2, probes=3)


class _Process:
    """What one process has."""

    def __init__(
        self, line: RedisLine, inner: ScriptedGenerator, slow_seconds: float, rules: BreakerRules
    ) -> None:
        clock: Clock = SystemClock()
        breaker = Breaker(
            "large",
            rules,
            RedisStandings(line, rules, lambda: 1.0),
            stretch=lambda: 1.0,
            clock=clock,
            ids=RandomIds(),
            log=log.get("test", stream=io.StringIO()),
        )
        limits = EndpointLimits(
            _LARGE,
            None,
            InFlight(1000),
            breaker,
            counts_tokens=False,
            patience_seconds=0.1,
            random=lambda: 0.0,
            clock=clock,
        )
        self.endpoints: Final = Endpoints({"large": Endpoint(breaker, limits)})
        self.breaker: Final = breaker
        self.guarded: Final = GuardedModel(
            inner, self.endpoints, slow_seconds=slow_seconds, random=lambda: 0.5, clock=clock
        )
        extra = ExtraCalls(10, most=5)
        self.model: Final = RetriedModel(
            self.guarded,
            attempts=3,
            extra=lambda _: extra,
            pause_seconds=0.0,
            longest_pause_seconds=0.0,
            random=lambda: 0.5,
            clock=clock,
        )


Make = Callable[..., _Process]


@pytest.fixture
async def make(redis_server: RedisServer) -> AsyncIterator[Make]:
    redis = redis_store.connect(redis_server.url)
    made: list[_Process] = []
    async with RedisLine(redis) as line:

        def process(
            inner: ScriptedGenerator, slow_seconds: float = 600.0, rules: BreakerRules = _RULES
        ) -> _Process:
            made.append(_Process(line, inner, slow_seconds, rules))
            return made[-1]

        yield process
        for each in made:
            await each.endpoints.close()
    await redis.aclose()


def _raising(error: MeshError) -> ScriptedGenerator:
    inner = ScriptedGenerator()

    async def script(call: ModelCall) -> None:
        raise error

    inner.script = script
    return inner


async def _outcome(process: _Process) -> str:
    try:
        await process.model.generate(_CALL)
    except MeshError as error:
        return type(error).__name__
    return "answered"


@pytest.mark.parametrize("failure", sorted(OF_THE_ENDPOINT))
async def test_failures_of_the_endpoint_open_its_breaker(make: Make, failure: Failure) -> None:
    """From then on nothing goes out, and lists of models show why."""
    process = make(_raising(failing(failure)), rules=replace(_RULES, pause_seconds=30.0))
    for _ in range(5):
        with pytest.raises((ProviderFailed, BreakerOpen)):
            await process.guarded.generate(_CALL)
    await eventually(lambda: process.breaker.state == "open")
    calls = process.endpoints.state("large")
    assert calls.breaker is Position.OPEN
    assert calls.reason.startswith("The model large fails, and is left alone. Next in ")
    assert process.endpoints.state("offline") == EndpointState()
    with pytest.raises(BreakerOpen):
        await process.guarded.generate(_CALL)


@pytest.mark.parametrize("failure", [Failure.REJECTED, Failure.RATE_LIMITED])
async def test_an_endpoint_that_refuses_a_request_is_in_order(make: Make, failure: Failure) -> None:
    """However often; its breaker stays closed."""
    process = make(_raising(failing(failure, after=0.001)))
    for _ in range(20):
        with pytest.raises(MeshError) as caught:
            await process.guarded.generate(_CALL)
        assert failure_of(caught.value) is failure
    await process.endpoints.close()
    assert process.breaker.state == "closed"


async def test_a_rate_limit_of_the_provider_slows_all_processes_down(make: Make) -> None:
    """For as long as it said."""
    first, second = (
        make(_raising(failing(Failure.RATE_LIMITED, after=30.0))),
        make(ScriptedGenerator()),
    )
    assert await _outcome(second) == "answered"
    assert await _outcome(first) == "RateLimited"

    async def refused() -> float:
        try:
            await second.model.generate(_CALL)
        except RateLimited as error:
            return error.retry_after_seconds or 0.0
        return 0.0

    assert 0 < await eventually(refused) <= 30
    assert second.endpoints.state("large").reason.startswith(
        "The model large (scripted) asked to be left alone for a while. Next in "
    )


async def test_a_callers_short_time_limit_tells_nothing_about_the_endpoint(make: Make) -> None:
    """A long one, in which nothing was heard, does."""
    inner = ScriptedGenerator()

    async def hangs(call: ModelCall) -> None:
        await asyncio.Event().wait()

    inner.script = hangs

    async def cut_short(process: _Process) -> None:
        with deadline.limit(0.5):
            try:
                async with asyncio.timeout(0.5):
                    await process.guarded.generate(_CALL)
            except (TimeoutError, BreakerOpen):
                return

    patient, impatient = make(inner, 600.0), make(inner, 0.1)
    await asyncio.gather(*(cut_short(patient) for _ in range(10)))
    await patient.endpoints.close()
    assert patient.breaker.state == "closed"
    await asyncio.gather(*(cut_short(impatient) for _ in range(10)))
    await eventually(lambda: impatient.breaker.state != "closed")


async def test_a_call_that_ends_itself_in_its_callers_time_is_judged_as_one_that_is_cut_short(
    make: Make,
) -> None:
    """Calls over gRPC give up a moment before the time that they were given."""
    inner = ScriptedGenerator()

    async def gives_up(call: ModelCall) -> None:
        await asyncio.sleep(deadline.timeout_for(60.0))
        raise DeadlineExceeded("It did not answer in the time that was left.")

    inner.script = gives_up

    async def cut_short(process: _Process) -> None:
        with deadline.limit(0.5):
            try:
                await process.guarded.generate(_CALL)
            except (DeadlineExceeded, BreakerOpen):
                return

    patient, impatient = make(inner, 600.0), make(inner, 0.1)
    await asyncio.gather(*(cut_short(patient) for _ in range(10)))
    await patient.endpoints.close()
    assert patient.breaker.state == "closed"
    await asyncio.gather(*(cut_short(impatient) for _ in range(10)))
    await eventually(lambda: impatient.breaker.state != "closed")


async def test_a_stream_that_breaks_off_counts_as_a_failure(make: Make) -> None:
    """One that is left by its reader does not."""
    inner = ScriptedGenerator()
    process = make(inner)
    for _ in range(20):
        stream = process.model.stream(_CALL)
        assert await anext(stream) == "All"
        await stream.aclose()
    assert [update async for update in process.model.stream(_CALL)] == [
        *TEXT.split(" "),
        answer(_CALL),
    ]

    async def breaks(call: ModelCall) -> None:
        raise failing(Failure.BROKEN_ANSWER)

    inner.then = breaks
    for _ in range(30):
        await until_broken(process.model.stream(_CALL))
    await eventually(lambda: process.breaker.state != "closed")


async def test_a_thousand_callers_of_a_half_open_endpoint_are_three_calls(make: Make) -> None:
    """Over two processes, retries included; one that works lets all others through."""
    inner = _raising(failing(Failure.UNREACHABLE))
    processes = [make(inner) for _ in range(2)]
    while await _outcome(processes[0]) != "BreakerOpen":
        pass
    go_on = asyncio.Event()

    async def waits(call: ModelCall) -> None:
        await go_on.wait()

    inner.script = waits
    inner.calls.clear()
    await eventually(lambda: processes[0].breaker.state == "half-open")
    herd = [asyncio.ensure_future(_outcome(processes[number % 2])) for number in range(1000)]
    await eventually(lambda: sum(each.done() for each in herd) == 997)
    assert len(inner.calls) == 3
    go_on.set()
    outcomes = await asyncio.gather(*herd)
    assert (outcomes.count("answered"), outcomes.count("BreakerOpen")) == (3, 997)

    async def both_answer() -> bool:
        return [await _outcome(each) for each in processes] == ["answered", "answered"]

    assert await eventually(both_answer)
