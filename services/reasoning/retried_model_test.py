"""What may go well a moment later is tried again, within bounds."""

import asyncio
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit import deadline
from meshkit.errors import BreakerOpen, InvalidField, MeshError, ProviderFailed, RateLimited
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from services.reasoning.extra_calls import ExtraCalls
from services.reasoning.generation import Generation, ModelCall
from services.reasoning.provider_failures import (
    PASSING,
    Failure,
    TokensUsed,
    having_used,
    used_by,
)
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

_CALL: Final = call_of(spec("large"))


def _retried(
    inner: ScriptedGenerator,
    clock: FakeClock,
    *,
    attempts: int = 3,
    extra: ExtraCalls | None = None,
    random: Callable[[], float] = lambda: 1.0,
) -> RetriedModel:
    saved = extra or ExtraCalls(10, most=5)
    return RetriedModel(
        inner,
        attempts=attempts,
        extra=lambda _: saved,
        pause_seconds=0.2,
        longest_pause_seconds=5.0,
        random=random,
        clock=clock,
    )


class _Failing:
    """Fails so often, and works from then on."""

    def __init__(self, error: MeshError, times: int) -> None:
        self._error: Final = error
        self._times = times

    async def __call__(self, call: ModelCall) -> None:
        if self._times:
            self._times -= 1
            raise self._error


@pytest.mark.parametrize("failure", sorted(PASSING))
async def test_what_passes_is_tried_again_after_a_growing_pause(failure: Failure) -> None:
    """At most 0.2 s before the second attempt, 0.4 s before the third."""
    inner, clock = ScriptedGenerator(), FakeClock()
    inner.script = _Failing(failing(failure), 2)
    answering = asyncio.ensure_future(_retried(inner, clock).generate(_CALL))
    for pause in (0.2, 0.4):
        await eventually(lambda: clock.sleeping == 1)
        await clock.advance(pause)
    assert await answering == answer(_CALL)
    assert inner.calls == [_CALL] * 3


@pytest.mark.parametrize(
    "error",
    [
        *(failing(failure) for failure in Failure if failure not in PASSING),
        BreakerOpen("Left alone.", retry_after_seconds=1.0),
        InvalidField("messages", "must not be empty"),
    ],
    ids=repr,
)
async def test_nothing_else_is_tried_again(error: MeshError) -> None:
    """The caller hears of it at once."""
    inner = ScriptedGenerator()
    inner.script = _Failing(error, 1)
    with pytest.raises(type(error)) as caught:
        await _retried(inner, FakeClock()).generate(_CALL)
    assert caught.value is error
    assert len(inner.calls) == 1


async def test_the_last_attempts_error_is_the_callers() -> None:
    """After as many as are allowed."""
    inner, clock = ScriptedGenerator(), FakeClock()
    inner.script = _Failing(failing(Failure.OVERLOADED), 9)
    with pytest.raises(ProviderFailed):
        await _retried(inner, clock, random=lambda: 0.0).generate(_CALL)
    assert len(inner.calls) == 3


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_failed_attempts_used_is_known_where_the_last_is_broken_off(
    streamed: bool,
) -> None:
    """They are part of the one charge."""
    inner, clock, held = ScriptedGenerator(), FakeClock(), asyncio.Event()

    async def fail_and_wait(call: ModelCall) -> None:
        if len(inner.calls) == 1:
            raise having_used(failing(Failure.BROKEN_ANSWER), TokensUsed(12, 5, 4))
        await held.wait()

    inner.script = fail_and_wait
    model = _retried(inner, clock)
    made = until_broken(model.stream(_CALL)) if streamed else model.generate(_CALL)
    calling = asyncio.ensure_future(made)
    await eventually(lambda: clock.sleeping == 1)
    await clock.advance(0.2)
    await eventually(lambda: len(inner.calls) == 2)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await calling
    assert used_by(caught.value) == TokensUsed(12, 5, 4)


