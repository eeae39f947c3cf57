"""What proxies and tools ask a server: health, reflection and channelz."""

import asyncio
import dataclasses
import io
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.wrappers_pb2 import StringValue
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from meshkit import errors, identity, log, reflection
from meshkit.health import Health
from meshtest import echo
from meshtest.eventually import eventually
from meshtest.serving import serving


def _text(value: str) -> StringValue:
    return StringValue(value=value)


class _Dependency:
    name = "store"

    def __init__(self) -> None:
        self.works = True

    async def check(self) -> None:
        if not self.works:
            raise ConnectionError("gone")


async def _health(channel: grpc.aio.Channel, service: str) -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=service)
    return (await stub.Check(request, timeout=60)).status


async def test_health_follows_the_dependencies() -> None:
    """A service is NOT_SERVING while a dependency of it fails, and comes back with it."""
    dependency = _Dependency()
    async with serving([echo.registration(echo.EchoServicer(), dependency)]) as channels:
        channel = channels.get("echo")
        assert await _health(channel, echo.SERVICE) == health_pb2.HealthCheckResponse.SERVING
        dependency.works = False

        async def both_down() -> bool:
            return {await _health(channel, echo.SERVICE), await _health(channel, "")} == {
                health_pb2.HealthCheckResponse.NOT_SERVING
            }

        await eventually(both_down)
        dependency.works = True

        async def up() -> bool:
            return await _health(channel, echo.SERVICE) == health_pb2.HealthCheckResponse.SERVING

        await eventually(up)


async def test_checks_end_though_one_swallows_the_cancellation() -> None:
    """As asyncio.wait_for may: who stops a service would wait for it for ever."""
    asked = asyncio.Event()

    class _Deaf(_Dependency):
        async def check(self) -> None:
            asked.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    following = asyncio.create_task(Health({"echo": [_Deaf()]}, log=log.get("test")).follow())
    async with asyncio.timeout(60):
        await asked.wait()
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following


async def test_reflection_and_channelz_answer() -> None:
    """grpcurl and channelz tools work with nothing at hand."""
    async with serving([echo.registration(echo.EchoServicer())]) as channels:
        channel: Any = channels.get("echo")

        async def ask() -> AsyncIterator[Any]:
            yield reflection_pb2.ServerReflectionRequest(list_services="")
            for service in reflection.SERVICES:
                yield reflection_pb2.ServerReflectionRequest(file_containing_symbol=service)

        for service in (
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        ):
            call = channel.stream_stream(
                f"/{service}/ServerReflectionInfo",
                reflection_pb2.ServerReflectionRequest.SerializeToString,
                reflection_pb2.ServerReflectionResponse.FromString,
            )
            listed, *described = [each async for each in call(ask(), timeout=60)]
            names = {each.name for each in listed.list_services_response.service}
            assert {echo.SERVICE, "grpc.health.v1.Health", *reflection.SERVICES} <= names
            found = [each.file_descriptor_response.file_descriptor_proto for each in described]
            files = [FileDescriptorProto.FromString(each[0]).name for each in found]
            assert files == [each.name for each in reflection.DESCRIPTORS]
        channelz_stub: Any = channelz_pb2_grpc.ChannelzStub(channel)
        servers = await channelz_stub.GetServers(
            channelz_pb2.GetServersRequest(start_server_id=0), timeout=5
        )
        assert len(servers.server) >= 1


class _Bare(echo.EchoServicer):
    async def Say(self, request: StringValue, context: Any) -> StringValue:
        return _text(str(identity.current_or_none()))


async def test_what_proxies_ask_is_served_without_a_guard() -> None:
    """It has no identity and no line in the log, and its health is asked like any other's."""
    lines = io.StringIO()
    bare = dataclasses.replace(echo.registration(_Bare()), guarded=False)
    async with serving([bare], to=log.get("test", stream=lines)) as channels:
        channel = channels.get("echo")
        answer = await echo.EchoStub(channel).Say(_text("a"), timeout=60)
        assert answer.value == "None"
        assert await _health(channel, echo.SERVICE) == health_pb2.HealthCheckResponse.SERVING
    assert '"event":"rpc"' not in lines.getvalue()


async def test_what_a_tool_offers_and_nobody_wrote_is_unimplemented() -> None:
    """Newer methods of health among them, for which generated code stands in."""
    async with serving([echo.registration(echo.EchoServicer())]) as channels:
        stub: Any = health_pb2_grpc.HealthStub(channels.get("echo"))
        messages: Any = health_pb2
        with pytest.raises(errors.NotImplementedYet):
            await stub.List(messages.HealthListRequest(), timeout=60)
