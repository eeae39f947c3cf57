"""The contracts as one file that Envoy reads to turn JSON into gRPC."""

import importlib
from collections.abc import Iterable
from typing import Final, cast

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

# What each exposes: the services of the mesh, and the types in errors' details.
_MODULES: Final = (
    "agentmesh.coordinator.v1.coordinator_service_pb2",
    "agentmesh.coordinator.v1.agent_service_pb2",
    "agentmesh.coordinator.v1.queue_service_pb2",
    "agentmesh.coordinator.v1.read_model_service_pb2",
    "agentmesh.coordinator.v1.schedule_service_pb2",
    "agentmesh.access.v1.access_service_pb2",
    "agentmesh.reasoning.v1.reasoning_service_pb2",
    "agentmesh.memory.v1.memory_service_pb2",
    "agentmesh.tool.v1.tool_service_pb2",
    "agentmesh.governor.v1.cost_governor_service_pb2",
    "google.rpc.error_details_pb2",
)


def descriptor_set() -> bytes:
    """A serialized FileDescriptorSet, made from the generated modules themselves."""
    files: dict[str, FileDescriptor] = {}
    for name in _MODULES:
        _collect(cast(FileDescriptor, importlib.import_module(name).DESCRIPTOR), files)
    described = FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(described.file.add())
    return described.SerializeToString()


def _collect(file: FileDescriptor, files: dict[str, FileDescriptor]) -> None:
    """Adds `file` after all that it imports."""
    for each in cast(Iterable[FileDescriptor], file.dependencies):
        if each.name not in files:
            _collect(each, files)
    files[file.name] = file
