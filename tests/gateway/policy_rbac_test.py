"""The policy's rules, as Envoy takes them: every RPC by every role, with and without scopes."""

import asyncio
import http.client
import json
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from meshkit.identity import Role
from tier import binaries, policy_contracts, policy_rbac, ports
from tier.backoff import RestartPolicy
from tier.child import Child, ChildSpec
from tier.events import Reporter
from tier.http_get import get
from tier.policy import ROLES, Policy, roles_from

_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_MANAGER = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
    ".HttpConnectionManager"
)
_TAKES = f"%DYNAMIC_METADATA(envoy.filters.http.rbac:{policy_rbac.TAKES_KEY})%"


@pytest.fixture(scope="module")
def shipped() -> Policy:
    """The policy that is shipped."""
    return policy_contracts.shipped()


async def test_every_rpc_takes_its_role(shipped: Policy, tmp_path: Path) -> None:
    """Each role may call its own RPCs and those of lower roles; a refusal names the role."""
    async with _gateway(tmp_path, shipped) as port:
        asked = list(product(shipped.paths(), (*(each.value for each in ROLES), "service", "")))
        answers = await _ask(port, [(path, _headers(role)) for path, role in asked])
    for (path, role), answer in zip(asked, answers, strict=True):
        lowest = shipped.role_of(path)
        allowed = role in [each.value for each in roles_from(lowest)]
        assert answer == ((200, "") if allowed else (403, f"role {lowest.value}")), (path, role)


async def test_every_rpc_takes_its_scope(shipped: Policy, tmp_path: Path) -> None:
    """A key that is limited to scopes calls what they let through, whatever its role."""
    others = {
        scope: " ".join(each for each in shipped.scopes if each != scope)
        for scope in shipped.scopes
    }
    asked = [
        (path, shipped.scope_of(path), limited)
        for path in shipped.paths()
        for limited in (
            shipped.scope_of(path),
            f"first {shipped.scope_of(path)} last",
            others[shipped.scope_of(path)],
            f"{shipped.scope_of(path)}s x{shipped.scope_of(path)}",
        )
    ]
    async with _gateway(tmp_path, shipped) as port:
        answers = await _ask(
            port, [(path, _headers(Role.ADMIN, limited)) for path, _, limited in asked]
        )
    for (path, scope, limited), answer in zip(asked, answers, strict=True):
        allowed = scope in limited.split()
        assert answer == ((200, "") if allowed else (403, f"scope {scope}")), (path, limited)


async def test_a_scope_gives_no_role(shipped: Policy, tmp_path: Path) -> None:
    """A user's key with an operator's scope stays a user's."""
    path = "/agentmesh.governor.v1.CostGovernorService/SetBudget"
    async with _gateway(tmp_path, shipped) as port:
        assert await _ask(port, [(path, _headers(Role.USER, "budgets:write"))]) == [
            (403, "role operator")
        ]


async def test_what_nobody_offers_is_refused(shipped: Policy, tmp_path: Path) -> None:
    """An RPC that the policy does not know is refused to admins, too; other paths pass."""
    asked = [
        "/agentmesh.governor.v1.CostGovernorService/Steal",
        "/agentmesh.governor.v1.CostGovernorService/SetBudget/",
        "/agentmesh.governor.v2.CostGovernorService/SetBudget",
        "/agentmesh.tool.v1.ToolProvider/Execute",
        "/grpc.testing.Nothing/Call",
        "/envoy.service.auth.v3.Authorization/Check",
        "/envoyproxy.ratelimit.v3.RateLimitService/ShouldRateLimit",
        "/healthz",
        "/v1/nothing/at/all",
    ]
    async with _gateway(tmp_path, shipped) as port:
        answers = await _ask(port, [(path, _headers(Role.ADMIN)) for path in asked])
    assert [status for status, _ in answers] == [403] * 7 + [200] * 2


