"""What Istio's gateway is given beyond Istio's own resources is what Envoy takes."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.overlays import NAMES, one, rendered

_GOVERNOR: Final = "outbound|9100||governor.agentmesh.svc.cluster.local"
_ROUTER: Final = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
}


def _patches(name: str) -> list[Any]:
    return one(rendered(name), "EnvoyFilter", "entrance")["spec"]["configPatches"]


def _bootstrap(patches: list[Any]) -> dict[str, Any]:
    """A gateway with the filters in the order in which Istio puts them."""
    merged, *filters = [each["patch"]["value"] for each in patches]
    manager: dict[str, Any] = {
        **merged["typed_config"],
        "stat_prefix": "gateway",
        "route_config": {"virtual_hosts": []},
        "http_filters": [*filters, _ROUTER],
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    chain: dict[str, Any] = {"filters": [{"name": merged["name"], "typed_config": manager}]}
    # As Istio starts its Envoys; by itself Envoy takes the shortest patterns alone.
    runtime = {"name": "static", "static_layer": {"re2.max_program_size.error_level": 32768}}
    return {
        "layered_runtime": {"layers": [runtime]},
        "static_resources": {
            "listeners": [{"name": "gateway", "address": address, "filter_chains": [chain]}],
            "clusters": [{"name": _GOVERNOR, "type": "STATIC"}],
        },
    }


async def _validated(configuration: dict[str, Any], folder: Path) -> str:
    envoy = os.environ.get("ENVOY")
    if not envoy:
        pytest.skip("ENVOY names no envoy.")
    file = folder / "gateway.json"
    file.write_text(json.dumps(configuration))
    process = await asyncio.create_subprocess_exec(
        envoy,
        *("--mode", "validate", "--disable-hot-restart", "-c", file),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return said.decode()


async def test_envoy_takes_the_filters(tmp_path: Path) -> None:
    """All of them, in their order; and it would say so if a word of one were wrong."""
    patches = _patches("production")
    assert " OK" in await _validated(_bootstrap(patches), tmp_path)
    patches[-1]["patch"]["value"]["typed_config"]["domains"] = "gateway"
    assert "has unknown fields" in await _validated(_bootstrap(patches), tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_callers_are_named_before_anybody_looks(name: str) -> None:
    """What clients say of themselves is dropped first; then tokens, callers, scopes and limits."""
    patches = _patches(name)
    assert [each["patch"]["value"]["name"] for each in patches] == [
        "envoy.filters.network.http_connection_manager",
        "token-caller",
        "callers",
        "scopes",
        "tenant-limits",
    ]
    (early,) = patches[0]["patch"]["value"]["typed_config"]["early_header_mutation_extensions"]
    removed = [
        each["remove_on_match"]["key_matcher"]["prefix"]
        for each in early["typed_config"]["mutations"]
        if "remove_on_match" in each
    ]
    assert {"x-agentmesh-", "agentmesh-", "x-envoy-"} == {*removed}
