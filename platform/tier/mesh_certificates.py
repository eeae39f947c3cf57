"""The certificates of a mesh whose processes show each other who they are."""

from collections.abc import Mapping, Sequence
from typing import Final

from tier.authority import Authority
from tier.certificate_files import CertificateFiles
from tier.identities import GATEWAY, PROXY, SUPERVISOR
from tier.service_tls import DirectoryTls, ServiceTls


class MeshCertificates:
    """Has one issued for everybody. The authority renews them."""

    def __init__(self, authority: Authority, services: Sequence[str]) -> None:
        """`services`: the parts of the mesh; all processes of one share its certificate.

        That of the gateway, which has more names, is issued by who listens to the world.
        Raises OSError where they cannot be written.
        """
        for name in (*services, SUPERVISOR):
            authority.issue(name)
        self.proxy: Final[CertificateFiles] = authority.issue(PROXY)
        self._folder: Final = self.proxy.folder.parent

    @property
    def gateway(self) -> CertificateFiles:
        """By which the gateway calls."""
        return CertificateFiles(self._folder / GATEWAY)

    def service(self, name: str) -> ServiceTls:
        """By which the processes of a part serve and call."""
        return ServiceTls(self._folder, name)

    def directory(self, parts: Mapping[str, str]) -> DirectoryTls:
        """By which the directory serves and calls. `parts`: by full name of their services."""
        return DirectoryTls(self._folder, parts)
