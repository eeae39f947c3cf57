"""Who may call a server, by the certificates of its callers."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from inspect import isasyncgenfunction, isawaitable
from typing import Any, Final

import grpc

from meshkit.errors import Unauthenticated


class Peers:
    """Lets in the calls of some, and refuses all others."""

    def __init__(self, allowed: Sequence[str]) -> None:
        """`allowed`: SPIFFE ids."""
        self._allowed: Final = frozenset(each.encode() for each in allowed)

    def check(self, context: Any) -> None:
        """Raises Unauthenticated unless the caller at the other end is one that may call.

        gRPC has verified the certificate, so this asks only whose it is.
        """
        names: Sequence[bytes] = context.peer_identities() or ()
        for name in names:
            if name in self._allowed:
                return
        theirs = b", ".join(each for each in names if each.startswith(b"spiffe:")).decode()
        raise Unauthenticated(
            f"The caller's certificate is of {theirs or 'nobody known'},"
            " which may not call this service directly."
        )

    def wrap(self, service: str, handlers: Mapping[str, Any]) -> dict[str, Any]:
        """The same handlers of any kind, for these callers alone."""
        return {method: self._wrap_one(handler) for method, handler in handlers.items()}

    def _wrap_one(self, handler: Any) -> Any:
        behaviour = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )
        wrap = self._answers if isasyncgenfunction(behaviour) else self._answer
        wrapped: Any = wrap(behaviour)
        make: Any = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        return make(
            wrapped,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _answer(self, behaviour: Any) -> Any:
        async def serve(request: Any, context: Any) -> Any:
            refused = self._refused(context)
            if refused:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, refused)
            answer = behaviour(request, context)
            # What generated code says for a method that nobody has written is no coroutine.
            return await answer if isawaitable(answer) else answer

        return serve

    def _answers(self, behaviour: Any) -> Any:
        async def serve(request: Any, context: Any) -> AsyncIterator[Any]:
            refused = self._refused(context)
            if refused:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, refused)
            async with aclosing(behaviour(request, context)) as answers:
                async for answer in answers:
                    yield answer

        return serve

    def _refused(self, context: Any) -> str:
        """Why the call is refused; empty if it is not."""
        try:
            self.check(context)
        except Unauthenticated as error:
            return str(error)
        return ""
