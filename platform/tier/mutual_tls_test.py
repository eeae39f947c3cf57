"""Who may call whom, by the mesh's own certificates, over real connections."""

import asyncio
import io
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from meshkit import log
from meshkit.client import Channels
from meshkit.clock import SystemClock
from meshkit.config import ConfigError
from meshkit.errors import DependencyUnavailable, Unauthenticated
from meshkit.server import MeshServer
from meshkit.tls import ClientTls, TlsSettings, client_credentials, server_contexts
from meshtest import echo
from meshtest.clock import FakeClock
from tier.authority import Authority
from tier.certificate_files import CertificateFiles
from tier.events import Phase
from tier.identities import host_name
from tier.service_tls import tls_settings

_SERVED: Final = StringValue(value="served")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """That of the mesh, with certificates for three of its parts."""
    made = Authority.open(tmp_path, clock=SystemClock())
    for name in ("proxy", "tool", "executor"):
        made.issue(name)
    return made


@asynccontextmanager
async def _serving(
    settings: TlsSettings, servicer: echo.EchoServicer | None = None
) -> AsyncGenerator[int]:
    """An echo with that certificate, for its peers alone; the port."""
    server = MeshServer(
        name="test",
        address="127.0.0.1:0",
        registrations=[echo.registration(servicer or echo.EchoServicer())],
        log=log.get("test", stream=io.StringIO()),
        default_tenant="default",
        drain_seconds=1.0,
        tls=settings,
    )
    task = asyncio.create_task(server.serve())
    await server.started()
    try:
        yield server.port
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _directly(port: int, credentials: grpc.ChannelCredentials, name: str) -> grpc.aio.Channel:
    """A channel to a service as a proxy opens it: to whom has that name, not that address."""
    options = [("grpc.ssl_target_name_override", host_name(name))]
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options)


async def _say(port: int, tls: ClientTls | None) -> StringValue:
    async with Channels({"proxy": f"127.0.0.1:{port}"}, caller="service:x", tls=tls) as channels:
        return await echo.EchoStub(channels.get("proxy")).Say(_SERVED, timeout=60)


async def test_a_peer_is_served(tmp_path: Path, authority: Authority) -> None:
    """Each end is known to the other by its certificate."""
    async with _serving(tls_settings(tmp_path, "proxy", ("executor",))) as port:
        assert await _say(port, ClientTls(tls_settings(tmp_path, "executor"))) == _SERVED


async def test_who_is_no_peer_is_refused(tmp_path: Path, authority: Authority) -> None:
    """Even with a certificate of the same authority."""
    async with _serving(tls_settings(tmp_path, "proxy", ("executor",))) as port:
        with pytest.raises(Unauthenticated) as caught:
            await _say(port, ClientTls(tls_settings(tmp_path, "tool")))
    assert str(caught.value) == (
        "The caller's certificate is of spiffe://agentmesh.local/tool,"
        " which may not call this service directly."
    )


