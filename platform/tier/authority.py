"""The authority of a mesh on one machine: who is who, by certificates that it renews itself."""

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshkit.clock import Clock
from tier.certificate_files import CertificateFiles, write_private
from tier.events import Phase
from tier.failures import AuthorityUnreadable
from tier.identities import GATEWAY, PROXY, host_name, spiffe_id

LIFE_SECONDS: Final = 24 * 3600.0

# These alone are found by an address: no service's certificate stands for one.
_PROXIES: Final = (GATEWAY, PROXY)
_PROXY_HOSTS: Final = ("localhost", "127.0.0.1")
_ORGANIZATION: Final = "Agentmesh"
_AUTHORITY_LIFE: Final = timedelta(days=3650)
# An authority that ends sooner is replaced at a start.
_AUTHORITY_LEFT: Final = timedelta(days=30)
# For clocks that are behind.
_EARLIER: Final = timedelta(minutes=5)
# A machine that slept does not notice by itself that half of a life is over.
_LOOK_EVERY_SECONDS: Final = 300.0
_AGAIN_SECONDS: Final = 30.0
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")


class Authority:
    """Issues certificates and renews them at half of their life."""

    def __init__(
        self,
        folder: Path,
        certificate: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        *,
        clock: Clock,
        life_seconds: float,
    ) -> None:
        """See `open`."""
        self._folder: Final = folder
        self._certificate: Final = certificate
        self._key: Final = key
        self._clock: Final = clock
        self._life: Final = timedelta(seconds=life_seconds)
        # The hosts of each certificate that was issued, by its name.
        self._issued: dict[str, tuple[str, ...]] = {}

    @classmethod
    def open(cls, folder: Path, *, clock: Clock, life_seconds: float = LIFE_SECONDS) -> "Authority":
        """The authority that is in `folder`, or a new one.

        Args:
            folder: Of all certificates; the authority's own are in `authority/` below it.
            clock: Tells when certificates begin and end.
            life_seconds: Of a certificate.

        Raises:
            AuthorityUnreadable: What is there is not whole.
            OSError: The folder cannot be written.
        """
        own = folder / "authority"
        own.mkdir(parents=True, exist_ok=True, mode=0o700)
        certificate_file, key_file = own / "certificate.pem", own / "key.pem"
        found = _read_authority(certificate_file, key_file)
        if found is None or found[0].not_valid_after_utc < clock.now() + _AUTHORITY_LEFT:
            found = _make_authority(clock.now())
            # The certificate goes last: where it is, there is a key.
            certificate_file.unlink(missing_ok=True)
            write_private(key_file, _key_pem(found[1]))
            write_private(certificate_file, _pem(found[0]))
        return cls(folder, *found, clock=clock, life_seconds=life_seconds)

    @property
    def certificate(self) -> Path:
        """The authority's certificate, for clients of the gateway to trust."""
        return self._folder / "authority" / "certificate.pem"

    def issue(self, name: str, *, hosts: Sequence[str] = ()) -> CertificateFiles:
        """A certificate by which its holder is known as `spiffe_id(name)`, kept by `keep`.

        One that is there and not yet due for renewal stays.

        Args:
            name: Such as `governor`, for all processes of that service.
            hosts: Names and addresses by which it is reached beside its usual ones.

        Raises:
            ValueError: The name is none.
            OSError: It cannot be written.
        """
        if not _NAME.fullmatch(name) or name == "authority":
            raise ValueError(f"{name!r} is no name for a certificate.")
        usual = _PROXY_HOSTS if name in _PROXIES else (host_name(name),)
        self._issued[name] = tuple(dict.fromkeys((*usual, *hosts)))
        files = self._files(name)
        if self._due_seconds(name) <= 0:
            self._write(name)
        files.write_secrets()
        return files

    async def keep(self, report: Callable[[str, Phase, str], None]) -> None:
        """Renews what was issued, for ever; says what cannot be renewed, and tries again."""
        while True:
            failed = [each for each in self._issued if not self._renewed(each, report)]
            due = min((self._due_seconds(each) for each in self._issued), default=float("inf"))
            least = _AGAIN_SECONDS if failed else 1.0
            await self._clock.sleep(min(max(due, least), _LOOK_EVERY_SECONDS))

    def _renewed(self, name: str, report: Callable[[str, Phase, str], None]) -> bool:
        """Whether it holds for a while yet, after it was renewed if need be."""
        if self._due_seconds(name) > 0:
            return True
        try:
            self._write(name)
        except OSError as error:
            cause = error.strerror or error
            text = f"Failed to renew the certificate of {name} ({cause}); tried again soon"
            report("certificates", Phase.FAILED, text)
            return False
        return True

    def _files(self, name: str) -> CertificateFiles:
        return CertificateFiles(self._folder / name)

    def _due_seconds(self, name: str) -> float:
        """Until it is to be renewed; nothing is left where there is none that holds."""
        files = self._files(name)
        try:
            found = x509.load_pem_x509_certificate(files.certificate.read_bytes())
            authority = files.authority.read_bytes()
            found.verify_directly_issued_by(self._certificate)
            names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            key = serialization.load_pem_private_key(files.key.read_bytes(), None)
        except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return 0.0
        if names != _names(name, self._issued[name]) or key.public_key() != found.public_key():
            return 0.0
        if authority != _pem(self._certificate):
            return 0.0
        begun = found.not_valid_before_utc + _EARLIER
        # A life that is now set to be shorter holds for what was issued before, too.
        life = min(self._life, found.not_valid_after_utc - begun)
        return (begun + life / 2 - self._clock.now()).total_seconds()

    def _write(self, name: str) -> None:
        now = self._clock.now()
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(f"Agentmesh {name}", key, now, now + self._life)
            .issuer_name(self._certificate.subject)
            .add_extension(_names(name, self._issued[name]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        self._files(name).write(
            certificate=_pem(certificate),
            key=_key_pem(key),
            authority=_pem(self._certificate),
            version=f"{now:%Y%m%dT%H%M%S}-{certificate.serial_number:x}",
        )


def _names(name: str, hosts: Iterable[str]) -> x509.SubjectAlternativeName:
    identity = x509.UniformResourceIdentifier(spiffe_id(name))
    return x509.SubjectAlternativeName([identity, *(_host(each) for each in hosts)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _make_authority(now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder("Agentmesh local authority", key, now, now + _AUTHORITY_LIFE)
    certificate = (
        builder.issuer_name(_subject("Agentmesh local authority"))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def _read_authority(
    certificate_file: Path, key_file: Path
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None:
    """What is there; None where there is nothing."""
    if not certificate_file.exists():
        return None
    try:
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        raise AuthorityUnreadable(certificate_file.parent) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or (
        key.public_key() != certificate.public_key()
    ):
        raise AuthorityUnreadable(certificate_file.parent)
    return certificate, key


def _builder(
    name: str, key: ec.EllipticCurvePrivateKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
