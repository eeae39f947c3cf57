"""How callers come into a mesh that is guarded: with which credentials, by which certificate."""

import ipaddress
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import psutil

from meshkit.clock import SystemClock
from meshkit.constants import AUTHORIZATION_KEY
from meshkit.identity import Role
from meshkit.ids import RandomIds
from tier import access_bootstrap, gateway_access, policy_contracts
from tier.access_files import TENANT, AccessFiles
from tier.access_tokens import SigningKey
from tier.authority import Authority
from tier.certificate_files import CERTIFICATES
from tier.data_dir import DataDir
from tier.events import Phase
from tier.failures import BadConfig
from tier.gateway_access import FOLLOWED, Guard, Issuer
from tier.gateway_settings import GatewaySettings, IssuerSettings
from tier.identities import GATEWAY, SUPERVISOR
from tier.options import MeshOptions

# Longer than a start may take.
_OWN_TOKEN: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Entrance:
    """What the gateway goes by, and the credentials that the mesh made itself."""

    guard: Guard
    access: AccessFiles

    @property
    def own_metadata(self) -> tuple[tuple[str, str], ...]:
        """By which the mesh itself comes in: not by the owner's key, which may be revoked."""
        token = SigningKey.read(self.access.signing_key).token(
            subject=SUPERVISOR,
            tenant=TENANT,
            role=Role.USER,
            now=SystemClock().now(),
            life=_OWN_TOKEN,
        )
        return ((AUTHORIZATION_KEY, f"Bearer {token}"),)

    @property
    def tls_address(self) -> str:
        """Where the gateway takes TLS, `address:port`."""
        listen = self.guard.listen
        return f"{f'[{listen}]' if ':' in listen else listen}:{self.guard.tls_port}"

    async def keep(self, data_dir: DataDir, report: Callable[[str, Phase, str], None]) -> None:
        """Has the gateway go by issuers' keys as they change, for ever."""
        folder = data_dir.folder(FOLLOWED)
        await gateway_access.keep(folder, self.guard, clock=SystemClock(), report=report)


def make_entrance(
    options: MeshOptions, tls_port: int, settings: GatewaySettings, authority: Authority
) -> Entrance:
    """Makes credentials where there are none, and says how the gateway asks for them.

    Raises BadConfig for an issuer's keys that cannot be read, and for a file of the mesh's own
    that holds something else than it should.
    """
    access = access_bootstrap.prepare(options.data_dir, clock=SystemClock(), ids=RandomIds())
    own = gateway_access.own_issuer(access.jwks)
    hosts = (*_hosts(options.listen), *settings.hosts)
    guard = Guard(
        tls_port=tls_port,
        certificate=authority.issue(GATEWAY, hosts=hosts).certificate_secret,
        policy=policy_contracts.shipped(),
        issuers=(own, *(_issuer(each) for each in settings.issuers)),
        listen=options.listen,
        origins=tuple(settings.origins),
    )
    return Entrance(guard, access)


def open_authority(data_dir: Path) -> Authority:
    """The mesh's own authority, made where there is none. Raises AuthorityUnreadable."""
    return Authority.open(data_dir / CERTIFICATES, clock=SystemClock())


def _issuer(settings: IssuerSettings) -> Issuer:
    if not settings.jwks.is_file():
        raise BadConfig(
            f"gateway.issuers: {settings.jwks} is no file: give the keys of {settings.name} as a"
            " JSON Web Key Set."
        )
    return Issuer(
        settings.name,
        tuple(settings.audiences),
        settings.jwks,
        settings.subject_claim,
        settings.tenant_claim,
        settings.role_claim,
        Role(settings.max_role),
        tuple(settings.tenants),
    )


def _hosts(listen: str) -> Iterator[str]:
    """By what a gateway that listens there is reached from other machines."""
    address = ipaddress.ip_address(listen)
    if address.is_loopback:
        return
    yield socket.gethostname()
    if not address.is_unspecified:
        yield listen
        return
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family in (socket.AF_INET, socket.AF_INET6):
                # Of an IPv6 address the part that names an interface is nobody else's.
                yield each.address.partition("%")[0]