async def test_who_is_no_peer_is_refused_by_every_service_of_a_server(
    tmp_path: Path, authority: Authority
) -> None:
    """By health, reflection, channelz and load reports, too: every kind of handler."""
    async with (
        _serving(tls_settings(tmp_path, "tool", ("proxy",))) as port,
        _directly(port, client_credentials(tls_settings(tmp_path, "executor")), "tool") as channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        describe: Any = reflection_pb2_grpc.ServerReflectionStub(cast(Any, channel))
        raw = cast(Any, channel)
        load = raw.unary_stream("/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics")
        channelz: Any = channelz_pb2_grpc.ChannelzStub(cast(Any, channel))
        calls: list[Any] = [
            channelz.GetServers(channelz_pb2.GetServersRequest(), timeout=60),
            health.Check(health_pb2.HealthCheckRequest(), timeout=60),
            health.Watch(health_pb2.HealthCheckRequest(), timeout=60),
            describe.ServerReflectionInfo(_questions(), timeout=60),
            load(b"", timeout=60),
        ]
        for call in calls:
            assert (await call.code(), await call.details()) == (
                grpc.StatusCode.UNAUTHENTICATED,
                "The caller's certificate is of spiffe://agentmesh.local/executor,"
                " which may not call this service directly.",
            )


async def test_a_peer_is_served_by_every_service_of_a_server(
    tmp_path: Path, authority: Authority
) -> None:
    """By health, reflection, channelz and load reports as without certificates."""
    async with (
        _serving(tls_settings(tmp_path, "tool", ("proxy",))) as port,
        _directly(port, client_credentials(tls_settings(tmp_path, "proxy")), "tool") as channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        question = health_pb2.HealthCheckRequest()
        serving = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
        assert await health.Check(question, timeout=60) == serving
        watch = health.Watch(question, timeout=60)
        assert await watch.read() == serving
        watch.cancel()
        describe: Any = reflection_pb2_grpc.ServerReflectionStub(cast(Any, channel))
        (answer,) = [each async for each in describe.ServerReflectionInfo(_questions(), timeout=60)]
        assert echo.SERVICE in [each.name for each in answer.list_services_response.service]
        channelz: Any = channelz_pb2_grpc.ChannelzStub(cast(Any, channel))
        servers = await channelz.GetServers(channelz_pb2.GetServersRequest(), timeout=60)
        assert servers.server
        sockets = await channelz.GetServerSockets(
            channelz_pb2.GetServerSocketsRequest(server_id=1), timeout=60
        )
        question_of_socket = channelz_pb2.GetSocketRequest(
            socket_id=sockets.socket_ref[0].socket_id
        )
        socket = (await channelz.GetSocket(question_of_socket, timeout=60)).socket
        assert socket.security.tls.remote_certificate.startswith(b"-----BEGIN CERTIFICATE-----")
        assert socket.security.tls.standard_name.startswith("TLS_")
        method = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics"
        load = cast(Any, channel).unary_stream(method)(b"", timeout=60)
        assert len(await load.read()) == 27
        load.cancel()


async def _questions() -> AsyncIterator[Any]:
    yield reflection_pb2.ServerReflectionRequest(list_services="*")


async def test_others_do_not_even_connect(tmp_path: Path, authority: Authority) -> None:
    """A certificate of another authority, one that has ended, none, and plain text."""
    Authority.open(tmp_path / "other", clock=SystemClock()).issue("executor")
    two_days_ago = FakeClock(datetime.now(UTC) - timedelta(days=2))
    Authority.open(tmp_path, clock=two_days_ago).issue("late")
    trusted = tls_settings(tmp_path, "tool", ("executor", "late"))
    strangers = (
        _credentials(trusted, tls_settings(tmp_path / "other", "executor")),
        _credentials(trusted, tls_settings(tmp_path, "late")),
        _credentials(trusted, None),
    )
    async with _serving(trusted) as port:
        for credentials in strangers:
            async with _directly(port, credentials, "tool") as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await echo.EchoStub(channel).Say(_SERVED, timeout=60)
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        async with _directly(port, client_credentials(trusted), "tool") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await echo.EchoStub(channel).Say(_SERVED, timeout=60)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(DependencyUnavailable):
            await _say(port, None)


def _credentials(trusted: TlsSettings, own: TlsSettings | None) -> grpc.ChannelCredentials:
    """Of who trusts the mesh's authority, and is somebody or nobody."""
    authority = trusted.authority.read_bytes()
    if own is None:
        return grpc.ssl_channel_credentials(authority)
    return grpc.ssl_channel_credentials(
        authority, own.key.read_bytes(), own.certificate.read_bytes()
    )


async def test_a_service_is_not_believed_to_be_a_proxy(
    tmp_path: Path, authority: Authority
) -> None:
    """Whoever gets hold of the proxy's port needs the proxy's certificate, too."""
    async with _serving(tls_settings(tmp_path, "tool", ("executor",))) as port:
        with pytest.raises(DependencyUnavailable):
            await _say(port, ClientTls(tls_settings(tmp_path, "executor")))


class _Slow(echo.EchoServicer):
    """Answers with the caller's certificate; `wait` takes until it is told."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()

    async def Say(self, request: StringValue, context: Any) -> StringValue:
        (certificate,) = context.auth_context()["x509_pem_cert"]
        if request.value == "wait":
            self.began.set()
            await self.go_on.wait()
        return StringValue(value=certificate.decode())


async def test_renewed_certificates_are_used_without_a_restart(tmp_path: Path) -> None:
    """By both ends, for new connections; a call that is under way ends where it began."""
    clock = FakeClock(datetime.now(UTC) - timedelta(hours=12))
    authority = Authority.open(tmp_path, clock=clock)
    server, client = authority.issue("proxy"), authority.issue("executor")
    servicer = _Slow()
    tls = ClientTls(tls_settings(tmp_path, "executor"), look_every_seconds=0)
    async with (
        _serving(tls_settings(tmp_path, "proxy", ("executor",)), servicer) as port,
        Channels({"proxy": f"127.0.0.1:{port}"}, caller="service:x", tls=tls) as channels,
    ):
        stub = echo.EchoStub(channels.get("proxy"))
        before = client.certificate.read_text()
        assert (await stub.Say(_SERVED, timeout=60)).value == before
        assert await _certificate_at(port, client) == server.certificate.read_text()
        waiting = asyncio.ensure_future(stub.Say(StringValue(value="wait"), timeout=60))
        await servicer.began.wait()
        keeping = asyncio.create_task(authority.keep(_nothing_to_report))
        await clock.advance(12 * 3600)
        keeping.cancel()
        after = client.certificate.read_text()
        assert after != before
        assert (await stub.Say(_SERVED, timeout=60)).value == after
        assert await _certificate_at(port, client) == server.certificate.read_text()
        servicer.go_on.set()
        assert (await waiting).value == before


async def _certificate_at(port: int, client: CertificateFiles) -> str:
    """What a new connection is shown, as PEM."""
    context = ssl.create_default_context(cafile=client.authority)
    context.load_cert_chain(client.certificate, client.key)
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return ssl.DER_cert_to_PEM_cert(shown)


def _nothing_to_report(part: str, phase: Phase, text: str) -> None:
    raise AssertionError(text)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    """A process that has no certificate does not start."""
    settings = tls_settings(tmp_path, "tool")
    with pytest.raises(ConfigError) as caught:
        ClientTls(settings)
    path = tmp_path / "tool" / "current" / "certificate.pem"
    assert str(caught.value) == f"{path}: cannot be read: No such file or directory"


def test_a_key_of_another_certificate_is_refused(tmp_path: Path, authority: Authority) -> None:
    """A server that nobody could call does not start either, and says for which file."""
    own, other = tls_settings(tmp_path, "tool"), tls_settings(tmp_path, "proxy")
    with pytest.raises(ConfigError) as caught:
        server_contexts(own.model_copy(update={"key": other.key}))
    assert str(caught.value).startswith(f"{own.certificate}: cannot be used: ")
