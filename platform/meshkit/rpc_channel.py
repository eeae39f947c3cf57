"""A channel whose calls need a deadline, carry the identity, and fail with our errors.

It wraps the calls themselves: gRPC's client interceptors start a task or two
for each call, which costs more than the call's own Python part.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar, cast

import grpc

from meshkit import deadline, errors, identity, trace, urgency
from meshkit.constants import (
    AUTHORIZATION_KEY,
    CALLER_KEY,
    TENANT_KEY,
    TRACEPARENT_KEY,
    UNREACHED_KEY,
    URGENT_KEY,
)
from meshkit.peer_status import PeerStatus
from meshkit.time_limit import within

A = TypeVar("A")
_Metadata = list[tuple[str, str]]
# A proxy says at once that a peer is away: so often is it asked again.
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 0.5
# A call and its first answer, in place of one that failed.
_Again = Callable[[grpc.aio.AioRpcError], Awaitable[tuple[Any, Any]]]


class Unreached(errors.DependencyUnavailable):
    """No instance of the peer was there, and nobody has seen the call."""

    def __init__(self, target: str, details: str, patience_seconds: float) -> None:
        """`patience_seconds`: how long the caller waits for one, within its own time."""
        super().__init__(f"Failed to reach {target}: {details}", metadata={"dependency": target})
        self.patience_seconds: Final = patience_seconds


class RpcChannel(grpc.aio.Channel):
    """Makes the calls of one channel safe. Stubs take it like any channel."""

    def __init__(
        self,
        raw: grpc.aio.Channel,
        *,
        target: str,
        caller: str,
        patience_seconds: float,
        bearer: str = "",
    ) -> None:
        self._raw: Final = raw
        self._target: Final = target

        self._patience_seconds: Final = patience_seconds
        self._always: Final[_Metadata] = [(CALLER_KEY, caller)]
        if bearer:
            self._always.append((AUTHORIZATION_KEY, f"Bearer {bearer}"))

    def unary_unary(self, method: Any, *arguments: Any, **options: Any) -> Any:
        """A function that calls `method` and returns a coroutine with its answer."""
        call: Any = self._raw.unary_unary(method, *arguments, **options)

        async def ask(request: Any, *, timeout: float | None = None) -> Any:
            seconds = self._timeout(method, timeout)
            if self._is_away():
                seconds -= await self._wait(seconds)
            try:
                return await call(request, timeout=seconds, metadata=self._metadata())
            except grpc.aio.AioRpcError as error:
                metadata = self._metadata()
                return await self._again(
                    lambda left: call(request, timeout=left, metadata=metadata),
                    error,
                    method,
                    seconds,
                )

        return ask

    def unary_stream(self, method: Any, *arguments: Any, **options: Any) -> Any:
        """A function that calls `method` and returns its answers, to be iterated over."""
        call: Any = self._raw.unary_stream(method, *arguments, **options)

        def ask(request: Any, *, timeout: float | None = None) -> "Answers[Any]":
            seconds = self._timeout(method, timeout)
            metadata = self._metadata()

            async def first(left: float) -> Any:
                begun = call(request, timeout=left, metadata=metadata)
                return begun, await begun.read()

            return self._answers(
                lambda left: call(request, timeout=left, metadata=metadata),
                lambda error: self._explain(error, method, seconds),
                seconds,
                lambda error: self._again(first, error, method, seconds),
            )

        return ask

    def stream_unary(self, method: Any, *arguments: Any, **options: Any) -> Any:
        """A function that sends what an async iterator gives, and returns the answer."""
        call: Any = self._raw.stream_unary(method, *arguments, **options)

        async def ask(requests: AsyncIterator[Any], *, timeout: float | None = None) -> Any:
            seconds = self._timeout(method, timeout)
            if self._is_away():
                seconds -= await self._wait(seconds)
            try:
                return await call(requests, timeout=seconds, metadata=self._metadata())
            except grpc.aio.AioRpcError as error:
                raise self._explain(error, method, seconds) from error

        return ask

    def stream_stream(self, method: Any, *arguments: Any, **options: Any) -> Any:
        """A function that sends what an async iterator gives, and returns the answers."""
        call: Any = self._raw.stream_stream(method, *arguments, **options)

        def ask(requests: AsyncIterator[Any], *, timeout: float | None = None) -> "Answers[Any]":
            seconds = self._timeout(method, timeout)
            metadata = self._metadata()
            status = PeerStatus()
            return self._answers(
                lambda left: status.watched(call(requests, timeout=left, metadata=metadata)),
                lambda error: self._explain(status.of(error), method, seconds),
                seconds,
            )

        return ask

    async def close(self, grace: float | None = None) -> None:
        """Ends the channel; calls in flight get `grace` seconds."""
        await self._raw.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Whether the channel is connected."""
        return self._raw.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns when the state is another one."""
        await self._raw.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Returns when the channel is connected."""
        await self._raw.channel_ready()

    async def __aenter__(self) -> "RpcChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _answers(
        self,
        begin: Callable[[float], Any],
        explain: Callable[[grpc.aio.AioRpcError], errors.MeshError],
        seconds: float,
        again: "_Again | None" = None,
    ) -> "Answers[Any]":
        """The answers of a streaming call, which begins at once or when its peer is back."""

        async def later() -> Any:
            return begin(seconds - await self._wait(seconds))

        return Answers(
            asyncio.ensure_future(later()) if self._is_away() else begin(seconds), explain, again
        )

    async def _again(
        self,
        begin: Callable[[float], Awaitable[A]],
        error: grpc.aio.AioRpcError,
        method: str,
        seconds: float,
    ) -> A:
        """Makes a call that reached nobody again, until it does or patience is over.

        Raises what the call failed with in the end, as a MeshError.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        give_up = loop.time() + min(self._patience_seconds, seconds / 2)
        pause = FIRST_PAUSE_SECONDS
        while _is_unreached(error) and loop.time() + pause < give_up:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            try:
                return await begin(end - loop.time())
            except grpc.aio.AioRpcError as another:
                error = another
        raise self._explain(error, method, seconds) from error

    def _is_away(self) -> bool:
        ready = grpc.ChannelConnectivity.READY
        return self._patience_seconds > 0 and self._raw.get_state(try_to_connect=True) is not ready

    async def _wait(self, seconds: float) -> float:
        """Gives a peer that is being started the time for it; the seconds that it took.

        It keeps back half of the call's own `seconds`: who is not there by then is told as
        unreachable, not as slow.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with suppress(TimeoutError), within(min(self._patience_seconds, seconds / 2)):
            await self._raw.channel_ready()
        return loop.time() - begun

    def _timeout(self, method: str, timeout: float | None) -> float:
        if timeout is None:
            raise errors.DeadlineRequired(f"{method} was called without a timeout.")
        return deadline.timeout_for(timeout)

    def _metadata(self) -> _Metadata:
        metadata = [*self._always]
        who = identity.current_or_none()
        if who is not None:
            metadata.append((TENANT_KEY, who.tenant))
        span = trace.current()
        if span is not None:
            metadata.append((TRACEPARENT_KEY, span.traceparent))
        if urgency.is_urgent():
            metadata.append((URGENT_KEY, "1"))
        return metadata

    def _explain(
        self, error: grpc.aio.AioRpcError, method: str, seconds: float
    ) -> errors.MeshError:
        if errors.has_status(error):
            return errors.from_rpc_error(error)
        # From gRPC itself or a proxy: say who did not answer.
        match error.code():
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return errors.DeadlineExceeded(
                    f"{self._target} did not answer {method} within {seconds:.3g} seconds.",
                    metadata={"limit": "call", "dependency": self._target, "method": method},
                )
            case grpc.StatusCode.UNAVAILABLE if _is_unreached(error):
                return Unreached(self._target, error.details() or "", self._patience_seconds)
            case grpc.StatusCode.UNAVAILABLE:
                return errors.DependencyUnavailable(
                    f"Failed to reach {self._target}: {error.details()}",
                    metadata={"dependency": self._target},
                )
            case grpc.StatusCode.CANCELLED:
                # Not by this process: who cancels a call of its own gets CancelledError.
                return errors.DependencyUnavailable(
                    f"{self._target} broke off {method}.", metadata={"dependency": self._target}
                )
            case grpc.StatusCode.UNKNOWN | grpc.StatusCode.INTERNAL if _is_reset(error):
                # So does a proxy, when the service behind it dies in the middle of an answer.
                return errors.DependencyUnavailable(
                    f"{self._target} broke off {method}.", metadata={"dependency": self._target}
                )
            case _:
                return errors.from_rpc_error(error)


