"""How busy the processes of a mesh are, as Envoys and servers count."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from tier import gateway_child, nats_child, proxy_child, redis_child
from tier.data_dir import DataDir
from tier.envoy_admin import admin_socket
from tier.http_get import get
from tier.state import MeshState

# Envoy's own are its administration's.
_OWN: Final = "http.admin."
_ENVOYS: Final = (gateway_child.NAME, proxy_child.NAME)


async def calls_so_far(state: MeshState) -> Mapping[str, int]:
    """The calls that each process has had so far, by its name; nothing of who does not say.

    A count begins anew where a process that counts does.
    """
    by_name = {each.name: each for each in state.processes}
    folder = DataDir(state.data_dir).run
    envoys = {each: admin_socket(folder, each) for each in _ENVOYS if each in by_name}
    counts = await asyncio.gather(*(_of_hosts(each) for each in envoys.values()))
    by_port = Counter[int]()
    for each in counts:
        by_port.update(each)
    found = {
        name: sum(by_port[port] for port in record.ports)
        for name, record in by_name.items()
        if any(port in by_port for port in record.ports)
    }
    for name, admin in envoys.items():
        await _put(found, name, _of_callers(admin))
    if nats := by_name.get(nats_child.NAME):
        await _put(found, nats.name, nats_child.messages_so_far(nats.ports[1]))
    for name in (redis_child.NAME, redis_child.COUNTERS):
        if redis := by_name.get(name):
            await _put(found, name, redis_child.commands_so_far(redis.ports[0]))
    return found


async def _put(found: dict[str, int], name: str, count: Awaitable[int]) -> None:
    # Who does not answer has no count.
    with suppress(OSError, ValueError, KeyError):
        found[name] = await count


async def _of_hosts(admin: Path) -> Counter[int]:
    """The calls that an Envoy has sent, by the port where they went."""
    counts = Counter[int]()
    with suppress(OSError, ValueError, KeyError):
        _, body = await get(admin, "/clusters?format=json")
        for cluster in json.loads(body).get("cluster_statuses", []):
            for host in cluster.get("host_statuses", []):
                port = host["address"]["socket_address"]["port_value"]
                stats = {each["name"]: int(each.get("value", 0)) for each in host["stats"]}
                counts[port] += stats["rq_total"]
    return counts


async def _of_callers(admin: Path) -> int:
    """The calls that an Envoy was sent."""
    _, body = await get(admin, "/stats?filter=downstream_rq_total$")
    lines = (line.rpartition(":") for line in body.decode().splitlines())
    return sum(
        int(count)
        for name, _, count in lines
        if name.startswith("http.") and not name.startswith(_OWN)
    )