async def test_it_comes_back_when_the_provider_said_and_not_before() -> None:
    """With the pause of its own on top, so that not all come at that moment."""
    inner, clock = ScriptedGenerator(), FakeClock()
    inner.script = _Failing(failing(Failure.OVERLOADED, after=3.0), 1)
    answering = asyncio.ensure_future(_retried(inner, clock).generate(_CALL))
    await eventually(lambda: clock.sleeping == 1)
    await clock.advance(3.1)
    assert not answering.done()
    await clock.advance(0.1)
    assert await answering == answer(_CALL)


async def test_it_gives_up_at_once_where_the_caller_would_not_wait_so_long() -> None:
    """A retry after the deadline helps nobody."""
    inner, clock = ScriptedGenerator(), FakeClock()
    inner.script = _Failing(failing(Failure.OVERLOADED, after=3.0), 1)
    with deadline.limit(3.0), pytest.raises(ProviderFailed):
        await _retried(inner, clock).generate(_CALL)
    assert len(inner.calls) == 1


async def test_a_stream_is_tried_again_only_before_its_first_piece() -> None:
    """What a caller has seen is not said twice."""
    inner, clock = ScriptedGenerator(), FakeClock()
    inner.script = _Failing(failing(Failure.UNREACHABLE), 1)
    retried = _retried(inner, clock, random=lambda: 0.0)
    updates = [update async for update in retried.stream(_CALL)]
    assert updates == [*TEXT.split(" "), answer(_CALL)]
    assert len(inner.calls) == 2
    inner.then = _Failing(failing(Failure.BROKEN_ANSWER), 1)
    seen, error = await until_broken(retried.stream(_CALL))
    assert isinstance(error, ProviderFailed)
    assert seen == ["All"]
    assert len(inner.calls) == 3


async def test_half_of_all_calls_failing_for_a_minute_makes_a_fifth_more_at_most() -> None:
    """And in the minute after it there are as many as without."""
    inner, clock = ScriptedGenerator(), FakeClock()
    made: list[float] = []
    number = 0

    async def every_other_fails(call: ModelCall) -> None:
        nonlocal number
        number += 1
        made.append(clock.monotonic_seconds())
        if clock.monotonic_seconds() < 60 and number % 2:
            raise failing(Failure.SERVER_ERROR)

    inner.script = every_other_fails
    retried = _retried(inner, clock, attempts=5, random=lambda: 0.5)
    answering: list[asyncio.Task[Generation]] = []
    asked = 0
    for _ in range(120):
        for _ in range(10):
            answering.append(asyncio.create_task(retried.generate(_CALL)))
            asked += 1
        await clock.advance(1.0)
    await clock.advance(30.0)
    assert asked == 1200
    await asyncio.gather(*answering, return_exceptions=True)
    in_the_bad_minute = sum(at < 60 for at in made)
    after_it = sum(65 <= at < 120 for at in made)
    assert 600 < in_the_bad_minute <= 1.2 * 600
    assert after_it == 550


@given(st.lists(st.booleans(), max_size=500), st.integers(0, 20))
def test_extra_calls_are_never_more_than_their_share(tries: list[bool], percent: int) -> None:
    """Whatever the order, but for the few that are saved up."""
    extra, calls, extras = ExtraCalls(percent, most=5), 0, 0
    for wants in tries:
        extra.earn()
        calls += 1
        extras += wants and extra.spend()
    assert extras <= 5 + calls * percent / 100 + 1e-6
    if percent == 0:
        assert extras == 0


async def test_a_limit_of_the_provider_is_not_answered_with_more_calls() -> None:
    """RATE_LIMITED goes to the caller, or to another model."""
    inner = ScriptedGenerator()
    inner.script = _Failing(failing(Failure.RATE_LIMITED, after=0.1), 1)
    with pytest.raises(RateLimited):
        await _retried(inner, FakeClock()).generate(_CALL)
    assert len(inner.calls) == 1
