"""The shipped configuration of the way to several Tritons, moved to where they are."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SHIPPED: Final = Path("mesh/envoy/models.yaml")


@dataclass(frozen=True, slots=True)
class TritonPlace:
    """Where one Triton listens, and whether it has a GPU. Each has an address of its own."""

    address: str
    port: int
    gpu: bool = False


def relocate(
    shipped: Any,
    tritons: Sequence[TritonPlace],
    *,
    port: int,
    reports_port: int,
) -> Any:
    """A copy of the shipped file, parsed, with these places; everything else stays.

    `reports_port` is that of the reporters, at the address of each Triton.
    """
    # The copy is through and through: YAML anchors make shared objects.
    config = copy.deepcopy(shipped)
    (listener,) = config["static_resources"]["listeners"]
    listener["address"]["socket_address"]["port_value"] = port
    with_gpu = [each for each in tritons if each.gpu]
    without = [each for each in tritons if not each.gpu]
    endpoints = {
        "models": [tritons],
        "models_gpu_first": [each for each in (with_gpu, without) if each],
    }
    clusters = [copy.deepcopy(each) for each in config["static_resources"]["clusters"]]
    for cluster in clusters:
        cluster["load_assignment"]["endpoints"] = [
            {"priority": priority, "lb_endpoints": [_endpoint(each) for each in some]}
            for priority, some in enumerate(endpoints[cluster["name"]])
        ]
        weighted = cluster["load_balancing_policy"]["policies"][0]["typed_extension_config"]
        weighted["typed_config"]["oob_reporting_config"]["port_value"] = reports_port
    config["static_resources"]["clusters"] = clusters
    return config


def _endpoint(place: TritonPlace) -> dict[str, Any]:
    address = {"address": place.address, "port_value": place.port}
    return {"endpoint": {"address": {"socket_address": address}}}
