"""Who gets through the proxy by which certificate, also when it was renewed."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509

from meshkit.clock import SystemClock
from meshkit.errors import DependencyUnavailable, Forbidden, Unauthenticated
from meshkit.tls import ClientTls
from meshtest.eventually import eventually
from tests.proxy.instance import CALLEE
from tests.proxy.running_proxy import Proxy, caller, proxy
from tier.authority import Authority
from tier.certificate_files import CertificateFiles
from tier.http_get import get
from tier.identities import PROXY
from tier.service_tls import tls_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Proxy]:
    """A proxy before one instance, all with certificates."""
    async with proxy(tmp_path_factory.mktemp("mtls"), "a", mtls=True) as made:
        yield made


async def test_a_service_is_let_through_by_its_certificate(running: Proxy) -> None:
    """To an instance that has shown its own; the log says by which."""
    async with caller(running.target, tls=running.tls("memory")) as reasoning:
        assert await reasoning.embed() == "a"


async def test_who_shows_no_certificate_is_not_let_in(running: Proxy) -> None:
    """In plain text, and with one of somebody else's authority."""
    async with caller(running.target, patience_seconds=0.0) as reasoning:
        with pytest.raises(DependencyUnavailable):
            await reasoning.embed(timeout=10)


async def test_a_certificate_of_another_authority_is_worth_nothing(
    running: Proxy, tmp_path: Path
) -> None:
    """Though it says the right name."""
    foreign = Authority.open(tmp_path / "foreign", clock=SystemClock())
    foreign.issue("memory")
    tls = ClientTls(tls_settings(tmp_path / "foreign", "memory"))
    async with caller(running.target, patience_seconds=0.0, tls=tls) as reasoning:
        with pytest.raises(DependencyUnavailable):
            await reasoning.embed(timeout=10)


async def test_nobody_calls_in_the_name_of_another_service(running: Proxy) -> None:
    """The caller must be whom its certificate names, and one with an edge to the service."""
    for certificate, said in (("tool", "memory"), ("memory", "executor"), ("tool", "tool")):
        tls = running.tls(certificate)
        async with caller(running.target, said, tls=tls) as reasoning:
            with pytest.raises(Forbidden):
                await reasoning.embed()


async def test_no_service_takes_calls_that_did_not_cross_a_proxy(running: Proxy) -> None:
    """A service that calls another one directly is refused there."""
    direct = running.instances["a"].target
    tls = running.tls("memory")
    async with caller(direct, patience_seconds=0.0, tls=tls) as reasoning:
        # The certificate there is for no address: only who looks for the service takes it.
        with pytest.raises((DependencyUnavailable, Unauthenticated)):
            await reasoning.embed(timeout=10)


async def test_renewed_certificates_are_taken_up_without_a_restart(running: Proxy) -> None:
    """The proxy shows them to both sides, and no call notices."""
    assert running.certificates is not None
    tls = ClientTls(tls_settings(running.certificates, "memory"), look_every_seconds=0)
    async with caller(running.target, patience_seconds=0.0, tls=tls) as reasoning:
        assert await reasoning.embed() == "a"
        before = await _shown(running)
        authority = Authority.open(running.certificates, clock=SystemClock())
        own = _renewed(authority, PROXY)
        _renewed(authority, CALLEE)
        _renewed(authority, "memory")

        async def is_taken_up() -> bool:
            assert await reasoning.embed() == "a"
            return await _shown(running) == {_serial(own)}

        assert before != {_serial(own)}
        await eventually(is_taken_up, timeout_seconds=60)
        assert await reasoning.embed() == "a"
    # Nothing is left of connections that began with those before.
    async with caller(running.target, patience_seconds=0.0, tls=tls) as reasoning:
        assert await reasoning.embed() == "a"


async def test_an_instance_with_the_certificate_of_another_service_gets_no_call(
    running: Proxy, tmp_path: Path
) -> None:
    """Nor does one whose authority is another one: the proxy takes it for unhealthy."""
    assert running.certificates is not None
    impostor = tmp_path / "impostor"
    impostor.mkdir()
    for name in ("supervisor", "authority"):
        (impostor / name).symlink_to(running.certificates / name)
    (impostor / CALLEE).symlink_to(running.certificates / "tool")
    async with caller(running.target, tls=running.tls("memory")) as reasoning:
        await running.start_impostor("b", impostor)
        assert {await reasoning.embed() for _ in range(20)} == {"a"}
        assert await running.has_healthy(1)
        await running.leave("a")


def _renewed(authority: Authority, name: str) -> CertificateFiles:
    """Another certificate of that name, as it is made at half of the life of the one before."""
    return authority.issue(name, hosts=("renewed.example",))


def _serial(files: CertificateFiles) -> int:
    return x509.load_pem_x509_certificate(files.certificate.read_bytes()).serial_number


async def _shown(running: Proxy) -> set[int]:
    """The serial numbers of the certificates that the proxy shows, to whomever."""
    _, body = await get(running.admin, "/certs")
    return {
        int(each["serial_number"], 16)
        for certificate in json.loads(body)["certificates"]
        for each in certificate["cert_chain"]
    }
