"""Writes what the containers of staging read: settings, certificates, credentials.

    ./bazelw run //platform/compose:prepare -- FOLDER

FOLDER holds all that the mesh keeps, too. What is there stays, but for settings, which are written
again, and certificates at half of their life: run it again to renew them, while the mesh runs.
"""

import json
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from compose.places import (
    DATA,
    HOST,
    NATS_URL,
    PLAIN_PORT,
    POSTGRES_URL,
    QDRANT_URL,
    REDIS_URL,
    SECRETS,
    TLS_PORT,
    Ports,
    ports,
)
from images.layer import USER
from meshkit.clock import Clock, SystemClock
from meshkit.ids import RandomIds
from tier import (
    access_bootstrap,
    gateway_access,
    gateway_config,
    policy_contracts,
    proxy_config,
)
from tier.authority import Authority
from tier.binaries import repository_root
from tier.certificate_files import CERTIFICATES, CertificateFiles, write_private
from tier.descriptors import descriptor_set
from tier.endpoint_files import EndpointFiles
from tier.gateway_access import Guard
from tier.gateway_config import DIRECTORY, GatewayPlaces, GuardPlaces
from tier.gateway_refusals import mappers
from tier.identities import GATEWAY, PROXY, SUPERVISOR
from tier.parts import PARTS
from tier.proxy_config import ProxyPlaces
from tier.service_tls import tls_settings
from tier.upstreams import Upstreams

# Nobody renews them while the mesh runs, unless somebody runs this.
_CERTIFICATES_LAST_SECONDS: Final = 180 * 24 * 3600.0
_LOG: Final = Path("/dev/stdout")
_DEFAULT_TENANT: Final = "default"
# In requests a second. Each request of such a tier asks the governor.
_SHARED_LIMITS_UP_TO: Final = 100
_STORES: Final = ("nats", "postgres", "qdrant", "redis")
# Asked for the health of the mesh, where nobody supervises all of it.
_ASKED: Final = "coordinator"


class _Upstreams(Upstreams):
    """Those of a mesh without a supervisor."""

    def follow(self, cluster: Any, holder: str) -> None:
        super().follow(cluster, _ASKED if holder == SUPERVISOR else holder)


def prepare(folder: Path, *, clock: Clock) -> None:
    """Writes all files of a mesh, and makes what is missing. `folder` is absolute.

    Raises BadConfig for a file that holds something else than it should, and OSError.
    """
    for each in ("config", "endpoints", "gateway", "secrets", "settings", "data"):
        (folder / each).mkdir(parents=True, exist_ok=True, mode=0o700)
    for each in (*_STORES, *(part.name for part in PARTS)):
        (folder / "data" / each).mkdir(exist_ok=True, mode=0o700)
    # Where the gateway's files are mounted.
    (folder / "data" / "governor" / "gateway").mkdir(exist_ok=True, mode=0o700)
    shipped = gateway_config.read_shipped(repository_root())
    shipped_proxy = proxy_config.read_shipped(repository_root())
    where = ports(shipped, shipped_proxy)
    authority = Authority.open(
        folder / CERTIFICATES, clock=clock, life_seconds=_CERTIFICATES_LAST_SECONDS
    )
    for part in PARTS:
        authority.issue(part.name)
    _write_endpoints(folder / "endpoints", where)
    _write_gateway(folder, shipped, authority, clock)
    _write_proxy(folder, shipped_proxy, authority.issue(PROXY), where)
    for name, settings in service_settings(folder, where).items():
        write_private(folder / "settings" / f"{name}.yaml", yaml.safe_dump(settings).encode())
    _write_password(folder / "secrets")


