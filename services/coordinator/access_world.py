"""Coordinators as gateways call them: with identities, and questions about keys; only for tests."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import grpc

from agentmesh.access.v1 import access_service_pb2 as pb
from agentmesh.access.v1.access_service_pb2 import ApiKey
from agentmesh.access.v1.access_service_pb2_grpc import AccessServiceStub
from envoyproxy.auth.v3 import external_auth_pb2 as auth
from envoyproxy.auth.v3.external_auth_pb2_grpc import AuthorizationStub
from meshkit import errors
from meshkit.clock import Clock
from meshkit.constants import CALLER_KEY, ROLE_KEY, TENANT_KEY
from meshkit.identity import Role
from meshtest.hosting import hosting
from meshtest.scripted import ScriptedGovernor, registrations
from services.coordinator.main import build
from services.coordinator.settings import CoordinatorSettings

_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Who:
    """Who calls, as the gateway has found out."""

    tenant: str = "acme"
    caller: str = "user:ann"
    role: Role = Role.OPERATOR

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """What the gateway writes on the call."""
        return [
            (TENANT_KEY, self.tenant),
            (CALLER_KEY, self.caller),
            (ROLE_KEY, str(self.role)),
        ]


OPERATOR: Final = Who()
ADMIN: Final = Who(tenant="default", caller="user:root", role=Role.ADMIN)


@dataclass(frozen=True, slots=True)
class Made:
    """A key, and its text."""

    key: ApiKey
    text: str


class Coordinator:
    """One coordinator, called for whomever a test likes. Calls raise MeshError."""

    def __init__(self, channel: grpc.aio.Channel, address: str) -> None:
        # For gateways before it.
        self.address: Final = address
        self._access: Final = AccessServiceStub(channel)
        self._authorization: Final = AuthorizationStub(channel)

    async def create(
        self, *, by: Who = OPERATOR, tenant: str = "acme", request_id: str = "", **fields: Any
    ) -> Made:
        """Makes a key."""
        request = pb.CreateApiKeyRequest(
            parent=f"tenants/{tenant}", api_key=ApiKey(**fields), request_id=request_id
        )
        answer = await _ask(self._access.CreateApiKey, request, by)
        return Made(answer.api_key, answer.text)

    async def list(self, *, by: Who = OPERATOR, tenant: str = "acme") -> list[ApiKey]:
        """A tenant's keys, the first 50."""
        request = pb.ListApiKeysRequest(parent=f"tenants/{tenant}")
        return list((await self.page(request, by=by)).api_keys)

    async def page(
        self, request: pb.ListApiKeysRequest, *, by: Who = OPERATOR
    ) -> pb.ListApiKeysResponse:
        """A page of keys."""
        return await _ask(self._access.ListApiKeys, request, by)

    async def revoke(self, name: str, *, by: Who = OPERATOR) -> ApiKey:
        """Ends a key."""
        return (
            await _ask(self._access.RevokeApiKey, pb.RevokeApiKeyRequest(name=name), by)
        ).api_key

    async def check(self, **headers: str) -> auth.CheckResponse:
        """What Envoy would hear about a request; an underscore in a name is a hyphen."""
        request = auth.CheckRequest()
        for name, value in headers.items():
            request.attributes.request.http.headers[name.replace("_", "-")] = value
        try:
            return await self._authorization.Check(request, timeout=_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise errors.from_rpc_error(error) from error

    async def verdict(self, text: str) -> str:
        """`passed`, or what is wrong with a key."""
        answer = await self.check(x_api_key=text, content_type="application/json")
        return verdict(answer)


def verdict(answer: auth.CheckResponse) -> str:
    """`passed`, or what is wrong with the credential."""
    if answer.HasField("ok_response"):
        return "passed"
    info = errors.from_status(answer.status) if answer.status.details else None
    return info.metadata["credential"] if info else "denied"


def headers_of(answer: auth.CheckResponse) -> Mapping[str, str]:
    """The headers that a request, or its answer, gets."""
    held = answer.ok_response if answer.HasField("ok_response") else answer.denied_response
    return {each.header.key: each.header.value for each in held.headers}


@asynccontextmanager
async def coordinator(
    nats_url: str,
    data_dir: Path,
    *,
    clock: Clock | None = None,
    bootstrap_keys: Path | None = None,
) -> AsyncGenerator[Coordinator]:
    """A whole coordinator. There may be more on the same broker, each with its own folder."""
    settings = CoordinatorSettings(operators=["*"], bootstrap_keys=bootstrap_keys)
    governor = ScriptedGovernor()  # pyright: ignore[reportAbstractUsage]
    async with (
        hosting(
            [lambda resources: build(resources, settings)],
            data_dir=data_dir,
            nats_url=nats_url,
            beside=registrations(governor),
            clock=clock,
        ) as channels,
        grpc.aio.insecure_channel(channels.address("coordinator")) as channel,
    ):
        yield Coordinator(channel, channels.address("coordinator"))


def after(clock: Clock, seconds: float) -> Any:
    """The time so many seconds from now, for a field of a message."""
    return clock.now() + timedelta(seconds=seconds)


async def _ask(method: Any, request: Any, by: Who) -> Any:
    try:
        return await method(request, metadata=by.metadata, timeout=_SECONDS)
    except grpc.aio.AioRpcError as error:
        raise errors.from_rpc_error(error) from error
