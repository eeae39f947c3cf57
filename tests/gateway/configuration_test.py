"""The gateway's configuration, as it is shipped."""

import asyncio
import base64
import copy
import os
import re
from dataclasses import replace
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from google.protobuf import descriptor_pb2
from google.protobuf.json_format import MessageToDict
from google.rpc import status_pb2

from meshkit.errors import RateLimited, to_status
from tests.gateway.credentials import TokenIssuer, guard
from tier import binaries, descriptors, gateway_access, gateway_config, parts
from tier.gateway_config import GatewayPlaces, GuardPlaces

_SHIPPED = binaries.repository_root() / gateway_config.SHIPPED
_PLACES = GatewayPlaces(
    port=1001,
    endpoints={
        "coordinator": (2001, 2002),
        "reasoning": (2003,),
        "memory": (2004,),
        "tool": (2005,),
        "governor": (2006,),
        "directory": (2007,),
    },
    descriptor_set=Path("/elsewhere/contracts"),
    access_log=Path("/elsewhere/log"),
    limits=Path("/elsewhere/limits"),
)
_GUARDED = replace(
    _PLACES,
    guard=GuardPlaces(
        listen="127.0.0.2",
        port=1003,
        certificate=Path("/elsewhere/certificate"),
        refusals=(),
        origins=(),
    ),
)