def service_settings(folder: Path, where: Ports) -> Mapping[str, Mapping[str, Any]]:
    """The settings of each service, by its name."""
    sections: dict[str, dict[str, Any]] = {
        "coordinator": {
            "read_model": POSTGRES_URL,
            "bootstrap_keys": str(SECRETS / "bootstrap-keys"),
        },
        "governor": {
            "ledger_database": POSTGRES_URL,
            "shared_limits_up_to": _SHARED_LIMITS_UP_TO,
        },
        "memory": {"qdrant_url": QDRANT_URL},
    }
    found: dict[str, Mapping[str, Any]] = {}
    for part in PARTS:
        tls = tls_settings(folder / CERTIFICATES, part.name, (GATEWAY, PROXY))
        # Executors, of which there are several, are told theirs in compose.yaml.
        own = where.services.get(part.name)
        found[part.name] = {
            **({"address": f"{HOST}:{own}"} if own else {}),
            "data_dir": DATA,
            "default_tenant": _DEFAULT_TENANT,
            "drain_seconds": 30,
            "log_format": "json",
            "nats_url": NATS_URL,
            "redis_url": REDIS_URL,
            "targets": {each: f"{HOST}:{where.calls[each]}" for each in part.calls},
            "proxied": True,
            "tls": tls.model_dump(mode="json"),
            **({part.name: sections[part.name]} if part.name in sections else {}),
        }
    return found


def _write_endpoints(folder: Path, where: Ports) -> None:
    files = EndpointFiles(folder)
    for name, port in where.services.items():
        files.write(name, [where.services[_ASKED] if name == DIRECTORY else port])


def _write_gateway(folder: Path, shipped: Any, authority: Authority, clock: Clock) -> None:
    access = access_bootstrap.prepare(folder, clock=clock, ids=RandomIds())
    certificates = authority.issue(GATEWAY)
    guard = Guard(
        tls_port=TLS_PORT,
        certificate=certificates.certificate_secret,
        policy=policy_contracts.shipped(),
        issuers=(gateway_access.own_issuer(access.jwks),),
        # The network's own door is all that there is: compose.yaml opens it to this machine.
        listen="0.0.0.0",
    )
    limits = folder / "gateway"
    for name, content in gateway_config.followed(shipped).items():
        # The governor keeps them up to date.
        if not (limits / name).exists():
            (limits / name).write_text(content, "utf-8")
    gateway_access.write(limits, gateway_access.followed(guard))
    contracts = folder / "config" / "agentmesh.binpb"
    contracts.write_bytes(descriptor_set())
    refusals = mappers(guard.policy, len(guard.issuers))
    places = GatewayPlaces(
        port=PLAIN_PORT,
        endpoints={},
        descriptor_set=contracts,
        access_log=_LOG,
        limits=limits,
        guard=GuardPlaces(guard.listen, guard.tls_port, guard.certificate, refusals, ()),
        upstreams=_Upstreams(folder / "endpoints", certificates),
    )
    _write_json(folder / "config" / "gateway.json", gateway_config.relocate(shipped, places))


def _write_proxy(folder: Path, shipped: Any, certificates: CertificateFiles, where: Ports) -> None:
    places = ProxyPlaces(
        ports=where.calls,
        endpoints=folder / "endpoints",
        access_log=_LOG,
        certificates=certificates,
    )
    _write_json(folder / "config" / "proxy.json", proxy_config.relocate(shipped, places))


def _write_password(folder: Path) -> None:
    password = folder / "postgres"
    if not password.exists():
        write_private(password, secrets.token_urlsafe(32).encode())
    write_private(folder / "pgpass", f"{HOST}:*:*:agentmesh:{password.read_text()}\n".encode())


def _write_json(file: Path, content: Any) -> None:
    write_private(file, json.dumps(content, indent=1).encode())


def hand_over(folder: Path, user: int, group: int) -> tuple[int, int]:
    """Who the containers run as: the owner of all files, and never root.

    Args:
        folder: What `prepare` has written; root's is given to the user of the images.
        user: Who runs this.
        group: Its group.
    """
    if user:
        return user, group
    for parent, folders, files in os.walk(folder):
        for each in (".", *folders, *files):
            os.chown(Path(parent) / each, USER, USER, follow_symlinks=False)
    return USER, USER


def main(given: str) -> None:
    """Prepares the folder, and says how to start the mesh."""
    # Bazel starts us among our data, not where the user is.
    folder = Path(os.environ.get("BUILD_WORKING_DIRECTORY", "."), given).expanduser().resolve()
    prepare(folder, clock=SystemClock())
    user, group = hand_over(folder, os.getuid(), os.getgid())
    (folder / ".env").write_text(f"MESH_FILES={folder}\nMESH_USER={user}:{group}\n", "utf-8")
    print(f"docker compose --env-file {folder}/.env --file mesh/compose/compose.yaml up --detach")


if __name__ == "__main__":
    main(*sys.argv[1:])
