"""The proxy's configuration, as it is shipped."""

import asyncio
import base64
import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.rpc import status_pb2

from meshkit.clock import SystemClock
from meshkit.errors import Forbidden, to_status
from tier import binaries, gateway_config, policy, policy_contracts, proxy_config
from tier.authority import Authority
from tier.endpoint_files import EndpointFiles
from tier.identities import DOMAIN
from tier.policy_rbac import proxy_rbac
from tier.proxy_config import ProxyPlaces
from tier.upstreams import Upstreams

_SHIPPED = binaries.repository_root() / proxy_config.SHIPPED
_CALLEES = ("governor", "reasoning", "memory", "tool")


def _places(folder: Path, *, certificates: bool) -> ProxyPlaces:
    authority = Authority.open(folder / "certificates", clock=SystemClock())
    return ProxyPlaces(
        ports={name: 2001 + number for number, name in enumerate(_CALLEES)},
        endpoints=folder / "endpoints",
        access_log=folder / "access.log",
        certificates=authority.issue("proxy") if certificates else None,
    )


async def _validate(configuration: Path, folder: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        binaries.find(binaries.ENVOY, os.environ),
        *("--mode", "validate", "--disable-hot-restart", "-c", configuration),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return said.decode()


def _endpoints(folder: Path) -> None:
    (folder / "endpoints").mkdir()
    files = EndpointFiles(folder / "endpoints")
    for name in _CALLEES:
        files.write(name, [])


async def test_envoy_accepts_the_file_as_shipped(tmp_path: Path) -> None:
    """The shipped file is complete where certificates and endpoints lie beside it."""
    _endpoints(tmp_path)
    issued = Authority.open(tmp_path / "authority", clock=SystemClock()).issue("proxy")
    (tmp_path / "certificates").symlink_to(issued.folder)
    assert f"configuration '{_SHIPPED}' OK" in await _validate(_SHIPPED, tmp_path)


@pytest.mark.parametrize("certificates", [True, False])
async def test_envoy_accepts_what_a_mesh_runs(tmp_path: Path, certificates: bool) -> None:
    """Moved to the places of a mesh, with and without certificates."""
    _endpoints(tmp_path)
    moved = tmp_path / "proxy.json"
    places = _places(tmp_path, certificates=certificates)
    moved.write_text(json.dumps(proxy_config.relocate(_shipped(), places)))
    assert f"configuration '{moved}' OK" in await _validate(moved, tmp_path)


def test_relocation_wants_a_port_for_every_service(tmp_path: Path) -> None:
    """A service that nobody could call is a mistake."""
    places = ProxyPlaces({"governor": 1}, tmp_path, tmp_path, None)
    with pytest.raises(KeyError, match="reasoning"):
        proxy_config.relocate(_shipped(), places)


def test_relocation_changes_places_and_nothing_else(tmp_path: Path) -> None:
    """What a mesh with certificates runs differs from what is shipped in ports and files alone."""
    places = _places(tmp_path, certificates=True)
    moved = proxy_config.relocate(_shipped(), places)
    assert _without_places(moved) == _without_places(_shipped())
    text = json.dumps(moved)
    assert text.count(str(tmp_path / "access.log")) == len(_CALLEES)
    # Each listener and each cluster has a certificate, and an authority.
    assert text.count(str(places.certificates and places.certificates.certificate_secret)) == 8
    assert text.count(str(places.certificates and places.certificates.authority_secret)) == 8
    for name in _CALLEES:
        assert str(tmp_path / "endpoints" / f"{name}.json") in text


def test_a_mesh_in_plain_text_asks_for_no_certificate(tmp_path: Path) -> None:
    """Callers are then believed who they are; the policy holds all the same."""
    places = _places(tmp_path, certificates=False)
    moved = proxy_config.relocate(_shipped(), places)
    text = json.dumps(moved)
    assert "transport_socket" not in text
    assert "certificate" not in text.replace("DOWNSTREAM_PEER_URI_SAN", "").replace(
        '"certificate": "%%"', ""
    )
    for listener in moved["static_resources"]["listeners"]:
        wanted = proxy_rbac(_policy(), listener["name"], spiffe=None)
        assert _manager(listener)["http_filters"][0]["typed_config"] == wanted


@pytest.mark.parametrize("callee", _CALLEES)
def test_who_may_call_is_what_the_policy_says(callee: str) -> None:
    """The rules in the file are those that the policy makes."""
    (listener,) = (each for each in _listeners() if each["name"] == callee)
    rbac, router = _manager(listener)["http_filters"]
    assert router["name"] == "envoy.filters.http.router"
    assert rbac["typed_config"] == proxy_rbac(_policy(), callee, spiffe=f"spiffe://{DOMAIN}")


def test_every_service_that_is_called_has_a_listener_and_a_cluster() -> None:
    """And who is called by no service has none."""
    called = sorted({each.callee for each in _policy().edges})
    assert sorted(each["name"] for each in _listeners()) == called
    assert sorted(each["name"] for each in _shipped()["static_resources"]["clusters"]) == called


def test_every_instance_must_show_whose_it_is() -> None:
    """By the exact name of its service, with TLS 1.3."""
    for cluster in _shipped()["static_resources"]["clusters"]:
        context = cluster["transport_socket"]["typed_config"]["common_tls_context"]
        names = context["combined_validation_context"]["default_validation_context"]
        exact = {"exact": f"spiffe://{DOMAIN}/{cluster['name']}"}
        assert names == {"match_typed_subject_alt_names": [{"san_type": "URI", "matcher": exact}]}
        assert context["tls_params"]["tls_minimum_protocol_version"] == "TLSv1_3"


def test_the_gateway_takes_nobody_for_a_service_whom_the_proxy_would_not(tmp_path: Path) -> None:
    """Both ask instances for the same certificates, and follow the same files."""
    places = _places(tmp_path, certificates=True)
    upstreams = Upstreams(places.endpoints, places.certificates)
    for cluster in proxy_config.relocate(_shipped(), places)["static_resources"]["clusters"]:
        other: dict[str, Any] = {"name": cluster["name"], "type": "STATIC", "load_assignment": {}}
        upstreams.follow(other, cluster["name"])
        assert other == {key: cluster[key] for key in other}


def test_only_what_the_gateway_repeats_is_repeated_when_a_connection_broke() -> None:
    """Of the calls that services make: one contract, one answer to what is safe."""
    repeated = {path for path in _paths() if "reset," in f"{_retry(path)},".replace(" ", "")}
    assert {path.rpartition("/")[2] for path in repeated} == {
        *("ExplainBudget", "Release", "Embed", "ListModels", "GetContext", "Search", "ListTools"),
    }
    gateway = (binaries.repository_root() / gateway_config.SHIPPED).read_text("utf-8")
    for path in repeated:
        assert re.search(rf"[(|/]{path.rpartition('/')[2]}[)|']", gateway)


def test_nothing_that_a_service_answered_is_repeated() -> None:
    """That is its caller's to do: no retry has two owners."""
    for path in _paths():
        assert not {"unavailable", "5xx", "internal"} & set(_retry(path).split(","))


@pytest.mark.parametrize("callee", _CALLEES)
def test_urgent_calls_have_limits_of_their_own(callee: str) -> None:
    """Each route has a twin of high priority, and each cluster limits for both."""
    (listener,) = (each for each in _listeners() if each["name"] == callee)
    (host,) = _manager(listener)["route_config"]["virtual_hosts"]
    urgent = [each for each in host["routes"] if "headers" in each["match"]]
    others = [each for each in host["routes"] if "headers" not in each["match"]]
    for one, other in zip(urgent, others, strict=True):
        assert one["route"].pop("priority") == "HIGH"
        assert one["route"] == other["route"]
        assert one["name"] == f"{other['name']}-urgent"
    (cluster,) = (
        each for each in _shipped()["static_resources"]["clusters"] if each["name"] == callee
    )
    thresholds = cluster["circuit_breakers"]["thresholds"]
    assert [each["priority"] for each in thresholds] == ["DEFAULT", "HIGH"]


def test_a_refused_caller_is_told_an_error_of_the_mesh() -> None:
    """What is encoded is what is spelled out."""
    for listener in _listeners():
        _, refused = _manager(listener)["local_reply_config"]["mappers"]
        (details,) = (each["header"]["value"] for each in refused["headers_to_add"])
        error = Forbidden(refused["body"]["inline_string"])
        assert status_pb2.Status.FromString(base64.b64decode(details)) == to_status(error)


@cache
def _read() -> Any:
    return proxy_config.read_shipped(binaries.repository_root())


def _shipped() -> Any:
    return proxy_config.unshared(_read())


def _listeners() -> list[Any]:
    return _shipped()["static_resources"]["listeners"]


def _manager(listener: Any) -> Any:
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def _policy() -> policy.Policy:
    return policy_contracts.shipped()


def _paths() -> list[str]:
    """Of all RPCs that services call."""
    return sorted({path for edge in _policy().edges for path in edge.paths})


def _retry(path: str) -> str:
    """What Envoy repeats of the RPC."""
    for listener in _listeners():
        (host,) = _manager(listener)["route_config"]["virtual_hosts"]
        for route in host["routes"]:
            match = route["match"]
            if "headers" in match:
                continue
            if "safe_regex" in match and not re.fullmatch(match["safe_regex"]["regex"], path):
                continue
            if path.startswith(match.get("prefix", "")):
                return route["route"].get("retry_policy", host["retry_policy"])["retry_on"]
    raise LookupError(path)


def _without_places(config: Any) -> str:
    text = yaml.safe_dump(proxy_config.unshared(config))
    return re.sub(r"(port_value|path): .*", r"\1: somewhere", text)