async def _validate(configuration: Path, folder: Path) -> tuple[int, str]:
    (folder / "agentmesh.binpb").write_bytes(descriptors.descriptor_set())
    shipped = gateway_config.read_shipped(binaries.repository_root())
    for name, content in gateway_config.followed(shipped).items():
        (folder / name).write_text(content)
    asked = guard(folder, 8443, (TokenIssuer(folder / "jwks.json").issuer,))
    gateway_access.write(folder, gateway_access.followed(asked))
    (folder / "certificate.yaml").write_bytes(asked.certificate.read_bytes())
    process = await asyncio.create_subprocess_exec(
        binaries.find(binaries.ENVOY, os.environ),
        *("--mode", "validate", "--disable-hot-restart", "-c", configuration),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_envoy_accepts_the_file_as_shipped(tmp_path: Path) -> None:
    """The shipped file is complete where the contracts lie beside it, and what it follows."""
    code, said = await _validate(_SHIPPED, tmp_path)
    assert f"configuration '{_SHIPPED}' OK" in said
    assert code == 0


async def test_envoy_refuses_a_file_with_a_mistake(tmp_path: Path) -> None:
    """Validation would notice a cluster that no route may name."""
    broken = tmp_path / "broken.yaml"
    broken.write_text(_SHIPPED.read_text("utf-8").replace("cluster: memory,", "cluster: memroy,"))
    code, said = await _validate(broken, tmp_path)
    assert code == 1
    assert "unknown cluster 'memroy'" in said


def test_relocation_changes_places_and_nothing_else() -> None:
    """What a mesh with credentials runs differs from the shipped file in addresses and files."""
    shipped = gateway_config.read_shipped(binaries.repository_root())
    before = copy.deepcopy(shipped)
    relocated = gateway_config.relocate(shipped, _GUARDED)
    assert shipped == before
    in_managers = {
        f"{manager}.{change}"
        for manager in (_MANAGER, _MANAGER.replace("listeners.0", "listeners.1"))
        for change in (
            "access_log.0.typed_config.path: access.log -> /elsewhere/log",
            *(
                f"http_filters.{_position(name)}.{_FILE}: ./{name}.json -> "
                f"/elsewhere/limits/{name}.json"
                for name in (
                    "tokens",
                    "grants",
                    "tenant-limits",
                    "shared-tenant-limits",
                    "takes",
                    "roles",
                )
            ),
            f"http_filters.{_position(_TRANSCODER)}.typed_config.{_CONTRACTS}",
            "route_config.virtual_hosts.0.routes.1.typed_per_filter_config."
            f"{_TRANSCODER}.{_CONTRACTS}",
        )
    }
    tls = "static_resources.listeners.1"
    assert _differences(shipped, relocated) == in_managers | {
        "static_resources.listeners.0.address.socket_address.port_value: 8080 -> 1001",
        f"{tls}.address.socket_address.address: 127.0.0.1 -> 127.0.0.2",
        f"{tls}.address.socket_address.port_value: 8443 -> 1003",
        f"{tls}.filter_chains.0.transport_socket.typed_config.common_tls_context."
        "tls_certificate_sds_secret_configs.0.sds_config.path_config_source.path: "
        "./certificate.yaml -> /elsewhere/certificate",
        f"{_cluster(0)}.0{_PORT}: 19101 -> 2001",
        f"{_cluster(0)}.1: None -> {_endpoint(2002)}",
        f"{_cluster(1)}.0{_PORT}: 19103 -> 2003",
        f"{_cluster(2)}.0{_PORT}: 19104 -> 2004",
        f"{_cluster(3)}.0{_PORT}: 19105 -> 2005",
        f"{_cluster(4)}.0{_PORT}: 19106 -> 2006",
        f"{_cluster(5)}.0{_PORT}: 19100 -> 2007",
    }


def test_without_credentials_nothing_asks_for_them() -> None:
    """A mesh without credentials has neither the TLS port nor the filters that ask; all else is
    as it is with them.
    """
    shipped = gateway_config.read_shipped(binaries.repository_root())
    opened = gateway_config.relocate(shipped, _PLACES)
    guarded = gateway_config.relocate(shipped, _GUARDED)
    for config in (opened, guarded):
        manager = _manager_of(config)
        manager["http_filters"] = {each["name"]: each for each in manager["http_filters"]}
    guarded["static_resources"]["listeners"].pop()
    filters = _manager_of(guarded)["http_filters"]
    asks = ("tokens", "token-caller", "keys", "callers", "grants", "takes", "roles")
    assert _differences(opened, guarded) == {
        *(f"{_MANAGER}.http_filters.{name}: None -> {filters[name]}" for name in asks),
        f"{_MANAGER}.http_filters.anybody.disabled: None -> True",
    }


def test_beyond_this_machine_any_name_will_do() -> None:
    """Who listens on another address is found by names that the file cannot know; who does not
    answers to local names alone.
    """
    shipped = gateway_config.read_shipped(binaries.repository_root())
    assert _GUARDED.guard
    outside = replace(_GUARDED, guard=replace(_GUARDED.guard, listen="0.0.0.0"))
    found = [
        _host_of(gateway_config.relocate(shipped, places))["domains"]
        for places in (_PLACES, _GUARDED, outside)
    ]
    local = ["127.0.0.1", "localhost", "[::1]"]
    assert found == [local, local, ["*"]]


def test_relocation_wants_endpoints_for_every_cluster() -> None:
    """A cluster that nobody serves is a mistake, not an empty list."""
    places = GatewayPlaces(1, {"coordinator": (3,)}, Path("a"), Path("b"), Path("c"))
    with pytest.raises(KeyError, match="reasoning"):
        gateway_config.relocate(yaml.safe_load(_SHIPPED.read_text("utf-8")), places)


def test_a_refused_tenant_is_told_the_same_in_every_shape() -> None:
    """What is encoded for gRPC is what is spelled out for JSON: an error that clients know."""
    _, web, grpc_, json_ = _manager()["local_reply_config"]["mappers"]
    error = RateLimited(
        "The tenant sends more requests than its tier allows. Try again in 1 s.",
        metadata={"limit": "requests_per_second"},
        retry_after_seconds=1.0,
    )
    (details,) = (each["header"]["value"] for each in grpc_["headers_to_add"])
    assert status_pb2.Status.FromString(base64.b64decode(details)) == to_status(error)
    assert grpc_["body"]["inline_string"] == error.message
    frame = base64.b64decode(web["body"]["inline_bytes"])
    assert (frame[0], int.from_bytes(frame[1:5], "big")) == (0x80, len(frame) - 5)
    assert frame[5:].decode().splitlines() == [
        "grpc-status:8",
        f"grpc-message:{error.message}",
        f"grpc-status-details-bin:{details}",
    ]
    assert json_["body_format_override"]["json_format"] == MessageToDict(to_status(error))


def test_every_service_has_a_route_and_its_json() -> None:
    """A service of the contracts is reached by gRPC and by JSON."""
    assert {route.partition("/")[0] for route in _prefixes()} == {*parts.SERVICES, "grpc.", "v1"}
    (transcoder,) = (
        each["typed_config"]
        for each in _manager()["http_filters"]
        if each["name"] == "envoy.filters.http.grpc_json_transcoder"
    )
    assert sorted(transcoder["services"]) == sorted(parts.SERVICES)


def test_every_method_that_a_route_names_exists() -> None:
    """A list of methods in a route has no misspelt or renamed one, which would never match."""
    known = _methods()
    named = [name for route in _routes() for name in _named_methods(route)]
    assert named
    assert [name for name in named if name not in known] == []


def test_streams_may_take_as_long_as_they_need() -> None:
    """No server stream falls under the limit for calls without a deadline."""
    too_short = [
        name
        for name, streams in _methods().items()
        if streams
        and "max_stream_duration" not in _first_match(name)["route"]["max_stream_duration"]
    ]
    assert too_short == []


def test_only_calls_that_are_safe_to_repeat_are_sent_twice() -> None:
    """No call with an effect that is repeatable by an optional key is on a repeating route."""
    repeated = {
        name.partition("/")[2]
        for name in _methods()
        if "reset"
        in _first_match(name)["route"].get("retry_policy", {}).get("retry_on", "").split(",")
    }
    # The whole list, so that adding to it is a decision.
    assert repeated == {
        *("GetTask", "ListTasks", "WatchTask", "ListTaskEvents", "CancelTask"),
        *("ListDeadLetters", "GetQueueStats"),
        *("GetAgent", "ListAgents", "GetRollout"),
        *("GetQueuePolicy", "GetReadModel", "GetSchedule", "ListSchedules"),
        *("ListApiKeys", "RevokeApiKey"),
        *("Embed", "Classify", "ListModels"),
        *("GetContext", "UpsertDocuments", "DeleteDocuments", "Search", "Recall", "Forget"),
        *("GetRecord", "QueryRecords"),
        *("GetTool", "ListTools", "DeleteTool"),
        *(
            "Settle",
            "Release",
            "GetBudget",
            "ListBudgets",
            "GetSpend",
            "QuerySpend",
            "ProjectSpend",
        ),
        *("GetTaskProfile", "ListTaskProfiles", "ForecastCapacity", "ExplainBudget"),
    }


_MANAGER = "static_resources.listeners.0.filter_chains.0.filters.0.typed_config"
_FILE = "config_discovery.config_source.path_config_source.path"
_TRANSCODER = "envoy.filters.http.grpc_json_transcoder"
_CONTRACTS = "proto_descriptor: agentmesh.binpb -> /elsewhere/contracts"
_PORT = ".endpoint.address.socket_address.port_value"


def _cluster(number: int) -> str:
    return f"static_resources.clusters.{number}.load_assignment.endpoints.0.lb_endpoints"


def _endpoint(port: int) -> Any:
    return {
        "endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}
    }


def _differences(old: Any, new: Any, at: str = "") -> set[str]:
    inside: list[tuple[object, Any, Any]]
    if isinstance(old, dict) and isinstance(new, dict):
        olds, news = cast(dict[str, Any], old), cast(dict[str, Any], new)
        inside = [(key, olds.get(key), news.get(key)) for key in olds.keys() | news.keys()]
    elif isinstance(old, list) and isinstance(new, list):
        pairs = zip_longest(cast(list[Any], old), cast(list[Any], new))
        inside = [(number, *pair) for number, pair in enumerate(pairs)]
    else:
        return set() if old == new else {f"{at}: {old} -> {new}"}
    return {
        each
        for key, one, other in inside
        for each in _differences(one, other, f"{at}.{key}".lstrip("."))
    }


@cache
def _manager() -> Any:
    return _manager_of(gateway_config.read_shipped(binaries.repository_root()))


def _manager_of(config: Any) -> Any:
    return config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0][
        "typed_config"
    ]


