"""When a model fails: the next of its tier, then a cheaper tier, then an emergency answer."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar

from meshkit import deadline
from meshkit.errors import BreakerOpen, DeadlineExceeded, MeshError
from meshkit.time_limit import within
from services.reasoning.generation import Generation, Generator, ModelCall
from services.reasoning.model import ModelSpec, Tier
from services.reasoning.provider_failures import Failure, failure_of, provider_failure
from services.reasoning.spend_keys import key_of_another

_T = TypeVar("_T")
_WHICH: Final = {
    Failure.UNREACHABLE: "could not be reached",
    Failure.OVERLOADED: "has too much to do",
    Failure.SERVER_ERROR: "failed",
    Failure.TIMEOUT: "did not answer in time",
    Failure.BROKEN_ANSWER: "did not answer whole",
    Failure.UNFIT_ANSWER: "gave no answer of the form that was asked for",
    Failure.RATE_LIMITED: "is at the limit of what its provider allows",
    Failure.UNAUTHORISED: "does not accept the key of this mesh",
    Failure.NO_MODEL: "is not known to its provider",
}
_BREAKER_OPEN: Final = "failed before and is left alone"
# The dearest first.
_TIERS: Final = sorted(Tier, reverse=True)
_RULES: Final = "It goes by rules and is no language model."
# What is kept of the caller's time for those who come next, and the most of it, in seconds.
_KEPT_SHARE: Final = 0.1
_KEPT_MOST_SECONDS: Final = 5.0


class EmergencyAnswers(Protocol):
    """What was answered to the same request before."""

    def keep(self, call: ModelCall, generation: Generation) -> None:
        """Keeps an answer for some time."""
        ...

    async def find(self, call: ModelCall) -> Generation | None:
        """The last answer to the same request of the same tenant, which says how old it is."""
        ...


@dataclass(frozen=True, slots=True)
class Degrading:
    """What may be done rather than fail."""

    # Models of cheaper tiers.
    to_cheaper_tiers: bool = True
    # None for never.
    to_last_answer: EmergencyAnswers | None = None
    # The offline model, also where no tier names it; None for never.
    to_offline: ModelSpec | None = None


class FallbackModel:
    """A Generator that says in each answer what was done instead of what was asked.

    A request that no model would take is not tried elsewhere, and a call of a model by
    its name goes to no other one. A model that says nothing does not use up the time that
    the next one needs.
    """

    def __init__(
        self,
        inner: Generator,
        *,
        models: Callable[[Tier], Sequence[ModelSpec]],
        refusal: Callable[[str], MeshError | None],
        degrading: Degrading,
    ) -> None:
        """Falls back from one call of `inner` to the next.

        Args:
            inner: Makes each call, admitted and settled by itself.
            models: Those of a tier that can be called, the preferred one first.
            refusal: Why a model's endpoint would refuse a call now; None where it may go out.
            degrading: What may be done rather than fail.
        """
        self._inner: Final = inner
        self._models: Final = models
        self._refusal: Final = refusal
        self._degrading: Final = degrading

    async def generate(self, call: ModelCall) -> Generation:
        """Makes the call, or the next best. Raises what the first one raised."""
        reason = self._refusal(call.model.name)
        if reason is None:
            try:
                patience = _patience_with_the_first(has_others=self._has_others(call))
                answering = self._inner.generate(call)
                return self._kept(call, await _in_time(call, answering, patience))
            except MeshError as error:
                if not _helps_elsewhere(error):
                    raise
                reason = error
        others = self._instead(call)
        for number, instead in enumerate(others, 1):
            if self._refusal(instead.model.name) is None:
                try:
                    patience = _patience_with_another(len(others) - number)
                    answering = self._inner.generate(instead)
                    generation = await _in_time(instead, answering, patience)
                except MeshError:
                    continue
                return _said(call, generation, reason)
        emergency = await self._emergency(call)
        if emergency is None:
            raise reason
        return emergency

    async def stream(self, call: ModelCall) -> AsyncGenerator[str | Generation]:
        """As `generate`, as long as nothing was answered."""
        reason = self._refusal(call.model.name)
        if reason is None:
            begun = False
            try:
                patience = _patience_with_the_first(has_others=self._has_others(call))
                async with aclosing(self._inner.stream(call)) as updates:
                    update = await _in_time(call, anext(updates, None), patience)
                    while update is not None:
                        begun = True
                        yield self._kept(call, update) if isinstance(update, Generation) else update
                        update = await anext(updates, None)
                return
            except MeshError as error:
                if begun or not _helps_elsewhere(error):
                    raise
                reason = error
        others = self._instead(call)
        for number, instead in enumerate(others, 1):
            if self._refusal(instead.model.name) is None:
                begun = False
                try:
                    patience = _patience_with_another(len(others) - number)
                    async with aclosing(self._inner.stream(instead)) as updates:
                        update = await _in_time(instead, anext(updates, None), patience)
                        while update is not None:
                            begun = True
                            if isinstance(update, Generation):
                                yield _said(call, update, reason)
                            else:
                                yield update
                            update = await anext(updates, None)
                    return
                except MeshError:
                    if begun:
                        raise
        emergency = await self._emergency(call)
        if emergency is None:
            raise reason
        for part in emergency.completion.message.parts:
            if part.text:
                yield part.text
        yield emergency

    def _has_others(self, call: ModelCall) -> bool:
        return next(self._others(call), None) is not None

    def _instead(self, call: ModelCall) -> list[ModelCall]:
        """The calls to make instead, in order."""
        return [_call_of(call, model, tier) for model, tier in self._others(call)]

    def _others(self, call: ModelCall) -> Iterator[tuple[ModelSpec, Tier]]:
        """The models to call instead, in order, and for which tier."""
        if call.named:
            return
        tried = {call.model.name}
        tiers = [tier for tier in _TIERS if tier <= call.tier]
        for tier in tiers if self._degrading.to_cheaper_tiers else tiers[:1]:
            for model in self._models(tier):
                if model.name not in tried:
                    tried.add(model.name)
                    yield model, tier
        offline = self._degrading.to_offline
        if offline is not None and offline.name not in tried:
            yield offline, call.tier

    async def _emergency(self, call: ModelCall) -> Generation | None:
        answers = self._degrading.to_last_answer
        return await answers.find(call) if answers is not None else None

    def _kept(self, call: ModelCall, generation: Generation) -> Generation:
        answers = self._degrading.to_last_answer
        if answers is not None:
            answers.keep(call, generation)
        return generation


def _patience_with_the_first(*, has_others: bool) -> float | None:
    """How long it may say nothing, in seconds; None where that is the caller's affair."""
    left = deadline.remaining_seconds()
    if left is None or not has_others:
        return None
    return left - min(left * _KEPT_SHARE, _KEPT_MOST_SECONDS)


