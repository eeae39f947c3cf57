"""API keys from end to end: made, used and revoked through a gateway, by a real coordinator."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio

from agentmesh.coordinator.v1 import queue_service_pb2, queue_service_pb2_grpc
from meshkit.errors import from_rpc_error, from_status
from meshkit.identity import Role
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from services.coordinator.access_world import coordinator
from tests.gateway.credentials import TokenIssuer, guard
from tests.gateway.running_gateway import Gateway, gateway
from tests.gateway.shapes import status_by_json, status_by_web
from tier import ports

pytest_plugins = ["meshtest.fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

_POLICY = "/agentmesh.coordinator.v1.QueueService/GetQueuePolicy"


@dataclass(frozen=True)
class Mesh:
    """A guarded gateway before a whole coordinator."""

    gateway: Gateway
    issuer: TokenIssuer

    async def post(self, path: str, value: object, role: Role = Role.OPERATOR) -> Any:
        """What a caller of the tenant acme gets who has that role."""
        token = self.issuer.token(role=role)
        return await self.gateway.post(path, value, authorization=f"Bearer {token}")

    async def make(self, **fields: Any) -> Any:
        """A new key of acme."""
        answer = await self.post("/v1/tenants/acme/apiKeys", {"apiKey": fields})
        assert answer.status == 200, answer.body
        return answer.json

    async def policy(self, key: str) -> Any:
        """A call that users may make."""
        async with grpc.aio.insecure_channel(self.gateway.address) as channel:
            stub: Any = queue_service_pb2_grpc.QueueServiceStub(channel)
            request = queue_service_pb2.GetQueuePolicyRequest()
            return await stub.GetQueuePolicy(request, timeout=60, metadata=[("x-api-key", key)])

    async def refusal(self, key: str) -> dict[str, str]:
        """What is wrong with a key; empty where nothing is."""
        try:
            await self.policy(key)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                raise
            return dict(from_rpc_error(error).metadata)
        return {}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(
    shared_nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mesh]:
    """Both, with nobody else."""
    folder = tmp_path_factory.mktemp("mesh")
    issuer = TokenIssuer(folder / "jwks.json")
    (tls_port,) = ports.free_ports(1)
    async with coordinator(shared_nats.new_account(), folder / "coordinator") as behind:
        port = int(behind.address.rpartition(":")[2])
        asks = guard(folder, tls_port, (issuer.issuer,))
        async with gateway(folder, [port], guard=asks) as running:
            yield Mesh(running, issuer)


async def test_a_key_is_good_from_its_making_to_its_end(mesh: Mesh) -> None:
    """A key that an operator makes opens the calls of its role at once, and none soon after it is
    revoked; its caller is told so over gRPC, gRPC-web and JSON alike.
    """
    made = await mesh.make(displayName="nightly", role="ROLE_USER")
    text = made["text"]
    assert (await mesh.policy(text)).policy.tenant_tiers

    assert (await mesh.post(f"/v1/{made['apiKey']['name']}:revoke", {})).status == 200
    assert await eventually(lambda: mesh.refusal(text), 60) == {"credential": "revoked"}
    for asked in (status_by_web, status_by_json):
        path = _POLICY if asked is status_by_web else "/v1/queuePolicy"
        error = from_status(await asked(mesh.gateway, path, {"x-api-key": text}))
        assert error.code is grpc.StatusCode.UNAUTHENTICATED
        assert error.metadata == {"credential": "revoked"}
        assert error.message.startswith("The API key was revoked at ")


async def test_a_key_of_no_mesh_opens_nothing(mesh: Mesh) -> None:
    """A right id with a wrong secret is as unknown as a wrong id."""
    text = (await mesh.make())["text"]
    wrong = text[:-43] + "A" * 43
    assert await mesh.refusal(wrong) == {"credential": "unknown"}
    assert await mesh.refusal(f"amk_nosuchid00_{'A' * 43}") == {"credential": "unknown"}
    assert await mesh.refusal(text) == {}


async def test_a_key_does_what_its_scopes_say(mesh: Mesh) -> None:
    """A key for documents alone does not read queues, and is told which scope that takes."""
    text = (await mesh.make(role="ROLE_USER", scopes=["docs:read"]))["text"]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await mesh.policy(text)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert from_rpc_error(caught.value).metadata == {"scope": "tasks:read"}


async def test_users_make_no_keys(mesh: Mesh) -> None:
    """To make one takes an operator, and the error says so."""
    answer = await mesh.post("/v1/tenants/acme/apiKeys", {}, role=Role.USER)
    assert (answer.status, answer.json["details"][0]["metadata"]) == (403, {"role": "operator"})
