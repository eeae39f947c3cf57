"""TLS at the gateway: whom it serves, and certificates that change under its hands."""

import asyncio
import contextlib
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from cryptography import x509

from agentmesh.coordinator.v1 import coordinator_service_pb2, coordinator_service_pb2_grpc
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from tests.gateway.guarded import KEY, Guarded
from tests.gateway.running_gateway import Trace
from tier import identities, ports
from tier.authority import Authority

pytest_plugins = ["tests.gateway.shared_gateways"]
pytestmark = pytest.mark.asyncio(loop_scope="session")

_TASK = "tenants/acme/tasks/t1"
_REQUEST = coordinator_service_pb2.GetTaskRequest(name=_TASK)


@pytest.fixture
def trusted(mesh: Guarded) -> bytes:
    """The certificate of the mesh's authority."""
    return (mesh.folder / "certificates" / "authority" / "certificate.pem").read_bytes()


def _stub(mesh: Guarded, trusted: bytes) -> Any:
    channel = grpc.aio.secure_channel(
        f"localhost:{mesh.front.gateway.tls_port}", grpc.ssl_channel_credentials(trusted)
    )
    return coordinator_service_pb2_grpc.CoordinatorServiceStub(channel)


async def _certificate(mesh: Guarded, context: ssl.SSLContext) -> x509.Certificate:
    """What a new connection is shown."""
    _, writer = await asyncio.open_connection(
        ports.HOST, mesh.front.gateway.tls_port, ssl=context, server_hostname="localhost"
    )
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(shown)


async def test_a_client_that_trusts_the_authority_calls_with_tls(
    mesh: Guarded, trusted: bytes
) -> None:
    """A call with TLS and a token is served as one of that caller, and logged as with TLS."""
    trace = Trace()
    shown = [trace.header, ("authorization", f"Bearer {mesh.issuer.token()}")]
    answer = await _stub(mesh, trusted).GetTask(_REQUEST, timeout=60, metadata=shown)
    assert answer.task.labels["caller"] == "user:ann"
    (line,) = await eventually(lambda: mesh.front.gateway.access_of(trace), 60)
    assert (line["tls"], line["caller"]) == ("TLSv1.3", "user:ann")


async def test_grpc_s_own_credentials_will_do(mesh: Guarded, trusted: bytes) -> None:
    """What gRPC calls an access token may be a token or a key, as docs/security.md has it."""
    mesh.knows(KEY)
    for shown, caller in ((mesh.issuer.token(), "user:ann"), (KEY, "key:01jd0000key1")):
        credentials = grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials(trusted), grpc.access_token_call_credentials(shown)
        )
        address = f"localhost:{mesh.front.gateway.tls_port}"
        async with grpc.aio.secure_channel(address, credentials) as channel:
            stub: Any = coordinator_service_pb2_grpc.CoordinatorServiceStub(channel)
            answer = await stub.GetTask(_REQUEST, timeout=60)
        assert answer.task.labels["caller"] == caller


async def test_tls_alone_lets_nobody_in(mesh: Guarded, trusted: bytes) -> None:
    """Who calls with TLS shows credentials like everybody else."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _stub(mesh, trusted).GetTask(_REQUEST, timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_protocols_and_plain_text_get_no_answer(mesh: Guarded, trusted: bytes) -> None:
    """Below TLS 1.2 there is no handshake, and plain text at the port of TLS is cut off."""
    old = ssl.create_default_context(cadata=trusted.decode())
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        await _certificate(mesh, old)
    reader, writer = await asyncio.open_connection(ports.HOST, mesh.front.gateway.tls_port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize(("offered", "agreed"), [(["h2"], "h2"), (["http/1.1"], "http/1.1")])
async def test_clients_choose_their_http(
    mesh: Guarded, trusted: bytes, offered: list[str], agreed: str
) -> None:
    """HTTP/2 and HTTP/1.1 are agreed on in the handshake."""
    context = ssl.create_default_context(cadata=trusted.decode())
    context.set_alpn_protocols(offered)
    _, writer = await asyncio.open_connection(
        ports.HOST, mesh.front.gateway.tls_port, ssl=context, server_hostname="localhost"
    )
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == agreed
    writer.close()


async def test_a_renewed_certificate_breaks_no_connection(mesh: Guarded, trusted: bytes) -> None:
    """New connections are shown the renewed certificate, in the same gateway, while the connection
    that was there before serves on, with the call that was in it.
    """
    token = [("authorization", f"Bearer {mesh.issuer.token()}")]
    stub = _stub(mesh, trusted)
    context = ssl.create_default_context(cadata=trusted.decode())
    before = await _certificate(mesh, context)
    waiting = stub.GetTask(
        coordinator_service_pb2.GetTaskRequest(name="tenants/acme/tasks/waits"),
        timeout=60,
        metadata=token,
    )
    await eventually(lambda: mesh.front.coordinator.calls.get("GetTask"), 60)

    # Half of a short life has passed.
    clock = FakeClock(datetime.now(UTC) + timedelta(seconds=250))
    renewer = Authority.open(mesh.folder / "certificates", clock=clock, life_seconds=400.0)
    renewer.issue(identities.GATEWAY)

    async def renewed() -> bool:
        return (await _certificate(mesh, context)).serial_number != before.serial_number

    assert await eventually(renewed, 60)
    connections = await _connections(mesh)
    assert (await stub.GetTask(_REQUEST, timeout=60, metadata=token)).task.name == _TASK
    mesh.front.coordinator.go_on.set()
    assert (await waiting).task.name == "tenants/acme/tasks/waits"
    assert await _connections(mesh) == connections


async def _connections(mesh: Guarded) -> int:
    """How many there have been at the port of TLS."""
    counted = await mesh.front.gateway.statistics("listener.")
    return counted[f"127.0.0.1_{mesh.front.gateway.tls_port}.downstream_cx_total"]