def _is_unreached(error: grpc.aio.AioRpcError) -> bool:
    return any(key == UNREACHED_KEY for key, _ in error.trailing_metadata() or ())


def _is_reset(error: grpc.aio.AioRpcError) -> bool:
    return "RST_STREAM" in (error.details() or "")


class Answers(Generic[A]):
    """The answers of a streaming call. Dropping it cancels the call."""

    def __init__(
        self,
        call: Any,
        explain: Callable[[grpc.aio.AioRpcError], errors.MeshError],
        again: _Again | None = None,
    ) -> None:
        """`call` is under way, or a future of one that begins later.

        `again` takes its place where it failed before its first answer: another
        call, and the first answer of that. It raises a MeshError where there is none.
        """
        self._call: Any = call
        self._explain = explain
        self._again = again

    def __aiter__(self) -> "Answers[A]":
        return self

    async def __anext__(self) -> A:
        if asyncio.isfuture(self._call):
            self._call = await self._call
        try:
            answer = await self._call.read()
        except grpc.aio.AioRpcError as error:
            if self._again is None:
                raise self._explain(error) from error
            self._call, answer = await self._again(error)
        self._again = None
        if answer is grpc.aio.EOF:
            raise StopAsyncIteration
        return cast(A, answer)

    def __del__(self) -> None:
        self._call.cancel()

    def cancel(self) -> None:
        """Ends the call; the server's handler is cancelled."""
        self._call.cancel()
