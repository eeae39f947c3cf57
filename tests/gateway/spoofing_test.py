"""Nobody says by headers who they are: not in any spelling, shape or number."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2
from meshkit.errors import from_rpc_error
from tests.gateway.guarded import KEY, Guarded

pytest_plugins = ["tests.gateway.shared_gateways"]
pytestmark = pytest.mark.asyncio(loop_scope="session")

_TASK = "tenants/acme/tasks/t1"
_GET = "/agentmesh.coordinator.v1.CoordinatorService/GetTask"
_MESSAGE = coordinator_service_pb2.GetTaskRequest(name=_TASK).SerializeToString()
_FRAME = b"\0" + len(_MESSAGE).to_bytes(4, "big") + _MESSAGE
# By which the mesh says who calls, the gateway notes things for itself, and Envoy is steered.
_CLAIMED = {
    "x-agentmesh-tenant": "beta",
    "x-agentmesh-caller": "service:executor",
    "x-agentmesh-role": "admin",
    "x-agentmesh-scopes": "tasks:read",
    "x-agentmesh-expires": "99999999999",
    "x-agentmesh-anything": "else",
    "agentmesh-subject": "root",
    "agentmesh-named-tenant": "beta",
    "agentmesh-shape": "application/grpc",
    "x-envoy-retry-on": "5xx",
    "x-envoy-original-path": "/healthz",
}
_SPELLINGS: dict[str, Callable[[str], list[str]]] = {
    "as it is": lambda name: [name],
    "upper-case": lambda name: [name.upper()],
    "title-case": lambda name: [name.title()],
    "twice": lambda name: [name, name],
    "twice in two cases": lambda name: [name.upper(), name],
}


def _spelt(spelling: str) -> list[tuple[str, str]]:
    return [
        (name, value)
        for claimed, value in _CLAIMED.items()
        for name in _SPELLINGS[spelling](claimed)
    ]


async def _by_grpc(mesh: Guarded, headers: Sequence[tuple[str, str]]) -> Any:
    request = coordinator_service_pb2.GetTaskRequest(name=_TASK)
    return (await mesh.stub.GetTask(request, timeout=60, metadata=headers)).task


async def _by_web(mesh: Guarded, headers: Sequence[tuple[str, str]]) -> Any:
    sent = [("content-type", "application/grpc-web+proto"), *headers]
    answer = await mesh.front.gateway.http("POST", _GET, _FRAME, sent)
    size = int.from_bytes(answer.body[1:5], "big")
    return coordinator_service_pb2.GetTaskResponse.FromString(answer.body[5 : 5 + size]).task


async def _by_json(mesh: Guarded, headers: Sequence[tuple[str, str]]) -> Any:
    answer = await mesh.front.gateway.http("GET", f"/v1/{_TASK}", headers=headers)
    return coordinator_service_pb2.GetTaskResponse(
        task={"tenant": answer.json["task"]["tenant"], "labels": answer.json["task"]["labels"]}
    ).task


def _known(task: Any) -> tuple[str, str, str, list[str]]:
    """Whom the service took the caller for, and all that it was told of it."""
    about = [
        each
        for each in task.labels["headers"].split()
        if "agentmesh" in each or each in ("x-envoy-retry-on", "authorization", "x-api-key")
    ]
    return task.tenant, task.labels["caller"], task.labels["role"], about


_TOLD = ["x-agentmesh-caller", "x-agentmesh-role", "x-agentmesh-tenant"]
# A token ends; the key does not.
_TOLD_OF_TOKENS = sorted([*_TOLD, "x-agentmesh-expires"])


@pytest.mark.parametrize("spelling", _SPELLINGS)
async def test_what_a_client_claims_is_dropped(mesh: Guarded, spelling: str) -> None:
    """With a token or a key, over HTTP/1.1 in gRPC-web and JSON: the service sees whom the
    credentials name, and none of the client's own headers.
    """
    token = ("authorization", f"Bearer {mesh.issuer.token()}")
    seen = [
        _known(await asked(mesh, [*claims, credentials]))
        for credentials in (token, ("x-api-key", KEY))
        for claims in (_spelt(spelling), [*_spelt(spelling)][::-1])
        for asked in (_by_web, _by_json)
    ]
    assert (
        seen
        == [("acme", "user:ann", "user", _TOLD_OF_TOKENS)] * 4
        + [("acme", "key:01jd0000key1", "user", _TOLD)] * 4
    )


@pytest.mark.parametrize("times", [1, 2])
async def test_what_metadata_claims_is_dropped(mesh: Guarded, times: int) -> None:
    """The same over gRPC, where names have no capitals."""
    token = ("authorization", f"Bearer {mesh.issuer.token()}")
    seen = [
        _known(await _by_grpc(mesh, [*_CLAIMED.items()] * times + [credentials]))
        for credentials in (token, ("x-api-key", KEY))
    ]
    assert seen == [
        ("acme", "user:ann", "user", _TOLD_OF_TOKENS),
        ("acme", "key:01jd0000key1", "user", _TOLD),
    ]


@pytest.mark.parametrize("name", [each.replace("-", "_") for each in _CLAIMED])
async def test_underscores_are_refused(mesh: Guarded, name: str) -> None:
    """A name that some servers take for the one with hyphens does not enter at all."""
    token = ("authorization", f"Bearer {mesh.issuer.token()}")
    answer = await mesh.front.gateway.http("GET", f"/v1/{_TASK}", headers=[token, (name, "admin")])
    assert answer.status == 400
    with pytest.raises(grpc.aio.AioRpcError):
        await _by_grpc(mesh, [token, (name, "admin")])
    assert mesh.front.coordinator.calls == {}


async def test_nobody_has_the_gateway_drop_what_it_says(mesh: Guarded) -> None:
    """A client that calls the mesh's headers its connection's does not get rid of them."""
    headers = [
        ("authorization", f"Bearer {mesh.issuer.token()}"),
        ("connection", ", ".join(["keep-alive", *_TOLD])),
    ]
    assert _known(await _by_json(mesh, headers)) == ("acme", "user:ann", "user", _TOLD_OF_TOKENS)


async def test_nobody_gives_a_key_more_scopes(mesh: Guarded) -> None:
    """A key that is limited stays so, whatever scopes its caller claims."""
    mesh.knows(KEY, scopes="docs:read")
    for claims in ([], [("x-agentmesh-scopes", "tasks:read")]):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _by_grpc(mesh, [("x-api-key", KEY), *claims])
        assert from_rpc_error(caught.value).metadata == {"scope": "tasks:read"}


async def test_claims_without_credentials_are_nothing(mesh: Guarded) -> None:
    """All of the mesh's headers together do not make up for credentials."""
    answer = await mesh.front.gateway.http("GET", f"/v1/{_TASK}", headers=[*_CLAIMED.items()])
    assert (answer.status, json.loads(answer.body)["code"]) == (401, 16)
    assert mesh.front.coordinator.calls == {}
