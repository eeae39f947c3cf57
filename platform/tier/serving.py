"""Whether the services serve, as a client of the gateway sees it."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshkit.constants import NO_HTTP_PROXY
from meshkit.renewed_channel import RenewedChannel
from meshkit.tls import ClientTls
from tier.service_tls import Callee

_CALL_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.02

Metadata = Sequence[tuple[str, str]]


async def who_serves_not(
    address: str, services: Sequence[str], callee: Callee | None = None
) -> dict[str, str]:
    """Why not, by service that does not serve; empty where all do.

    With `callee` it is asked with mutual TLS; ConfigError where there are no certificates.
    """
    async with open_channel(address, callee) as channel:
        return await _ask_all(channel, services)


def open_channel(address: str, callee: Callee | None) -> grpc.aio.Channel:
    """A channel to a service itself, with mutual TLS or, None, in plain text."""
    if callee is None:
        return grpc.aio.insecure_channel(address, options=[NO_HTTP_PROXY])
    options = [("grpc.ssl_target_name_override", callee.host), NO_HTTP_PROXY]
    return RenewedChannel(
        lambda credentials: grpc.aio.secure_channel(address, credentials, options=options),
        ClientTls(callee.settings),
    )


async def until_serving(
    address: str, services: Sequence[str], within_seconds: float, metadata: Metadata = ()
) -> dict[str, str]:
    """Returns when all serve, or with who does not when the time is over.

    `metadata`: sent with each question, such as credentials.
    """
    # A channel that found nobody waits a second before it looks again: too long for a start.
    options = [
        ("grpc.initial_reconnect_backoff_ms", 20),
        ("grpc.min_reconnect_backoff_ms", 20),
        NO_HTTP_PROXY,
    ]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        give_up = asyncio.get_running_loop().time() + within_seconds
        left = await _ask_all(channel, services, metadata)
        while left and asyncio.get_running_loop().time() < give_up:
            await asyncio.sleep(_PAUSE_SECONDS)
            left = await _ask_all(channel, tuple(left), metadata)
        return left


async def _ask_all(
    channel: grpc.aio.Channel, services: Sequence[str], metadata: Metadata = ()
) -> dict[str, str]:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answers = await asyncio.gather(*(_ask(stub, each, metadata) for each in services))
    return {service: why for service, why in zip(services, answers, strict=True) if why}


async def _ask(stub: Any, service: str, metadata: Metadata) -> str:
    """Why it does not serve; empty if it does."""
    try:
        answer = await stub.Check(
            health_pb2.HealthCheckRequest(service=service),
            timeout=_CALL_SECONDS,
            metadata=metadata,
        )
    except grpc.aio.AioRpcError as error:
        return error.details() or error.code().name
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return "" if name == "SERVING" else name.lower().replace("_", " ")
