"""What happens around every RPC that is served: trace, log line, identity, deadline, errors.

The handlers are wrapped when they are registered. An interceptor chain would
do the same for about three times the price, and this runs once per call.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, aclosing, nullcontext, suppress
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any, Final, cast

import grpc
from google.rpc import status_pb2
from grpc_status import rpc_status

from meshkit import deadline, errors, identity, trace, urgency
from meshkit.constants import (
    CALLER_KEY,
    EXPIRES_KEY,
    ROLE_KEY,
    TENANT_KEY,
    TRACEPARENT_KEY,
    URGENT_KEY,
)
from meshkit.identity import Role
from meshkit.log import Log
from meshkit.open_streams import OpenStreams
from meshkit.orca import CallStatistics
from meshkit.peers import Peers

# grpc-status has no types.
_to_grpc: Final = cast(Callable[[status_pb2.Status], grpc.Status], cast(Any, rpc_status).to_status)

Context = grpc.aio.ServicerContext[Any, Any]
_Answer = Callable[[Any, Context], Awaitable[Any]]
_Answers = Callable[[Any, Context], AsyncIterator[Any]]
# Another instance might have answered.
_OWN_FAULTS: Final = frozenset(("DATA_LOSS", "INTERNAL", "UNAVAILABLE", "UNKNOWN"))
# A request, or the requests, to be read by the handler. Raises TooLarge.
_Check = Callable[[Any], Any]


class RpcGuard:
    """Wraps the handlers of one server."""

    def __init__(
        self,
        *,
        log: Log,
        default_tenant: str | None,
        max_message_bytes: int,
        statistics: CallStatistics,
        peers: Peers | None = None,
        streams: OpenStreams | None = None,
    ) -> None:
        """`default_tenant` stands in for a missing tenant; None refuses such calls.

        A request over `max_message_bytes` is refused in words, where gRPC lets it
        through so far. `statistics` counts the calls. `peers` alone may call; without
        certificates, None, everybody may. `streams` ends those whose callers' credentials do;
        None where nobody has any.
        """
        self._log: Final = log
        self._statistics: Final = statistics
        self._peers: Final = peers
        self._streams: Final = streams
        self._max_message_bytes: Final = max_message_bytes
        self._default_tenant: Final = default_tenant

    def wrap(self, service: str, handlers: Mapping[str, Any]) -> dict[str, Any]:
        """The same handlers, guarded. TypeError for one that is not written with `async def`."""
        return {
            method: self._wrap_one(f"/{service}/{method}", handler)
            for method, handler in handlers.items()
        }

    def _wrap_one(self, method: str, handler: Any) -> Any:
        behaviour = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )
        check = self._check_each if handler.request_streaming else self._check
        if behaviour.__module__.endswith("_pb2_grpc"):
            wrapped: Any = self._unserved(method, check, streams=handler.response_streaming)
        elif handler.response_streaming and isasyncgenfunction(behaviour):
            wrapped = self._answers(method, behaviour, check)
        elif not handler.response_streaming and iscoroutinefunction(behaviour):
            wrapped = self._answer(method, behaviour, check)
        else:
            kind = "an async generator" if handler.response_streaming else "a coroutine function"
            raise TypeError(f"The handler of {method} must be {kind}.")
        make: Any = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        return make(
            wrapped,
            request_deserializer=self._limited(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _limited(self, deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        limit = self._max_message_bytes

        def read(content: bytes) -> Any:
            return deserialize(content) if len(content) <= limit else _Oversized(len(content))

        return read

    def _check(self, request: Any) -> Any:
        """`request`, unless it is too large."""
        if type(request) is _Oversized:
            raise errors.TooLarge(
                f"The request is {request.size_bytes:,} bytes; the limit is"
                f" {self._max_message_bytes:,}. Send it in parts, or large texts as documents.",
                metadata={
                    "limit_bytes": str(self._max_message_bytes),
                    "size_bytes": str(request.size_bytes),
                },
            )
        return request

    async def _check_each(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for request in requests:
            yield self._check(request)

    def _answer(self, method: str, behaviour: _Answer, check: _Check) -> _Answer:
        async def serve(request: Any, context: Context) -> Any:
            rpc = _Rpc(method, context, self._log, self._statistics)
            try:
                rpc.enter(self._default_tenant, self._peers)
                return await behaviour(check(request), context)
            except BaseException as error:
                await rpc.fail(error)
            finally:
                rpc.write_line()

        return serve

    def _answers(self, method: str, behaviour: _Answers, check: _Check) -> _Answers:
        async def serve(request: Any, context: Context) -> AsyncIterator[Any]:
            rpc = _Rpc(method, context, self._log, self._statistics)
            try:
                rpc.enter(self._default_tenant, self._peers)
                async with aclosing(cast(Any, behaviour(check(request), context))) as answers:
                    with self._open(answers, rpc) as opened:
                        async for answer in opened:
                            yield answer
            except GeneratorExit:
                raise
            except BaseException as error:
                await rpc.fail(error)
            finally:
                rpc.write_line()

        return serve

    def _open(
        self, answers: AsyncIterator[Any], rpc: "_Rpc"
    ) -> AbstractContextManager[AsyncIterator[Any]]:
        if self._streams is None:
            return nullcontext(answers)
        return self._streams.open(answers, identity.current(), rpc.expires)

    def _unserved(self, method: str, check: _Check, *, streams: bool) -> _Answer | _Answers:
        name = method.rsplit(".", 1)[-1].replace("/", ".")
        text = f"{name} is part of the contract, but this version does not serve it."

        async def answer(request: Any, context: Context) -> Any:
            raise errors.NotImplementedYet(text)

        async def answers(request: Any, context: Context) -> AsyncIterator[Any]:
            raise errors.NotImplementedYet(text)
            yield

        if streams:
            return self._answers(method, answers, check)
        return self._answer(method, answer, check)


class _Oversized:
    """In place of a request that is too large to be read."""

    __slots__ = ("size_bytes",)

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes


class _Rpc:
    """One call, from its first to its last moment."""

    __slots__ = (
        "_code",
        "_context",
        "_log",
        "_method",
        "_peer",
        "_reason",
        "_started",
        "_statistics",
        "_tenant",
        "expires",
    )

    def __init__(self, method: str, context: Context, log: Log, statistics: CallStatistics) -> None:
        self._method = method
        self._context = context
        self._log = log
        self._statistics = statistics
        self._started = statistics.begin()
        # Asked for now: when a connection breaks, gRPC frees the call before its handler has
        # ended, and to ask a call that is freed ends the process.
        self._peer = context.peer()
        self._tenant = ""
        # When the caller's credential does, in seconds since the epoch.
        self.expires: float | None = None
        self._code = "OK"
        self._reason = ""

    def enter(self, default_tenant: str | None, peers: Peers | None) -> None:
        """Sets trace, identity and deadline for the task that serves the call.

        Raises Unauthenticated for a caller that is none of the peers, and InvalidField for
        what is said of it and cannot be read.
        """
        if peers is not None:
            peers.check(self._context)
        tenant = caller = role = traceparent = ""
        for key, value in cast(Any, self._context.invocation_metadata()) or ():
            if key == TENANT_KEY:
                tenant = value
            elif key == CALLER_KEY:
                caller = value
            elif key == ROLE_KEY:
                role = value
            elif key == EXPIRES_KEY:
                self.expires = _seconds(value)
            elif key == TRACEPARENT_KEY:
                traceparent = value
            elif key == URGENT_KEY:
                urgency.adopt(value == "1")
        trace.adopt(trace.child(trace.parse(traceparent) if traceparent else None))
        if not tenant:
            if default_tenant is None:
                raise errors.Unauthenticated(f"The call names no tenant in {TENANT_KEY}.")
            tenant = default_tenant
        identity.adopt(identity.make(tenant, caller or "anonymous", role or Role.SERVICE))
        self._tenant = tenant
        deadline.adopt(cast(float | None, self._context.time_remaining()))

    async def fail(self, error: BaseException) -> None:
        """Ends the call with `error`. Cancellation and an abort by the handler pass as they are.

        When it returns, the call is ended, whatever its handler goes on to answer.
        """
        error = unless_cancelled(error)
        if not isinstance(error, Exception):
            self._code = "CANCELLED"
            raise error
        if isinstance(error, grpc.aio.AbortError):
            self._code = cast(Any, self._context).code().name
            raise error
        shown = conceal(error, self._log, method=self._method)
        self._code = shown.code.name
        self._reason = shown.reason
        with suppress(grpc.aio.AbortError):
            await self._context.abort_with_status(_to_grpc(errors.to_status(shown)))

    def write_line(self) -> None:
        """The one line that the log has about this call, which ends here."""
        ended = self._statistics.end(failed=self._code in _OWN_FAULTS)
        self._log.info(
            "rpc",
            method=self._method,
            code=self._code,
            reason=self._reason,
            tenant=self._tenant,
            duration_ms=round((ended - self._started) * 1000, 3),
            peer=self._peer,
        )


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        raise errors.InvalidField(EXPIRES_KEY, "must be seconds since the epoch") from None
    # Of a time with a fraction Envoy writes six digits, which leaves hours unsaid.
    return seconds if text.isdecimal() else None


def unless_cancelled(error: BaseException) -> BaseException:
    """`error`, or a fault where it is the cancellation of something that this task waited for.

    Nobody cancelled the task itself then, and its caller has to be answered.
    """
    task = asyncio.current_task()
    if not isinstance(error, asyncio.CancelledError) or task is None or task.cancelling():
        return error
    fault = RuntimeError("What was waited for was cancelled by somebody else.")
    fault.__cause__ = error
    return fault


def conceal(error: Exception, log: Log, **details: object) -> errors.MeshError:
    """The error that a caller may see of `error`.

    One that is not meant for callers is logged with its trace, under an error
    id that the caller gets instead of its text.
    """
    if isinstance(error, errors.MeshError) and error.reason:
        return error
    error_id = secrets.token_hex(8)
    log.error("fault", error_id=error_id, exc_info=error, **details)
    return errors.concealed(error_id)
