"""Which certificates the services use, and their supervisor towards them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from meshkit.tls import TlsSettings
from tier.certificate_files import CertificateFiles
from tier.identities import GATEWAY, PROXY, SUPERVISOR, host_name, spiffe_id


@dataclass(frozen=True, slots=True)
class Callee:
    """How somebody is called who is not found by an address: with what, and as whom."""

    settings: TlsSettings
    # The name that the callee's certificate must have.
    host: str


@dataclass(frozen=True, slots=True)
class ServiceTls:
    """The mutual TLS of one service. Its certificates are issued by somebody else."""

    # Of all certificates of the mesh.
    folder: Path
    # The service, by the name of its certificate.
    name: str
    # Whose calls it takes, beside its supervisor's, by the names of their certificates.
    peers: tuple[str, ...] = (GATEWAY, PROXY)

    @property
    def settings(self) -> TlsSettings:
        """Of the service's processes."""
        return tls_settings(self.folder, self.name, self.peers)

    @property
    def callee(self) -> Callee:
        """How the supervisor calls it."""
        return Callee(tls_settings(self.folder, SUPERVISOR), host_name(self.name))


@dataclass(frozen=True, slots=True)
class DirectoryTls:
    """The mutual TLS of who answers for all services, towards the gateway and towards them."""

    # Of all certificates of the mesh.
    folder: Path
    # The services, by the names of their certificates, by their full names in the contracts.
    names: Mapping[str, str]

    @property
    def settings(self) -> TlsSettings:
        """By which it serves the gateway, and calls."""
        return tls_settings(self.folder, SUPERVISOR, (GATEWAY,))

    def callee(self, service: str) -> Callee:
        """How it calls a service, by its full name."""
        return ServiceTls(self.folder, self.names[service]).callee


def tls_settings(folder: Path, name: str, peers: tuple[str, ...] = ()) -> TlsSettings:
    """Of the holder of a certificate in the folder of all; `peers` and the supervisor may call."""
    files = CertificateFiles(folder / name)
    return TlsSettings(
        certificate=files.certificate,
        key=files.key,
        authority=files.authority,
        peers=tuple(spiffe_id(each) for each in (*peers, SUPERVISOR)),
    )
