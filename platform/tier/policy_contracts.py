"""What the mesh offers to be called, read from the contracts themselves, and the policy for it."""

from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2

from meshkit import reflection
from tier.binaries import repository_root
from tier.descriptors import descriptor_set
from tier.parts import PARTS
from tier.policy import SHIPPED, Contracts, Policy, read

# What every server answers besides, and the gateway for all of them.
_BUILT_IN: Final = (health_pb2.DESCRIPTOR, *reflection.DESCRIPTORS, channelz_pb2.DESCRIPTOR)


def offered() -> Contracts:
    """Every RPC that the gateway offers, and which part serves which service."""
    files = FileDescriptorSet.FromString(descriptor_set()).file
    services = {
        f"{file.package}.{service.name}": tuple(method.name for method in service.method)
        for file in files
        for service in file.service
    }
    for file in _BUILT_IN:
        for service in file.services_by_name.values():
            services[service.full_name] = tuple(method.name for method in service.methods)
    return Contracts(services, {part.name: part.services for part in PARTS})


def shipped() -> Policy:
    """The policy of this repository. Raises BadPolicy where it does not fit the contracts."""
    return read(repository_root() / SHIPPED, offered())
