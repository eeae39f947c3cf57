"""What an Envoy tells in its administration."""

import json

from tier.http_get import get


async def ready_version(admin_port: int) -> str | None:
    """Its version, once its listeners take calls. Raises OSError."""
    status, _ = await get(admin_port, "/ready")
    if status != 200:
        return None
    _, body = await get(admin_port, "/server_info")
    # `commit/version/clean/RELEASE/BoringSSL`
    return str(json.loads(body)["version"]).split("/")[1]


async def instances(admin_port: int, cluster: str) -> frozenset[int]:
    """The ports of the instances that a cluster has now. Raises OSError."""
    _, body = await get(admin_port, "/clusters?format=json")
    statuses = json.loads(body).get("cluster_statuses", [])
    return frozenset(
        host["address"]["socket_address"]["port_value"]
        for status in statuses
        if status["name"] == cluster
        for host in status.get("host_statuses", [])
    )
