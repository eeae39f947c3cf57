"""Any RPC of the contracts, called by its name: for tests that go through all of them."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from meshkit.errors import from_rpc_error, has_status
from tier import policy_contracts

Metadata = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a call."""

    code: str
    # Of ErrorInfo; empty where there is none.
    reason: str
    message: str
    answers: tuple[Message, ...]

    def __str__(self) -> str:
        return f"{self.code} {self.reason} {self.message!r} {len(self.answers)} answers"


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC of the contracts."""

    method: MethodDescriptor

    @property
    def path(self) -> str:
        """Such as `/agentmesh.memory.v1.MemoryService/Search`."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"

    def request(self, fields: Mapping[str, Any] | None = None) -> Message:
        """A request from its JSON form. Unknown fields are errors."""
        empty = message_factory.GetMessageClass(self.method.input_type)()
        return json_format.ParseDict(dict(fields or {}), empty)

    async def call(
        self,
        channel: grpc.aio.Channel,
        request: Message,
        metadata: Metadata,
        *,
        timeout_seconds: float = 20,
        most: int = 50,
    ) -> Answer:
        """Sends one request and reads the answers, `most` of them at most."""
        answers: list[Message] = []
        call: Any = self._begin(channel, request, metadata, timeout_seconds)
        try:
            if self.method.server_streaming:
                async for answer in call:
                    answers.append(answer)
                    if len(answers) == most:
                        call.cancel()
                        break
            else:
                answers.append(await call)
        except grpc.aio.AioRpcError as error:
            reason = from_rpc_error(error).reason if has_status(error) else ""
            return Answer(error.code().name, reason, error.details() or "", tuple(answers))
        return Answer("OK", "", "", tuple(answers))

    def _begin(
        self, channel: grpc.aio.Channel, request: Message, metadata: Metadata, seconds: float
    ) -> Any:
        both = (self.method.client_streaming, self.method.server_streaming)
        kind = {(False, False): "unary_unary", (False, True): "unary_stream"}.get(
            both, "stream_stream" if both[1] else "stream_unary"
        )
        output = message_factory.GetMessageClass(self.method.output_type)
        begin: Any = getattr(channel, kind)(
            self.path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=output.FromString,
        )

        async def one() -> AsyncIterator[Message]:
            yield request

        given: Any = one() if both[0] else request
        return begin(given, metadata=tuple(metadata), timeout=seconds)


def every_rpc() -> list[Rpc]:
    """All that the gateway offers, from the descriptors."""
    pool = descriptor_pool.Default()
    return [
        Rpc(method)
        for service in policy_contracts.offered().services
        for method in pool.FindServiceByName(service).methods
    ]


def text_fields(rpc: Rpc) -> Iterator[tuple[FieldDescriptor, ...]]:
    """The way to every field of text in its request, through messages of the mesh's own."""
    yield from _text_fields(rpc.method.input_type, ())


def _text_fields(
    message: Descriptor, way: tuple[FieldDescriptor, ...]
) -> Iterator[tuple[FieldDescriptor, ...]]:
    for field in message.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            yield (*way, field)
        elif field.message_type is not None and _is_followed(field.message_type, way):
            yield from _text_fields(field.message_type, (*way, field))


def _is_followed(message: Descriptor, way: tuple[FieldDescriptor, ...]) -> bool:
    return (
        message.full_name.startswith("agentmesh.")
        and not message.GetOptions().map_entry
        and all(message != each.containing_type for each in way)
    )