def _patience_with_another(others: int) -> float | None:
    """Its share of what is left, where `others` follow it."""
    left = deadline.remaining_seconds()
    return None if left is None or not others else left / (others + 1)


async def _in_time(call: ModelCall, answering: Awaitable[_T], seconds: float | None) -> _T:
    if seconds is None:
        return await answering
    try:
        # The endpoint is judged as where its caller had no more time.
        with deadline.limit(seconds), within(seconds):
            return await answering
    except (TimeoutError, DeadlineExceeded) as error:
        # Calls over gRPC give up by themselves, a moment before. The caller has time left.
        raise provider_failure(
            Failure.TIMEOUT,
            provider=call.model.provider,
            model=call.model.name,
            why=f"did not answer within {seconds:.3g} s",
        ) from error


def _helps_elsewhere(error: MeshError) -> bool:
    """Whether another model may do what one did not."""
    return isinstance(error, BreakerOpen) or failure_of(error) not in (None, Failure.REJECTED)


def _call_of(call: ModelCall, model: ModelSpec, tier: Tier) -> ModelCall:
    key = key_of_another(call.spending.key, model.name)
    return replace(call, model=model, tier=tier, spending=replace(call.spending, key=key))


def _said(call: ModelCall, generation: Generation, reason: MeshError) -> Generation:
    """`generation` with what was done instead."""
    failure = failure_of(reason)
    which = _BREAKER_OPEN if failure is None else _WHICH.get(failure, "failed")
    by, instead_of = generation.model.name, call.model.name
    if generation.tier != call.tier:
        by += f" of the {generation.tier.name.lower()} tier"
        instead_of += f" of the {call.tier.name.lower()} one"
    sentence = f"Answered by {by} instead of {instead_of}, which {which}."
    if generation.model.provider == "offline":
        sentence += f" {_RULES}"
    return replace(generation, degradations=(sentence, *generation.degradations))
