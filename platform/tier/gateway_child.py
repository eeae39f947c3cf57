"""Envoy as the gateway, as a child."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tier.child import ChildSpec
from tier.data_dir import DataDir
from tier.descriptors import descriptor_set
from tier.envoy_admin import admin_socket, ready_version
from tier.gateway_access import FOLLOWED, Guard, write
from tier.gateway_access import followed as followed_by_guards
from tier.gateway_config import GatewayPlaces, GuardPlaces, followed, read_shipped, relocate
from tier.gateway_refusals import mappers
from tier.upstreams import Upstreams

NAME: Final = "gateway"
ACCESS: Final = "access"


def gateway_child(
    binary: Path,
    data_dir: DataDir,
    repository: Path,
    port: int,
    endpoints: Mapping[str, Sequence[int]],
    *,
    guard: Guard | None = None,
    upstreams: Upstreams | None = None,
) -> ChildSpec:
    """Writes its configuration and the contracts, and says how to run it.

    Without a `guard` it lets in whoever reaches the loopback interface, as an admin. With
    `upstreams` it takes the instances from files, and not from `endpoints`.
    """
    contracts = data_dir.run / "agentmesh.binpb"
    contracts.write_bytes(descriptor_set())
    shipped = read_shipped(repository)
    limits = data_dir.folder(FOLLOWED)
    for name, content in followed(shipped).items():
        # Those of the last time hold until the governor serves.
        if not (limits / name).exists():
            (limits / name).write_text(content, "utf-8")
    places = GatewayPlaces(
        port,
        endpoints,
        contracts,
        data_dir.rotate(ACCESS),
        limits,
        guard=_guarded(guard, limits) if guard else None,
        upstreams=upstreams,
    )
    # JSON is YAML that is quicker to write, and ten times as quick where nothing is indented.
    configuration = data_dir.run / "gateway.json"
    configuration.write_text(json.dumps(relocate(shipped, places)), "utf-8")

    admin = admin_socket(data_dir.run, NAME)

    async def probe() -> str | None:
        return await ready_version(admin)

    return ChildSpec(
        name=NAME,
        title="Envoy",
        command=(
            *(binary, "-c", configuration),
            *("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"),
            # So that whoever follows the access log need not wait ten seconds.
            *("--file-flush-interval-msec", "1000"),
        ),
        working_dir=data_dir.run,
        log=data_dir.rotate(NAME),
        ports=(port, *([guard.tls_port] if guard else [])),
        probe=probe,
    )


def _guarded(guard: Guard, folder: Path) -> GuardPlaces:
    write(folder, followed_by_guards(guard))
    refusals = mappers(guard.policy, len(guard.issuers))
    return GuardPlaces(guard.listen, guard.tls_port, guard.certificate, refusals, guard.origins)
