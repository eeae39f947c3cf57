"""A small service with every kind of call, for tests of what lies around services."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from meshkit.server import Registration

SERVICE = "meshtest.v1.EchoService"


class EchoServicer:
    """Answers what it is told; subclasses do otherwise."""

    async def Say(self, request: StringValue, context: Any) -> StringValue:
        """One request, one answer."""
        return request

    async def Repeat(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        """Answers each letter by itself."""
        for letter in request.value:
            yield StringValue(value=letter)

    async def Join(self, request_iterator: AsyncIterator[StringValue], context: Any) -> StringValue:
        """Joins all requests."""
        return StringValue(value="".join([each.value async for each in request_iterator]))

    async def Talk(
        self, request_iterator: AsyncIterator[StringValue], context: Any
    ) -> AsyncIterator[StringValue]:
        """Answers each request as it comes."""
        async for request in request_iterator:
            yield request


class EchoStub:
    """Calls the service through a channel."""

    def __init__(self, channel: Any) -> None:
        codec: Any = {
            "request_serializer": StringValue.SerializeToString,
            "response_deserializer": StringValue.FromString,
        }
        self.Say = channel.unary_unary(f"/{SERVICE}/Say", **codec)
        self.Repeat = channel.unary_stream(f"/{SERVICE}/Repeat", **codec)
        self.Join = channel.stream_unary(f"/{SERVICE}/Join", **codec)
        self.Talk = channel.stream_stream(f"/{SERVICE}/Talk", **codec)


def add_echo(servicer: Any, server: Any) -> None:
    """Registers as generated code does."""
    codec: Any = {
        "request_deserializer": StringValue.FromString,
        "response_serializer": StringValue.SerializeToString,
    }
    handlers = {
        "Say": grpc.unary_unary_rpc_method_handler(servicer.Say, **codec),
        "Repeat": grpc.unary_stream_rpc_method_handler(servicer.Repeat, **codec),
        "Join": grpc.stream_unary_rpc_method_handler(servicer.Join, **codec),
        "Talk": grpc.stream_stream_rpc_method_handler(servicer.Talk, **codec),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)


def registration(servicer: EchoServicer, *dependencies: Any) -> Registration:
    """The service, to be served."""
    return Registration(SERVICE, add_echo, servicer, dependencies)