def _host_of(config: Any) -> Any:
    return _manager_of(config)["route_config"]["virtual_hosts"][0]


def _position(name: str) -> int:
    """Of a filter, among all."""
    return [each["name"] for each in _manager()["http_filters"]].index(name)


def _routes() -> list[Any]:
    return _manager()["route_config"]["virtual_hosts"][0]["routes"]


def _prefixes() -> list[str]:
    found = [route["match"].get("prefix", "").removeprefix("/") for route in _routes()]
    return [each for each in found if each]


def _named_methods(route: Any) -> list[str]:
    pattern = route["match"].get("safe_regex", {}).get("regex", "").replace("\\.", ".")
    service, _, methods = pattern.removeprefix("/").partition("/")
    return [f"{service}/{each}" for each in methods.strip("()").split("|") if each]


def _methods() -> dict[str, bool]:
    """Whether it streams its answers, by `service/method`, of the whole mesh."""
    described = descriptor_pb2.FileDescriptorSet.FromString(descriptors.descriptor_set())
    return {
        f"{file.package}.{service.name}/{method.name}": method.server_streaming
        for file in described.file
        for service in file.service
        for method in service.method
        if f"{file.package}.{service.name}" in parts.SERVICES
    }


def _first_match(name: str) -> Any:
    """The route that Envoy takes for a method."""
    for route in _routes():
        match = route["match"]
        if "headers" in match:
            continue
        if "safe_regex" in match and re.fullmatch(match["safe_regex"]["regex"], f"/{name}"):
            return route
        if "prefix" in match and f"/{name}".startswith(match["prefix"]):
            return route
    raise LookupError(name)
