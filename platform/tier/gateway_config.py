"""The shipped configuration of the gateway, moved to where a mesh has its addresses and files."""

import copy
import ipaddress
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tier.identities import SUPERVISOR
from tier.upstreams import Upstreams

SHIPPED: Final = Path("mesh/envoy/gateway.yaml")
# The cluster that knows of all services.
DIRECTORY: Final = "directory"
# The filters that ask callers who they are and what they may, and the one in their place where
# nobody is asked.
_GUARDS: Final = ("tokens", "token-caller", "keys", "callers", "grants", "takes", "roles")
_ANYBODY: Final = "anybody"
_TRANSCODER: Final = "envoy.filters.http.grpc_json_transcoder"
_CORS: Final = "envoy.filters.http.cors"
_FOREIGN_PAGE: Final = "foreign-page"
_NAMED: Final = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"


@dataclass(frozen=True, slots=True)
class GuardPlaces:
    """Where a gateway takes TLS that asks callers who they are, and how it refuses them."""

    listen: str
    port: int
    # What Envoy follows by SDS.
    certificate: Path
    # For `local_reply_config`.
    refusals: Sequence[Any]
    # Sites whose pages may call, beside those of this machine.
    origins: Sequence[str]


@dataclass(frozen=True, slots=True)
class GatewayPlaces:
    """Where the gateway listens, whom it calls, and its files."""

    port: int
    # Ports on this machine, by cluster; every cluster has some.
    endpoints: Mapping[str, Sequence[int]]
    descriptor_set: Path
    access_log: Path
    # Where the files lie that its filters follow.
    limits: Path
    # None for a gateway that lets in whoever reaches the loopback interface.
    guard: GuardPlaces | None = None
    # Where instances come and go; None where all stay at `endpoints`.
    upstreams: Upstreams | None = None


def read_shipped(repository: Path) -> Any:
    """The shipped file, parsed."""
    return yaml.load((repository / SHIPPED).read_text("utf-8"), Loader=yaml.CSafeLoader)


def relocate(shipped: Any, places: GatewayPlaces) -> Any:
    """A copy with these places instead of the shipped ones, for callers with credentials or
    without; everything else stays.

    KeyError where a cluster has no endpoints in `places`.
    """
    # The copy is through and through. What the two listeners share, as YAML anchors make it, the
    # copies share, too.
    config = copy.deepcopy(shipped)
    resources = config["static_resources"]
    listener, guarded = resources["listeners"]
    listener["address"]["socket_address"]["port_value"] = places.port
    manager = _manager(listener)
    manager["access_log"][0]["typed_config"]["path"] = str(places.access_log)
    if places.guard:
        _guard(guarded, manager, places.guard)
    else:
        resources["listeners"] = [listener]
        _open(manager)
    for each in manager["http_filters"]:
        if file := _followed(each):
            file["path"] = str(places.limits / file["path"])
    for transcoder in _transcoders(manager):
        transcoder["proto_descriptor"] = str(places.descriptor_set)
    for cluster in resources["clusters"]:
        if places.upstreams:
            # The supervisor answers for the mesh as a whole.
            holder = SUPERVISOR if cluster["name"] == DIRECTORY else cluster["name"]
            places.upstreams.follow(cluster, holder)
            continue
        (locality,) = cluster["load_assignment"]["endpoints"]
        locality["lb_endpoints"] = [_endpoint(port) for port in places.endpoints[cluster["name"]]]
    return config


def _guard(listener: Any, manager: Any, guard: GuardPlaces) -> None:
    listener["address"]["socket_address"] = {"address": guard.listen, "port_value": guard.port}
    socket = listener["filter_chains"][0]["transport_socket"]["typed_config"]
    (secret,) = socket["common_tls_context"]["tls_certificate_sds_secret_configs"]
    secret["sds_config"]["path_config_source"]["path"] = str(guard.certificate)
    replies = manager["local_reply_config"]
    replies["mappers"] = [*guard.refusals, *replies["mappers"]]
    (host,) = manager["route_config"]["virtual_hosts"]
    if not ipaddress.ip_address(guard.listen).is_loopback:
        # By whatever name they find it: without credentials of its own nobody's page gets far.
        host["domains"] = ["*"]
    for origin in guard.origins:
        _let_in(host, origin)


def _let_in(host: Any, origin: str) -> None:
    cors = host["typed_per_filter_config"][_CORS]["allow_origin_string_match"]
    (page,) = (each for each in host["routes"] if each["name"] == _FOREIGN_PAGE)
    cors.append({"exact": origin})
    page["match"]["headers"].append(
        {"name": "origin", "string_match": {"exact": origin}, "invert_match": True}
    )


def _open(manager: Any) -> None:
    filters = [each for each in manager["http_filters"] if each["name"] not in _GUARDS]
    (anybody,) = (each for each in filters if each["name"] == _ANYBODY)
    del anybody["disabled"]
    manager["http_filters"] = filters


def _manager(listener: Any) -> Any:
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def _transcoders(manager: Any) -> Iterator[Any]:
    """The one of all calls, and those of some routes."""
    yield from (
        each["typed_config"] for each in manager["http_filters"] if each["name"] == _TRANSCODER
    )
    (host,) = manager["route_config"]["virtual_hosts"]
    for route in host["routes"]:
        yield from route.get("typed_per_filter_config", {}).values()


def followed(shipped: Any) -> Mapping[str, str]:
    """What the files of limits hold before the governor has written them, by name."""
    manager = _manager(shipped["static_resources"]["listeners"][0])
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
        if (file := _followed(each)) and "default_config" in each["config_discovery"]
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
