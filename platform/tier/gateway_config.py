"""The shipped configuration of the gateway, moved to where a mesh has its addresses and files."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

SHIPPED: Final = Path("mesh/envoy/gateway.yaml")
# The cluster that knows of all services.
DIRECTORY: Final = "directory"
_NAMED: Final = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"


@dataclass(frozen=True, slots=True)
class GatewayPlaces:
    """Where the gateway listens, whom it calls, and its files."""

    port: int
    admin_port: int
    # Ports on this machine, by cluster; every cluster has some.
    endpoints: Mapping[str, Sequence[int]]
    descriptor_set: Path
    access_log: Path
    # Where the files lie that its filters follow.
    limits: Path


def read_shipped(repository: Path) -> Any:
    """The shipped file, parsed."""
    return yaml.load((repository / SHIPPED).read_text("utf-8"), Loader=yaml.CSafeLoader)


def relocate(shipped: Any, places: GatewayPlaces) -> Any:
    """A copy with these places instead of the shipped ones; everything else stays.

    KeyError where a cluster has no endpoints in `places`.
    """
    # The copy is through and through: YAML anchors make shared objects.
    config = copy.deepcopy(shipped)
    config["admin"]["address"]["socket_address"]["port_value"] = places.admin_port
    resources = config["static_resources"]
    (listener,) = resources["listeners"]
    listener["address"]["socket_address"]["port_value"] = places.port
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["access_log"][0]["typed_config"]["path"] = str(places.access_log)
    for each in manager["http_filters"]:
        if each["name"] == "envoy.filters.http.grpc_json_transcoder":
            each["typed_config"]["proto_descriptor"] = str(places.descriptor_set)
        if file := _followed(each):
            file["path"] = str(places.limits / file["path"])
    for cluster in resources["clusters"]:
        (locality,) = cluster["load_assignment"]["endpoints"]
        locality["lb_endpoints"] = [_endpoint(port) for port in places.endpoints[cluster["name"]]]
    return config


def followed(shipped: Any) -> Mapping[str, str]:
    """What the files that filters follow hold before anybody else has written them, by name."""
    (listener,) = shipped["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return {
        file["path"]: json.dumps(
            {
                "resources": [
                    {
                        "@type": _NAMED,
                        "name": each["name"],
                        "typed_config": each["config_discovery"]["default_config"],
                    }
                ]
            }
        )
        for each in manager["http_filters"]
        if (file := _followed(each))
    }


def _followed(http_filter: Any) -> Any:
    """Names the file whose content a filter follows; None for one that follows none."""
    return (
        http_filter.get("config_discovery", {}).get("config_source", {}).get("path_config_source")
    )


def _endpoint(port: int) -> Any:
    return {
        "endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}
    }
