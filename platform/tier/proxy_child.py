"""Envoy between the services, as a child."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tier.certificate_files import CertificateFiles
from tier.child import ChildSpec
from tier.data_dir import DataDir
from tier.envoy_admin import admin_socket, ready_version
from tier.proxy_config import ProxyPlaces, read_shipped, relocate

NAME: Final = "proxy"
ACCESS: Final = "proxy-access"


def proxy_child(
    binary: Path,
    data_dir: DataDir,
    repository: Path,
    *,
    ports: Mapping[str, int],
    endpoints: Path,
    certificates: CertificateFiles | None,
) -> ChildSpec:
    """Writes its configuration and says how to run it. `ports`: by the service called."""
    places = ProxyPlaces(ports, endpoints, data_dir.rotate(ACCESS), certificates)
    # JSON is YAML that is quicker to write, and ten times as quick where nothing is indented.
    configuration = data_dir.run / f"{NAME}.json"
    moved = relocate(read_shipped(repository), places)
    configuration.write_text(json.dumps(moved), "utf-8")

    admin = admin_socket(data_dir.run, NAME)

    async def probe() -> str | None:
        return await ready_version(admin)

    return ChildSpec(
        name=NAME,
        title="Envoy between the services",
        command=(
            *(binary, "-c", configuration),
            *("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"),
            *("--file-flush-interval-msec", "1000"),
        ),
        working_dir=data_dir.run,
        log=data_dir.rotate(NAME),
        ports=tuple(ports.values()),
        probe=probe,
    )
