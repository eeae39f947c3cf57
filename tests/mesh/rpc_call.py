"""Any RPC of the contracts, called by its name: for tests that go through all of them."""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

import grpc
from google.api import annotations_pb2
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from meshkit.errors import from_rpc_error, has_status
from tier import policy_contracts

_HTTP: Final = cast(Any, annotations_pb2).http
Metadata = Sequence[tuple[str, str]]
# What gRPC's client makes of a refusal that comes while it writes to a stream.
_LOST: Final = "Internal error from Core"
_MOST_TRIES: Final = 20


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

    def json_call(self) -> tuple[str, str] | None:
        """Verb and address of its JSON form, with `x` for every id; None where it has none."""
        options: Any = self.method.GetOptions()
        if not options.HasExtension(_HTTP):
            return None
        rule = options.Extensions[_HTTP]
        verb: str = rule.WhichOneof("pattern")
        path = re.sub(r"\{[^=}]+=([^}]+)\}", r"\1", getattr(rule, verb))
        return verb.upper(), re.sub(r"\*|\{[^}]+\}", "x", path)

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
        timeout_seconds: float = 60,
        most: int = 50,
    ) -> Answer:
        """Sends one request and reads the answers, `most` of them at most."""
        for _ in range(_MOST_TRIES):
            answer = await self._call_once(channel, request, metadata, timeout_seconds, most)
            if answer.message != _LOST:
                return answer
        raise AssertionError(f"{self.path} was refused {_MOST_TRIES} times, nobody knows why.")

    async def _call_once(
        self,
        channel: grpc.aio.Channel,
        request: Message,
        metadata: Metadata,
        timeout_seconds: float,
        most: int,
    ) -> Answer:
        answers: list[Message] = []
        call: Any = self._begin(channel, request, metadata, timeout_seconds)
        try:
            if self.method.client_streaming:
                await _send(call, request)
            if not self.method.server_streaming:
                answers.append(await call)
            while self.method.server_streaming and len(answers) < most:
                answer = await call.read()
                if answer is grpc.aio.EOF:
                    break
                answers.append(answer)
            call.cancel()
        except grpc.aio.AioRpcError as error:
            reason = from_rpc_error(error).reason if has_status(error) else ""
            return Answer(error.code().name, reason, error.details() or "", tuple(answers))
        return Answer("OK", "", "", tuple(answers))

    def _begin(
        self, channel: grpc.aio.Channel, request: Message, metadata: Metadata, seconds: float
    ) -> Any:
        method = self.method
        answers = message_factory.GetMessageClass(method.output_type)
        sends, reads = method.client_streaming, method.server_streaming
        begin: Any = getattr(
            channel, f"{'stream' if sends else 'unary'}_{'stream' if reads else 'unary'}"
        )(
            self.path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=answers.FromString,
        )
        options: Any = {"metadata": tuple(metadata), "timeout": seconds}
        return begin(**options) if sends else begin(request, **options)


async def _send(call: Any, request: Message) -> None:
    # Who is refused at once may not even get to write; the status says why.
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        await call.write(request)
        await call.done_writing()


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
