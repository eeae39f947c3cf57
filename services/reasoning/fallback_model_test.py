"""Where a model fails another answers, and the answer says so."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import pytest

from meshkit import deadline
from meshkit.errors import (
    BreakerOpen,
    BudgetExhausted,
    DeadlineExceeded,
    InvalidField,
    MeshError,
    ProviderFailed,
)
from services.reasoning.fallback_model import Degrading, FallbackModel
from services.reasoning.generation import Generation, ModelCall
from services.reasoning.model import ModelSpec, Tier
from services.reasoning.provider_failures import Failure
from services.reasoning.scripted_generator import (
    TEXT,
    ScriptedGenerator,
    answer,
    call_of,
    failing,
    spec,
    until_broken,
)

_LARGE: Final = spec("large")
_OTHER: Final = spec("other")
_SMALL: Final = spec("small")
_OFFLINE: Final = spec("offline", "offline")
_TIERS: Final[Mapping[Tier, Sequence[ModelSpec]]] = {
    Tier.POWERFUL: [_LARGE, _OTHER],
    Tier.BALANCED: [_OTHER],
    Tier.FAST: [_SMALL],
}
_CALL: Final = call_of(_LARGE, Tier.POWERFUL, key="t/1/1")


class _Kept:
    """Keeps answers, and gives one out again."""

    def __init__(self, found: Generation | None) -> None:
        self.kept: Final[list[Generation]] = []
        self._found: Final = found

    def keep(self, call: ModelCall, generation: Generation) -> None:
        self.kept.append(generation)

    async def find(self, call: ModelCall) -> Generation | None:
        return self._found


class _Bench:
    """A chain, the errors of its models, and those that would refuse."""

    def __init__(self, degrading: Degrading | None = None) -> None:
        self.inner: Final = ScriptedGenerator()
        self.inner.script = self._script
        self.errors: Final[dict[str, MeshError]] = {}
        self.refusals: Final[dict[str, MeshError]] = {}
        self.model: Final = FallbackModel(
            self.inner,
            models=lambda tier: _TIERS[tier],
            refusal=self.refusals.get,
            degrading=degrading or Degrading(),
        )

    @property
    def called(self) -> list[str]:
        return [call.model.name for call in self.inner.calls]

    async def _script(self, call: ModelCall) -> None:
        if error := self.errors.get(call.model.name):
            raise error


@pytest.mark.parametrize(
    ("failure", "which"),
    [
        (Failure.UNREACHABLE, "could not be reached"),
        (Failure.OVERLOADED, "has too much to do"),
        (Failure.SERVER_ERROR, "failed"),
        (Failure.TIMEOUT, "did not answer in time"),
        (Failure.BROKEN_ANSWER, "did not answer whole"),
        (Failure.RATE_LIMITED, "is at the limit of what its provider allows"),
        (Failure.UNAUTHORISED, "does not accept the key of this mesh"),
        (Failure.NO_MODEL, "is not known to its provider"),
    ],
)
async def test_the_next_model_of_the_tier_answers_and_says_why(
    failure: Failure, which: str
) -> None:
    """The call of the other one has a key of its own, so that it is charged by itself."""
    bench = _Bench()
    bench.errors["large"] = failing(failure)
    generation = await bench.model.generate(_CALL)
    assert generation.model is _OTHER
    assert generation.degradations == (f"Answered by other instead of large, which {which}.",)
    assert [call.spending.key for call in bench.inner.calls] == ["t/1/1", "t/1/1#other"]


@pytest.mark.parametrize("streams", [False, True])
async def test_a_model_that_says_nothing_leaves_the_next_ones_time(streams: bool) -> None:
    """A tenth of what its caller has, which they share; whoever was too slow is broken off."""
    bench = _Bench(Degrading(to_offline=_OFFLINE))

    async def hang(call: ModelCall) -> None:
        if call.model is not _OFFLINE:
            await asyncio.Event().wait()

    bench.inner.script = hang
    begun = time.monotonic()
    with deadline.limit(1.0):
        if streams:
            seen, error = await until_broken(bench.model.stream(_CALL))
            assert error is None
            generation = seen[-1]
        else:
            generation = await bench.model.generate(_CALL)
    assert isinstance(generation, Generation)
    assert generation.degradations == (
        "Answered by offline instead of large, which did not answer in time."
        " It goes by rules and is no language model.",
    )
    assert [call.model.name for call in bench.inner.left] == ["large", "other", "small"]
    assert time.monotonic() - begun >= 0.9


@pytest.mark.parametrize("streams", [False, True])
async def test_a_call_that_ends_itself_in_time_leaves_the_next_ones_time_too(
    streams: bool,
) -> None:
    """Calls over gRPC give up a moment before the time that they were given."""
    bench = _Bench()

    async def give_up(call: ModelCall) -> None:
        if call.model is _LARGE:
            await asyncio.sleep(deadline.timeout_for(60.0))
            raise DeadlineExceeded("It did not answer in the time that was left.")

    bench.inner.script = give_up
    with deadline.limit(0.5):
        if streams:
            seen, error = await until_broken(bench.model.stream(_CALL))
            assert error is None
            generation = seen[-1]
        else:
            generation = await bench.model.generate(_CALL)
    assert isinstance(generation, Generation)
    assert generation.degradations == (
        "Answered by other instead of large, which did not answer in time.",
    )


async def test_a_stream_that_has_begun_has_all_of_its_callers_time() -> None:
    """What it says slowly is not broken off for somebody else."""
    bench = _Bench()

    async def past_its_patience(call: ModelCall) -> None:
        left = deadline.remaining_seconds()
        assert left is not None
        await asyncio.sleep(left - 0.01)

    bench.inner.then = past_its_patience
    with deadline.limit(0.2):
        seen, error = await until_broken(bench.model.stream(_CALL))
    assert error is None
    assert seen[-1] == answer(_CALL)
    assert bench.inner.left == []


async def test_a_model_without_another_has_all_of_its_callers_time() -> None:
    """So has one that was named."""
    bench = _Bench()

    async def slow(call: ModelCall) -> None:
        left = deadline.remaining_seconds()
        assert left is not None
        await asyncio.sleep(left - 0.01)

    bench.inner.script = slow
    with deadline.limit(0.2):
        generation = await bench.model.generate(replace(_CALL, named=True))
    assert generation.degradations == ()


async def test_a_model_whose_breaker_is_open_is_not_asked() -> None:
    """Neither the first nor the next ones; each model is tried once, cheaper tiers last."""
    bench = _Bench()
    for name in ("large", "other"):
        bench.refusals[name] = BreakerOpen("Left alone.", retry_after_seconds=9.0)
    generation = await bench.model.generate(_CALL)
    assert bench.called == ["small"]
    assert generation.tier is Tier.FAST
    assert generation.degradations == (
        "Answered by small of the fast tier instead of large of the powerful one,"
        " which failed before and is left alone.",
    )


async def test_where_all_fail_the_first_error_is_the_callers() -> None:
    """With when to come again; every model was tried once."""
    bench = _Bench()
    bench.refusals["large"] = BreakerOpen("Left alone.", retry_after_seconds=9.0)
    bench.errors["other"] = failing(Failure.TIMEOUT, "other")
    bench.errors["small"] = BudgetExhausted("Spent.")
    with pytest.raises(BreakerOpen) as caught:
        await bench.model.generate(_CALL)
    assert caught.value.retry_after_seconds == 9.0
    assert bench.called == ["other", "small"]


@pytest.mark.parametrize(
    "error", [failing(Failure.REJECTED), BudgetExhausted("Spent."), InvalidField("model", "x")]
)
async def test_what_no_model_would_do_is_not_tried_elsewhere(error: MeshError) -> None:
    """A request that is wrong, and one that nobody pays for."""
    bench = _Bench()
    bench.errors["large"] = error
    with pytest.raises(type(error)):
        await bench.model.generate(_CALL)
    assert bench.called == ["large"]


async def test_a_model_that_was_named_is_called_or_fails() -> None:
    """Who names a model wants that one."""
    bench = _Bench()
    bench.errors["large"] = failing(Failure.UNREACHABLE)
    named = ModelCall(_CALL.prompt, _LARGE, Tier.POWERFUL, _CALL.spending, named=True)
    with pytest.raises(ProviderFailed):
        await bench.model.generate(named)
    assert bench.called == ["large"]


async def test_cheaper_tiers_are_left_out_where_the_settings_say_so() -> None:
    """Then the tier's own models are all there is."""
    bench = _Bench(Degrading(to_cheaper_tiers=False))
    bench.errors.update(large=failing(Failure.TIMEOUT), other=failing(Failure.TIMEOUT))
    with pytest.raises(ProviderFailed):
        await bench.model.generate(_CALL)
    assert bench.called == ["large", "other"]


