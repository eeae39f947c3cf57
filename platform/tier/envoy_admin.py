"""What an Envoy tells in its administration."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tier.http_get import get


@dataclass(frozen=True, slots=True)
class InstanceInUse:
    """An instance as an Envoy sees it."""

    # Whether it gets no more calls because a file says so.
    draining: bool
    # Calls that it has from this Envoy.
    calls: int


def admin_socket(folder: Path, envoy: str) -> Path:
    """Where the Envoy of that name in `mesh/envoy` is asked; `folder`: in which it runs."""
    return folder / f"{envoy}-admin.sock"


async def ready_version(socket: Path) -> str | None:
    """Its version, once its listeners take calls. Raises OSError."""
    status, _ = await get(socket, "/ready")
    if status != 200:
        return None
    _, body = await get(socket, "/server_info")
    # `commit/version/clean/RELEASE/BoringSSL`
    return str(json.loads(body)["version"]).split("/")[1]


async def instances(socket: Path, cluster: str) -> Mapping[int, InstanceInUse]:
    """The instances that a cluster has now, by their ports. Raises OSError."""
    _, body = await get(socket, "/clusters?format=json")
    return {
        host["address"]["socket_address"]["port_value"]: _in_use(host)
        for status in json.loads(body).get("cluster_statuses", [])
        if status["name"] == cluster
        for host in status.get("host_statuses", [])
    }


def _in_use(host: Any) -> InstanceInUse:
    (calls,) = (int(each.get("value", 0)) for each in host["stats"] if each["name"] == "rq_active")
    return InstanceInUse(host["health_status"].get("eds_health_status") == "DRAINING", calls)
