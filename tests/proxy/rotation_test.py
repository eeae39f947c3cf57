"""Renewed certificates, taken up by a proxy and by those around it while they run."""

import json
from pathlib import Path

from cryptography import x509

from meshkit.clock import SystemClock
from meshkit.tls import ClientTls
from meshtest.eventually import eventually
from tests.proxy.instance import CALLEE
from tests.proxy.running_proxy import Proxy, caller, proxy
from tier.authority import Authority
from tier.certificate_files import CertificateFiles
from tier.http_get import get
from tier.identities import PROXY
from tier.service_tls import tls_settings


async def test_renewed_certificates_are_taken_up_without_a_restart(tmp_path: Path) -> None:
    """The proxy shows them to both sides, and no call notices."""
    async with proxy(tmp_path, "a", mtls=True) as running:
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
            await eventually(is_taken_up, timeout_seconds=20)
            assert await reasoning.embed() == "a"
        # Nothing is left of connections that began with those before.
        async with caller(running.target, patience_seconds=0.0, tls=tls) as reasoning:
            assert await reasoning.embed() == "a"


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
