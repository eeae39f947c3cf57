"""Streams end with the credentials by which they were begun, through a gateway and a coordinator.

`platform/meshkit/open_streams_test.py` shows by a clock of its own how soon.
"""

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import pytest
import pytest_asyncio

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from meshkit.errors import from_rpc_error
from meshkit.identity import Role
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from services.coordinator.access_world import coordinator
from tests.gateway.credentials import TokenIssuer, guard
from tests.gateway.running_gateway import Gateway, gateway
from tier import ports

pytest_plugins = ["meshtest.fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Mesh:
    """A guarded gateway before a whole coordinator, and a task that nobody executes."""

    gateway: Gateway
    issuer: TokenIssuer
    stub: Any
    task: str

    async def post(self, path: str, value: object) -> Any:
        """What an operator gets."""
        token = self.issuer.token(role=Role.OPERATOR)
        answer = await self.gateway.post(path, value, authorization=f"Bearer {token}")
        assert answer.status == 200, answer.body
        return answer.json

    async def watch(self, credential: str, *, after: int = 0) -> Any:
        """A stream of the task's events; from the beginning, the first of them has come."""
        call = self.stub.WatchTask(
            pb.WatchTaskRequest(name=self.task, after_sequence=after),
            timeout=60,
            metadata=[("authorization", f"Bearer {credential}")],
        )
        if not after:
            assert (await call.read()).event.HasField("submitted")
        return call


@pytest_asyncio.fixture(loop_scope="module")
async def mesh(
    shared_nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mesh]:
    """With nobody else."""
    folder = tmp_path_factory.mktemp("mesh")
    issuer = TokenIssuer(folder / "jwks.json")
    (tls_port,) = ports.free_ports(1)
    async with coordinator(shared_nats.new_account(), folder / "coordinator") as behind:
        port = int(behind.address.rpartition(":")[2])
        asks = guard(folder, tls_port, (issuer.issuer,))
        async with (
            gateway(folder, [port], guard=asks) as running,
            grpc.aio.insecure_channel(running.address) as channel,
        ):
            made = Mesh(running, issuer, CoordinatorServiceStub(channel), "")
            submitted = await made.post(
                "/v1/tenants/acme/tasks", {"task": {"input": {"text": "?"}}}
            )
            yield Mesh(running, issuer, made.stub, submitted["task"]["name"])


async def _refusal(call: Any) -> dict[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    return dict(from_rpc_error(caught.value).metadata)


async def test_a_revoked_key_reads_no_further(mesh: Mesh) -> None:
    """Its stream ends, those by other keys go on, and by another key one resumes where it ended."""
    revoked, kept = [await mesh.post("/v1/tenants/acme/apiKeys", {}) for _ in range(2)]
    ends, lasts = await mesh.watch(revoked["text"]), await mesh.watch(kept["text"])

    await mesh.post(f"/v1/{revoked['apiKey']['name']}:revoke", {})
    assert await _refusal(ends) == {"credential": "revoked"}

    resumed = await mesh.watch(kept["text"], after=1)
    await mesh.post(f"/v1/{mesh.task}:cancel", {})
    for each in (lasts, resumed):
        assert (await each.read()).event.HasField("cancelled")
        assert await each.read() is grpc.aio.EOF


async def test_an_expired_token_reads_no_further(mesh: Mesh) -> None:
    """The stream of one that ends goes on for as long as clocks may differ."""
    # The gateway takes tokens for ten seconds more; how many are left when the call is made depends
    # on how busy the machine is.
    lives = itertools.count(-8, 2)

    async def begun() -> Any:
        try:
            return await mesh.watch(mesh.issuer.token(life=timedelta(seconds=next(lives))))
        except grpc.aio.AioRpcError:
            return None

    lasts = await mesh.watch(mesh.issuer.token())
    assert await _refusal(await eventually(begun)) == {"credential": "expired"}
    assert not lasts.done()
