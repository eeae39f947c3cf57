"""Whose tokens are good, for how long, and how that changes."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
import pytest_asyncio

from agentmesh.coordinator.v1 import coordinator_service_pb2
from meshkit.errors import from_rpc_error
from meshkit.identity import Role
from meshtest.eventually import eventually
from tests.gateway.credentials import TokenIssuer
from tests.gateway.guarded import Guarded, guarded
from tier.events import Phase
from tier.policy import ROLES

pytest_plugins = ["tests.gateway.shared_gateways"]
pytestmark = pytest.mark.asyncio(loop_scope="session")

_TASK = "tenants/acme/tasks/t1"


@pytest_asyncio.fixture(loop_scope="session")
async def published(mesh: Guarded) -> AsyncIterator[Guarded]:
    """A guarded gateway, whose issuer has its keys where they belong afterwards."""
    yield mesh
    mesh.issuer.publish()


async def _get(mesh: Guarded, *metadata: tuple[str, str]) -> Any:
    request = coordinator_service_pb2.GetTaskRequest(name=_TASK)
    return (await mesh.stub.GetTask(request, timeout=60, metadata=metadata)).task


def _bearer(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"


async def test_an_issuer_changes_its_key(published: Guarded) -> None:
    """A new signing key is good as soon as it is published, and the old one, also for tokens seen
    before, no more; the gateway goes on.
    """
    old = published.issuer.token()
    await _get(published, _bearer(old))
    published.issuer.change_key()
    new = published.issuer.token()
    keeping = asyncio.create_task(published.keep())
    await eventually(lambda: published.clock.sleeping, 60)
    published.issuer.publish()
    await published.clock.advance(2.0)

    async def taken() -> bool:
        try:
            await _get(published, _bearer(new))
        except grpc.aio.AioRpcError:
            return False
        return True

    await eventually(taken, 60)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _get(published, _bearer(old))
    assert from_rpc_error(caught.value).metadata == {"credential": "signature"}
    keeping.cancel()


async def test_keys_that_cannot_be_read_change_nothing(published: Guarded) -> None:
    """Half a file, or none, is said once, and tokens go on being good by the keys of before."""
    token = published.issuer.token()
    keeping = asyncio.create_task(published.keep())
    for spoil in (lambda: published.issuer.jwks.write_text("{"), published.issuer.jwks.unlink):
        await eventually(lambda: published.clock.sleeping, 60)
        spoil()
        await published.clock.advance(2.0)
        await eventually(lambda: published.clock.sleeping, 60)
        await published.clock.advance(2.0)
    await eventually(lambda: published.clock.sleeping, 60)
    assert [phase for _, phase, _ in published.reports] == [Phase.FAILED] * 2
    assert (await _get(published, _bearer(token))).tenant == "acme"
    keeping.cancel()


async def test_several_issuers_are_trusted(tmp_path: Path) -> None:
    """A company's identity provider may sign beside the mesh itself, with claims of other names."""
    other = TokenIssuer(tmp_path / "other.json", "https://id.example.com")
    known = other.issuer_with(
        tenant_claim="org.id", role_claim="mesh_role", subject_claim="email", tenants=("beta",)
    )
    async with guarded(tmp_path, also=(known,)) as mesh:
        token = other.signed("tenant", org={"id": "beta"}, mesh_role="admin", email="bo@x.example")
        task = await _get(mesh, _bearer(token))
        assert (task.tenant, task.labels["caller"], task.labels["role"]) == (
            "beta",
            "user:bo@x.example",
            "admin",
        )
        assert (await _get(mesh, _bearer(mesh.issuer.token()))).tenant == "acme"


async def test_an_issuer_gives_no_more_than_it_may(tmp_path: Path) -> None:
    """Who claims a higher role, or another tenant, than the issuer of the token may give does not
    come in. The mesh itself may give everything.
    """
    bounds: Mapping[str, Mapping[str, Any]] = {
        "least": {"max_role": Role.USER, "tenants": ("default",)},
        "some": {"max_role": Role.OPERATOR, "tenants": ("acme", "beta")},
        "every": {"max_role": Role.ADMIN, "tenants": ("*",)},
        "nobody": {"max_role": Role.ADMIN, "tenants": ()},
    }
    issuers = {each: TokenIssuer(tmp_path / f"{each}.json", f"https://{each}") for each in bounds}
    also = [issuers[name].issuer_with(**bound) for name, bound in bounds.items()]
    async with guarded(tmp_path, also=also) as mesh:

        async def comes_in(issuer: TokenIssuer, tenant: str, role: Role) -> bool:
            try:
                task = await _get(mesh, _bearer(issuer.signed(tenant=tenant, role=role.value)))
            except grpc.aio.AioRpcError as error:
                refusal = from_rpc_error(error)
                assert str(refusal).startswith("The token claims a role or a tenant that its")
                assert refusal.metadata == {"credential": "claims"}
                return False
            assert (task.tenant, task.labels["role"]) == (tenant, role.value)
            return True

        every = [(tenant, role) for tenant in ("default", "acme", "beta") for role in ROLES]
        given = {
            name: [each for each in every if await comes_in(issuer, *each)]
            for name, issuer in {**issuers, "mesh": mesh.issuer}.items()
        }
    assert given == {
        "least": [("default", Role.USER)],
        "some": [each for each in every if each[0] != "default" and each[1] is not Role.ADMIN],
        "every": every,
        "nobody": [],
        "mesh": every,
    }


async def test_a_token_is_good_for_a_while_only(mesh: Guarded) -> None:
    """A token that was seen before is refused all the same once it has expired."""

    async def refusal(token: str) -> str:
        try:
            assert (await _get(mesh, _bearer(token))).tenant == "acme"
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error).metadata["credential"]
        return ""

    # The gateway allows for clocks that are ten seconds apart. How little is left to a token that
    # still comes in time depends on how busy the machine is.
    lives = itertools.count(-9, 2)

    async def good() -> str:
        token = mesh.issuer.token(life=timedelta(seconds=next(lives)))
        return token if await refusal(token) == "" else ""

    token = await eventually(good, 60)
    assert await eventually(lambda: refusal(token), 120) == "expired"


async def test_a_public_key_is_no_secret(mesh: Guarded) -> None:
    """Whoever signs with what everybody knows of an issuer, as with a shared secret, is refused."""
    (public,) = json.loads(mesh.issuer.jwks.read_text())["keys"]
    claims = jwt.decode(mesh.issuer.token(), options={"verify_signature": False})
    forged = jwt.encode(claims, public["x"], "HS256", headers={"kid": public["kid"]})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _get(mesh, _bearer(forged))
    assert from_rpc_error(caught.value).metadata == {"credential": "signature"}
