"""Tries again what may go well a moment later, and no more than a share of all calls."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from meshkit import deadline
from meshkit.clock import Clock
from meshkit.errors import MeshError
from services.reasoning.extra_calls import ExtraCalls
from services.reasoning.generation import Generation, Generator, ModelCall
from services.reasoning.provider_failures import (
    PASSING,
    TokensUsed,
    failure_of,
    having_used,
    used_by,
)

# What another attempt needs at least, of a caller's time.
_LEAST_SECONDS: Final = 0.1
_NOTHING: Final = TokensUsed()


class RetriedModel:
    """A Generator that repeats calls of which nothing was answered yet.

    Within one admission: however often it is tried, a call is charged once, for what all
    its attempts used.
    """

    def __init__(
        self,
        inner: Generator,
        *,
        attempts: int,
        extra: Callable[[str], ExtraCalls],
        pause_seconds: float,
        longest_pause_seconds: float,
        random: Callable[[], float],
        clock: Clock,
    ) -> None:
        """Retries calls of `inner`.

        Args:
            inner: Makes one attempt.
            attempts: The most of one call, the first included.
            extra: How many may be repeated, by the model's name.
            pause_seconds: The most before the second attempt; twice as much each time after.
            longest_pause_seconds: And never more than so.
            random: From 0 to 1.
            clock: For the pauses.
        """
        self._inner: Final = inner
        self._attempts: Final = attempts
        self._extra: Final = extra
        self._pause_seconds: Final = pause_seconds
        self._longest_pause_seconds: Final = longest_pause_seconds
        self._random: Final = random
        self._clock: Final = clock

    async def generate(self, call: ModelCall) -> Generation:
        """Makes the call. Raises what its last attempt raises."""
        extra = self._extra(call.model.name)
        extra.earn()
        attempt, lost = 1, _NOTHING
        while True:
            try:
                return _with_lost(await self._inner.generate(call), lost)
            except asyncio.CancelledError as error:
                if lost != _NOTHING:
                    having_used(error, lost)
                raise
            except MeshError as error:
                pause = self._pause_before_next(attempt, error, extra)
                if pause is None:
                    if lost != _NOTHING:
                        having_used(error, lost)
                    raise
                lost += used_by(error) or _NOTHING
            await self._clock.sleep(pause)
            attempt += 1

    async def stream(self, call: ModelCall) -> AsyncGenerator[str | Generation]:
        """As `generate`. What broke off after its first piece is not tried again."""
        extra = self._extra(call.model.name)
        extra.earn()
        attempt, lost = 1, _NOTHING
        while True:
            answers = False
            try:
                async with aclosing(self._inner.stream(call)) as updates:
                    async for update in updates:
                        answers = True
                        yield _with_lost(update, lost) if isinstance(update, Generation) else update
                return
            except asyncio.CancelledError as error:
                if lost != _NOTHING:
                    having_used(error, lost)
                raise
            except MeshError as error:
                pause = None if answers else self._pause_before_next(attempt, error, extra)
                if pause is None:
                    if lost != _NOTHING:
                        having_used(error, lost)
                    raise
                lost += used_by(error) or _NOTHING
            await self._clock.sleep(pause)
            attempt += 1

    def _pause_before_next(self, attempt: int, error: MeshError, extra: ExtraCalls) -> float | None:
        """How long to wait until the next attempt, in seconds; None where there is none."""
        if attempt >= self._attempts or failure_of(error) not in PASSING:
            return None
        most = min(self._longest_pause_seconds, self._pause_seconds * 2.0 ** (attempt - 1))
        # The whole of the pause is chance: who failed together does not come back together.
        pause = self._random() * most + (error.retry_after_seconds or 0.0)
        left = deadline.remaining_seconds()
        if left is not None and pause + _LEAST_SECONDS > left:
            return None
        return pause if extra.spend() else None


def _with_lost(generation: Generation, lost: TokensUsed) -> Generation:
    """`generation` with what the attempts before it used."""
    if lost == _NOTHING:
        return generation
    completion = generation.completion
    return replace(
        generation,
        completion=replace(
            completion,
            input_tokens=completion.input_tokens + lost.input_tokens,
            output_tokens=completion.output_tokens + lost.output_tokens,
            cached_input_tokens=completion.cached_input_tokens + lost.cached_input_tokens,
        ),
    )
