"""Calls a model only where its endpoint's breaker and limits let it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from meshkit import deadline
from meshkit.clock import Clock
from meshkit.errors import DeadlineExceeded
from services.reasoning.breaker import Pass
from services.reasoning.endpoints import Endpoint, Endpoints
from services.reasoning.generation import Generation, Generator, ModelCall
from services.reasoning.provider_failures import OF_THE_ENDPOINT, Failure, failure_of

# How a call ends whose caller has no more time: from outside, or by itself.
_OUT_OF_TIME: Final = (asyncio.CancelledError, DeadlineExceeded)
# A caller with no more than this left ran out of its own time.
_NO_TIME_SECONDS: Final = 0.1
# How long an endpoint is left alone that asks for it and does not say how long.
_LEFT_ALONE_SECONDS: Final = 1.0
_MOST_LEFT_ALONE_SECONDS: Final = 600.0


class GuardedModel:
    """A Generator that tells the endpoint's breaker and limits how each call ended."""

    def __init__(
        self,
        inner: Generator,
        endpoints: Endpoints,
        *,
        slow_seconds: float,
        random: Callable[[], float],
        clock: Clock,
    ) -> None:
        """`slow_seconds`: a caller's time limit that ran out counts as the endpoint's failure
        where it had said nothing for so long; one that was shorter tells nothing.

        `random`: from 0 to 1.
        """
        self._inner: Final = inner
        self._endpoints: Final = endpoints
        self._slow_seconds: Final = slow_seconds
        self._random: Final = random
        self._clock: Final = clock

    async def generate(self, call: ModelCall) -> Generation:
        """Makes the call. Raises BreakerOpen, RateLimited, and what the call raises."""
        endpoint = self._endpoints.get(call.model.name)
        if endpoint is None:
            return await self._inner.generate(call)
        tokens, entered = await _enter(endpoint, call)
        used: tuple[int, int] | None = None
        begun = self._clock.monotonic_seconds()
        try:
            generation = await self._inner.generate(call)
            completion = generation.completion
            used = (completion.input_tokens, completion.output_tokens)
            endpoint.breaker.worked(entered)
            return generation
        except BaseException as error:
            self._judge(endpoint, entered, error, begun)
            raise
        finally:
            endpoint.limits.leave(tokens, used)

    async def stream(self, call: ModelCall) -> AsyncGenerator[str | Generation]:
        """As `generate`. A probe has worked when the first piece is there."""
        endpoint = self._endpoints.get(call.model.name)
        if endpoint is None:
            async with aclosing(self._inner.stream(call)) as updates:
                async for update in updates:
                    yield update
            return
        tokens, entered = await _enter(endpoint, call)
        used: tuple[int, int] | None = None
        answers = False
        begun = self._clock.monotonic_seconds()
        try:
            async with aclosing(self._inner.stream(call)) as updates:
                async for update in updates:
                    if not answers:
                        answers = True
                        endpoint.breaker.worked(entered)
                    if isinstance(update, Generation):
                        completion = update.completion
                        used = (completion.input_tokens, completion.output_tokens)
                    yield update
        except BaseException as error:
            if not answers:
                self._judge(endpoint, entered, error, begun)
            elif failure_of(error) in OF_THE_ENDPOINT:
                endpoint.breaker.failed(Pass())
            raise
        finally:
            endpoint.limits.leave(tokens, used)

    def _judge(self, endpoint: Endpoint, entered: Pass, error: BaseException, begun: float) -> None:
        """Tells the breaker what an error says about the endpoint."""
        failure = failure_of(error)
        if failure is Failure.RATE_LIMITED:
            asked = getattr(error, "retry_after_seconds", None)
            seconds = asked or _LEFT_ALONE_SECONDS * (0.5 + self._random())
            endpoint.breaker.slow_down(min(seconds, _MOST_LEFT_ALONE_SECONDS))
            endpoint.breaker.worked(entered)
        elif failure is Failure.TIMEOUT or isinstance(error, _OUT_OF_TIME):
            left = deadline.remaining_seconds()
            out_of_time = left is not None and left <= _NO_TIME_SECONDS
            slow = self._clock.monotonic_seconds() - begun >= self._slow_seconds
            if slow if out_of_time else failure is Failure.TIMEOUT:
                endpoint.breaker.failed(entered)
            else:
                endpoint.breaker.left(entered)
        elif failure in OF_THE_ENDPOINT:
            endpoint.breaker.failed(entered)
        elif failure is Failure.REJECTED:
            # It answers, if not as its caller would like.
            endpoint.breaker.worked(entered)
        else:
            endpoint.breaker.left(entered)


async def _enter(endpoint: Endpoint, call: ModelCall) -> tuple[int, Pass]:
    if (refusal := endpoint.breaker.refusal()) is not None:
        raise refusal
    tokens = await endpoint.limits.enter(call)
    try:
        return tokens, await endpoint.breaker.enter()
    except BaseException:
        endpoint.limits.turn_back(tokens)
        raise