async def test_services_call_what_their_edges_allow(shipped: Policy, tmp_path: Path) -> None:
    """Behind the proxy a service answers the callers and RPCs that the policy names, alone."""
    callers = ("coordinator", "executor", "governor", "memory", "reasoning", "tool", "gateway")
    rules = policy_rbac.proxy_rbac(shipped, "memory", spiffe=None)
    asked = list(product(shipped.paths(), callers))
    async with _envoy(tmp_path, [rules]) as port:
        answers = await _ask(
            port, [(path, {"x-agentmesh-caller": f"service:{name}"}) for path, name in asked]
        )
    let_in = {each for each, (status, _) in zip(asked, answers, strict=True) if status == 200}
    assert let_in == {
        ("/agentmesh.memory.v1.MemoryService/AppendMessages", "executor"),
        ("/agentmesh.memory.v1.MemoryService/GetContext", "executor"),
        ("/agentmesh.memory.v1.MemoryService/Search", "tool"),
    }


async def test_whom_nobody_may_call_nobody_calls(shipped: Policy, tmp_path: Path) -> None:
    """A service that no edge leads to refuses every service."""
    rules = policy_rbac.proxy_rbac(shipped, "coordinator", spiffe=None)
    async with _envoy(tmp_path, [rules]) as port:
        answers = await _ask(
            port,
            [(path, {"x-agentmesh-caller": "service:executor"}) for path in shipped.paths()],
        )
    assert {status for status, _ in answers} == {403}


def _headers(role: str, scopes: str | None = None) -> dict[str, str]:
    headers = {"x-agentmesh-role": str(role)} if role else {}
    return headers if scopes is None else {**headers, "x-agentmesh-scopes": scopes}


async def _ask(port: int, requests: list[tuple[str, Mapping[str, str]]]) -> list[tuple[int, str]]:
    """The status of each, and what it takes where it is refused."""

    def exchange() -> list[tuple[int, str]]:
        answers: list[tuple[int, str]] = []
        connection = http.client.HTTPConnection(ports.HOST, port, timeout=20)
        try:
            for path, headers in requests:
                connection.request("POST", path, headers=dict(headers))
                answer = connection.getresponse()
                answers.append((answer.status, answer.read().decode()))
        finally:
            connection.close()
        return answers

    return await asyncio.to_thread(exchange)


def _gateway(folder: Path, shipped: Policy) -> AbstractAsyncContextManager[int]:
    rules = [policy_rbac.gateway_needs(shipped), policy_rbac.gateway_rbac(shipped)]
    return _envoy(folder, rules)


@asynccontextmanager
async def _envoy(folder: Path, rules: Sequence[Mapping[str, Any]]) -> AsyncGenerator[int]:
    """An Envoy that answers everything that all of `rules` let through; its port."""
    port, admin_port = ports.free_ports(2)
    file = folder / "envoy.json"
    file.write_text(json.dumps(_configuration(port, admin_port, rules)), "utf-8")

    async def probe() -> str | None:
        status, _ = await get(admin_port, "/ready")
        return "ready" if status == 200 else None

    command = (binaries.find(binaries.ENVOY, os.environ), "-c", file, "--concurrency", "1")
    child = Child(
        ChildSpec(
            name="envoy",
            title="Envoy",
            command=(*command, "--disable-hot-restart", "--log-level", "warning"),
            working_dir=folder,
            log=folder / "envoy.log",
            ports=(port, admin_port),
            probe=probe,
        ),
        Reporter(lambda _: None),
        RestartPolicy(),
    )
    child.spawn()
    try:
        await child.ready()
        yield port
    finally:
        await child.stop()


def _configuration(port: int, admin_port: int, rules: Sequence[Mapping[str, Any]]) -> Any:
    manager = {
        "@type": _MANAGER,
        "stat_prefix": "rules",
        "http_filters": [
            *({"name": "envoy.filters.http.rbac", "typed_config": each} for each in rules),
            {"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}},
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
                }
            ]
        },
        "local_reply_config": {
            "mappers": [
                {
                    "filter": {
                        "status_code_filter": {
                            "comparison": {
                                "op": "EQ",
                                "value": {"default_value": 403, "runtime_key": "none"},
                            }
                        }
                    },
                    "body_format_override": {"text_format_source": {"inline_string": _TAKES}},
                }
            ]
        },
    }
    return {
        "admin": {"address": _address(admin_port)},
        "static_resources": {
            "listeners": [
                {
                    "name": "rules",
                    "address": _address(port),
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "typed_config": manager,
                                }
                            ]
                        }
                    ],
                }
            ]
        },
    }


def _address(port: int) -> Any:
    return {"socket_address": {"address": ports.HOST, "port_value": port}}
