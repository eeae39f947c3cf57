"""Server reflection under both of its names.

grpcio knows `grpc.reflection.v1alpha` alone. Tools of today ask for `grpc.reflection.v1` first, and
for the older name only where that is UNIMPLEMENTED: which a gateway does not say that lets nobody
call what its policy does not name. The messages of both are the same.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol, cast

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2

_OLD: Final = "v1alpha"
_METHOD: Final = "ServerReflectionInfo"


class Handlers(Protocol):
    """What handlers are registered with."""

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Adds handlers by the names of their methods."""
        ...


def _newer() -> FileDescriptor:
    """The contract under its newer name, which the default pool knows from now on."""
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    text = text_format.MessageToString(file).replace(_OLD, "v1")
    text_format.Parse(text, file := descriptor_pb2.FileDescriptorProto())
    pool: Any = descriptor_pool.Default()
    return pool.AddSerializedFile(file.SerializeToString())


# As generated modules have it: the default pool finds both by their names.
DESCRIPTORS: Final = (cast(FileDescriptor, reflection_pb2.DESCRIPTOR), _newer())
SERVICES: Final = tuple(
    service.full_name for file in DESCRIPTORS for service in file.services_by_name.values()
)


def add_reflection(services: Sequence[str], to: Handlers) -> None:
    """Has `services` described, and what describes them."""
    servicer: Any = cast(Any, reflection).aio.ReflectionServicer([*services, *SERVICES])
    for name in SERVICES:
        handler = grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        to.add_registered_method_handlers(name, {_METHOD: handler})
