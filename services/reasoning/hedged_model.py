"""Asks a second time where somebody waits and the first call takes unusually long."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from agentmesh.common.v1 import tier_pb2
from meshkit.clock import Clock
from services.reasoning.extra_calls import ExtraCalls
from services.reasoning.generation import Generation, Generator, ModelCall
from services.reasoning.latency_quantile import LatencyQuantile
from services.reasoning.spend_keys import key_of_another

# Pieces that wait for a reader.
_PIECES: Final = 64


class HedgedModel:
    """A Generator for calls of which the quicker of two answers counts.

    The second call is admitted like any other, and only where a budget has room for it
    outright; the slower one is broken off, and settled for what it used.
    """

    def __init__(
        self,
        inner: Generator,
        *,
        hedges: Callable[[str], bool],
        extra: Callable[[str], ExtraCalls],
        quantile: Callable[[], LatencyQuantile],
        clock: Clock,
    ) -> None:
        """Hedges calls of `inner`.

        Args:
            inner: Makes each call, admitted and settled by itself.
            hedges: Whether a second call of that model may go out now.
            extra: How many may be made besides, by the model's name.
            quantile: Makes what learns when a call takes unusually long.
            clock: Measures how long calls take.
        """
        self._inner: Final = inner
        self._hedges: Final = hedges
        self._extra: Final = extra
        self._quantile: Final = quantile
        self._clock: Final = clock
        # Until a whole answer, and until the first piece of a stream.
        self._answers: Final[dict[str, LatencyQuantile]] = {}
        self._first_pieces: Final[dict[str, LatencyQuantile]] = {}
        self._losing: Final[set[asyncio.Task[Any]]] = set()

    async def generate(self, call: ModelCall) -> Generation:
        """Makes the call. Raises what it raises."""
        if call.spending.lane != tier_pb2.LANE_INTERACTIVE or call.spare:
            return await self._inner.generate(call)
        name = call.model.name
        latency = self._answers.get(name) or self._answers.setdefault(name, self._quantile())
        extra = self._extra(name)
        extra.earn()
        begun = self._clock.monotonic_seconds()
        if latency.seconds is None or not self._hedges(name):
            generation = await self._inner.generate(call)
        else:
            generation = await self._quicker(call, latency.seconds, extra)
        latency.record(self._clock.monotonic_seconds() - begun)
        return generation

    def stream(self, call: ModelCall) -> AsyncGenerator[str | Generation]:
        """Makes the call; the stream counts whose first piece is there first."""
        if call.spending.lane != tier_pb2.LANE_INTERACTIVE or call.spare:
            return self._inner.stream(call)
        return self._interactive_stream(call)

    async def close(self) -> None:
        """Breaks off the calls that nobody waits for."""
        for each in self._losing:
            each.cancel()
        if self._losing:
            await asyncio.wait(self._losing)

    async def _interactive_stream(self, call: ModelCall) -> AsyncGenerator[str | Generation]:
        name = call.model.name
        latency = self._first_pieces.get(name)
        latency = latency or self._first_pieces.setdefault(name, self._quantile())
        extra = self._extra(name)
        extra.earn()
        begun = self._clock.monotonic_seconds()
        if latency.seconds is None or not self._hedges(name):
            updates = self._inner.stream(call)
        else:
            updates = self._quicker_stream(call, latency.seconds, extra)
        first = True
        async with aclosing(updates):
            async for update in updates:
                if first:
                    first = False
                    latency.record(self._clock.monotonic_seconds() - begun)
                yield update

    async def _quicker(
        self, call: ModelCall, unusual_seconds: float, extra: ExtraCalls
    ) -> Generation:
        second: asyncio.Task[Generation] | None = None

        def ask_again() -> None:
            nonlocal second
            if self._hedges(call.model.name) and extra.spend():
                second = asyncio.create_task(self._inner.generate(_hedge(call)))
                second.add_done_callback(lambda task: race.won(_failure(task) is None))

        race = _Race(ask_again, unusual_seconds)
        try:
            async with race.limit:
                return await self._inner.generate(call)
        except Exception:
            # It was overtaken, or it failed and leaves it to the other.
            race.end()
            if second is None or await _fails(second):
                raise
            return second.result()
        finally:
            race.end()
            if second is not None:
                self._lose(second)

    async def _quicker_stream(
        self, call: ModelCall, unusual_seconds: float, extra: ExtraCalls
    ) -> AsyncGenerator[str | Generation]:
        second: _Stream | None = None

        def ask_again() -> None:
            nonlocal second
            if self._hedges(call.model.name) and extra.spend():
                second = _Stream(self._inner.stream(_hedge(call)))
                second.begun.add_done_callback(lambda begun: race.won(begun.result()))

        race = _Race(ask_again, unusual_seconds)
        try:
            async with aclosing(self._inner.stream(call)) as updates:
                try:
                    async with race.limit:
                        first = await anext(updates)
                except Exception:
                    race.end()
                    # Whoever leaves meanwhile does not decide what became of it.
                    if second is None or not await asyncio.shield(second.begun):
                        raise
                else:
                    race.end()
                    if second is not None:
                        self._lose(second.task)
                    yield first
                    async for update in updates:
                        yield update
                    return
            async for update in second.updates():
                yield update
        finally:
            race.end()
            if second is not None:
                self._lose(second.task)

    def _lose(self, task: asyncio.Task[Any]) -> None:
        """Breaks a call off; nobody waits until it has ended."""
        if not task.done():
            task.cancel()
            self._losing.add(task)
            task.add_done_callback(self._lost)
        elif not task.cancelled():
            # Whoever lost may have failed; that is nobody's concern.
            task.exception()

    def _lost(self, task: asyncio.Task[Any]) -> None:
        self._losing.discard(task)
        if not task.cancelled():
            task.exception()


class _Race:
    """Starts a second call after a time, and breaks the first off when that one has answered.

    The first runs where it was called, so that one that is quick enough costs little.
    """

    def __init__(self, start: Callable[[], None], after_seconds: float) -> None:
        # A time limit that runs out when the first call is overtaken.
        self.limit: Final = asyncio.timeout(None)
        self._loop: Final = asyncio.get_running_loop()
        self._timer: Final = self._loop.call_later(after_seconds, start)
        self._over = False

    def won(self, well: bool) -> None:
        """The second call is done."""
        if well and not self._over:
            self.limit.reschedule(self._loop.time())

    def end(self) -> None:
        """Nothing is started or broken off any more."""
        self._over = True
        self._timer.cancel()


class _Stream:
    """A stream that runs in a task of its own, from its beginning to its end."""

    def __init__(self, stream: AsyncGenerator[str | Generation]) -> None:
        # Whether there is a first piece; False where it failed before.
        self.begun: Final[asyncio.Future[bool]] = asyncio.get_running_loop().create_future()
        self._pieces: Final[asyncio.Queue[str | Generation | BaseException | None]] = asyncio.Queue(
            _PIECES
        )
        self.task: Final = asyncio.create_task(self._run(stream))

    async def updates(self) -> AsyncGenerator[str | Generation]:
        """What the stream gives."""
        while (piece := await self._pieces.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    async def _run(self, stream: AsyncGenerator[str | Generation]) -> None:
        try:
            async with aclosing(stream):
                async for update in stream:
                    await self._pieces.put(update)
                    self._begin(True)
            await self._pieces.put(None)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            await self._pieces.put(error)
        finally:
            self._begin(False)

    def _begin(self, well: bool) -> None:
        if not self.begun.done():
            self.begun.set_result(well)


def _hedge(call: ModelCall) -> ModelCall:
    key = key_of_another(call.spending.key, "hedge")
    return replace(call, spare=True, spending=replace(call.spending, key=key))


def _failure(task: asyncio.Task[Any]) -> BaseException | None:
    return asyncio.CancelledError() if task.cancelled() else task.exception()


async def _fails(task: asyncio.Task[Any]) -> bool:
    await asyncio.wait((task,))
    return _failure(task) is not None