async def test_a_stream_falls_back_before_its_first_piece_only() -> None:
    """Half an answer of one model is not followed by another's."""
    bench = _Bench()
    bench.errors["large"] = failing(Failure.UNREACHABLE)
    updates = [update async for update in bench.model.stream(_CALL)]
    assert updates[:-1] == TEXT.split(" ")
    assert isinstance(updates[-1], Generation)
    assert updates[-1].degradations == (
        "Answered by other instead of large, which could not be reached.",
    )

    bench = _Bench()

    async def breaks(call: ModelCall) -> None:
        raise failing(Failure.BROKEN_ANSWER)

    bench.inner.then = breaks
    seen, error = await until_broken(bench.model.stream(_CALL))
    assert isinstance(error, ProviderFailed)
    assert seen == ["All"]
    assert bench.called == ["large"]


async def test_at_the_end_stands_the_last_answer_to_the_same_request() -> None:
    """Good answers are kept, those of other models are not."""
    last = answer(_CALL, "What was said before.")
    kept = _Kept(last)
    bench = _Bench(Degrading(to_last_answer=kept))
    assert await bench.model.generate(_CALL) == answer(_CALL)
    bench.errors["large"] = failing(Failure.UNREACHABLE)
    assert (await bench.model.generate(_CALL)).model is _OTHER
    assert kept.kept == [answer(_CALL)]
    bench.errors.update(other=failing(Failure.TIMEOUT), small=failing(Failure.TIMEOUT))
    assert await bench.model.generate(_CALL) is last
    assert [update async for update in bench.model.stream(_CALL)] == ["What was said before.", last]


async def test_the_offline_model_answers_and_says_what_it_is() -> None:
    """Only where the settings allow it, and after every other model."""
    bench = _Bench(Degrading(to_offline=_OFFLINE))
    for name in ("large", "other", "small"):
        bench.errors[name] = failing(Failure.UNREACHABLE)
    generation = await bench.model.generate(_CALL)
    assert bench.called == ["large", "other", "small", "offline"]
    assert generation.degradations == (
        "Answered by offline instead of large, which could not be reached."
        " It goes by rules and is no language model.",
    )
