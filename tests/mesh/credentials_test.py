"""Every RPC that there is, with every kind of credentials, at a real mesh.

The table is made from the descriptors and the policy: a new RPC is in it by itself.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from meshkit.identity import Role
from meshtest.eventually import eventually
from tests.gateway.credentials import TokenIssuer
from tests.mesh.guarded_mesh import RPCS, GuardedMesh, key_metadata
from tests.mesh.rpc_call import Metadata, Rpc, every_rpc
from tests.mesh.tenant_story import END, STORY
from tier import policy_contracts
from tier.policy import ROLES

pytest_plugins = ["tests.mesh.guarded_fixture"]
pytestmark = pytest.mark.asyncio(loop_scope="session")

_POLICY: Final = policy_contracts.shipped()
# So long a key is good that is made to expire.
_LIFE: Final = timedelta(seconds=2)
# What the gateway itself says of those whom it knows and refuses.
_TAKES: Final = re.compile(r"The call takes |Nobody may make this call")
_AT_ONCE: Final = 16
# Names in the story that a mesh would have given.
_KEPT: Final = {
    "tenant": "acme",
    "task": "tenants/acme/tasks/x",
    "dead": "tenants/acme/tasks/x",
    "document": "tenants/acme/documents/x",
    "tool": "tenants/acme/tools/calculator",
    "key": "tenants/acme/apiKeys/x1234567",
    "page": "x",
}


def _bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


@pytest.fixture
def mesh(guarded: GuardedMesh) -> GuardedMesh:
    """Staging as it is started without a word."""
    return guarded


@dataclass(frozen=True, slots=True)
class _Nobody:
    """Credentials that are nobody's."""

    metadata: Metadata
    # How what is said of them begins.
    message: str


async def _nobodies(mesh: GuardedMesh, folder: Path) -> dict[str, _Nobody]:
    name, revoked = await mesh.key(Role.ADMIN)
    await mesh.admin("RevokeApiKey", {"name": name})
    _, expired = await mesh.key(Role.ADMIN, life=_LIFE)
    _, good = await mesh.key(Role.ADMIN)
    (_, text) = good[0]
    for old in (revoked, expired):
        await eventually(_refuses(mesh, old), 60)
    elsewhere = TokenIssuer(folder / "elsewhere.json", "https://elsewhere.example")
    impostor = TokenIssuer(folder / "impostor.json")
    now = datetime.now(UTC)
    old_token = mesh.signing.token(
        subject="ann",
        tenant="acme",
        role=Role.ADMIN,
        now=now - timedelta(hours=2),
        life=timedelta(hours=1),
    )
    return {
        "nothing": _Nobody((), "The call brings no credentials:"),
        "another's headers": _Nobody(
            (
                ("x-agentmesh-tenant", "acme"),
                ("x-agentmesh-caller", "service:executor"),
                ("x-agentmesh-role", "admin"),
            ),
            "The call brings no credentials:",
        ),
        "a key of nobody": _Nobody(
            key_metadata(f"amk_{'0' * 26}_{'b' * 43}"), "The API key is unknown."
        ),
        "a key with another secret": _Nobody(
            key_metadata(f"{text[:-43]}{'b' * 43}"), "The API key is unknown."
        ),
        "an expired key": _Nobody(expired, "The API key expired at "),
        "a revoked key": _Nobody(revoked, "The API key was revoked at "),
        "an expired token": _Nobody(_bearer(old_token), "The token has expired:"),
        "another issuer's token": _Nobody(
            _bearer(elsewhere.signed(role="admin")), "The token is of an issuer that this mesh"
        ),
        "a token signed by somebody else": _Nobody(
            _bearer(impostor.token(role=Role.ADMIN)), "The token is signed with a key that this"
        ),
    }


def _refuses(mesh: GuardedMesh, metadata: Metadata) -> Callable[[], Awaitable[bool]]:
    async def refused() -> bool:
        return (await mesh.call(RPCS["ListModels"], metadata)).code == "UNAUTHENTICATED"

    return refused


async def _wrong(
    rpcs: Sequence[Rpc], try_: Callable[[Rpc], Awaitable[str | None]]
) -> dict[str, str]:
    """What was wrong, by RPC; a few are tried at a time."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(rpc: Rpc) -> str | None:
        async with slots:
            return await try_(rpc)

    found = await asyncio.gather(*(one(each) for each in rpcs))
    return {rpc.path: each for rpc, each in zip(rpcs, found, strict=True) if each is not None}


async def test_nobody_comes_in_without_good_credentials(mesh: GuardedMesh, tmp_path: Path) -> None:
    """Every RPC refuses who shows nothing, or nothing good, and says what is wrong with it."""
    for name, nobody in (await _nobodies(mesh, tmp_path)).items():

        async def let_in(rpc: Rpc, nobody: _Nobody = nobody) -> str | None:
            answer = await mesh.call(rpc, nobody.metadata, most=1)
            told = answer.message.startswith(nobody.message) and not answer.answers
            right = (answer.code, answer.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
            return None if told and right else str(answer)

        assert await _wrong(every_rpc(), let_in) == {}, name


async def test_nobody_comes_in_by_json(mesh: GuardedMesh) -> None:
    """The same doors have the same locks when they are knocked at in JSON."""

    async def let_in(rpc: Rpc) -> str | None:
        if (called := rpc.json_call()) is None:
            return None
        status = await mesh.http(*called, ())
        return None if status == 401 else str(status)

    assert await _wrong(every_rpc(), let_in) == {}


async def test_a_role_that_is_too_low_is_refused(mesh: GuardedMesh) -> None:
    """Every RPC that takes more than a user's role refuses keys and tokens of lower ones."""
    rpcs = [each for each in every_rpc() if _POLICY.role_of(each.path) is not Role.USER]
    assert rpcs
    for role in ROLES[:-1]:
        token = mesh.signing.token(
            subject="ann", tenant="acme", role=role, now=datetime.now(UTC), life=timedelta(hours=1)
        )
        for metadata in (await mesh.usual(role), _bearer(token)):

            async def let_in(
                rpc: Rpc, role: Role = role, metadata: Metadata = metadata
            ) -> str | None:
                takes = _POLICY.role_of(rpc.path)
                if ROLES.index(role) >= ROLES.index(takes):
                    return None
                answer = await mesh.call(rpc, metadata, most=1)
                wanted = " or ".join(ROLES[ROLES.index(takes) :])
                said = f"The call takes the role {wanted}: ask an administrator of the mesh."
                right = (answer.code, answer.message) == ("PERMISSION_DENIED", said)
                called = rpc.json_call()
                status = await mesh.http(*called, metadata) if called else 403
                return None if right and status == 403 else f"{answer} {status}"

            assert await _wrong(rpcs, let_in) == {}, role


async def test_a_key_without_the_scope_is_refused(mesh: GuardedMesh) -> None:
    """An admin's key with every other scope does not open an RPC."""

    async def let_in(rpc: Rpc) -> str | None:
        scope = _POLICY.scope_of(rpc.path)
        others = [each for each in _POLICY.scopes if each != scope]
        answer = await mesh.call(rpc, await mesh.usual(Role.ADMIN, *others), most=1)
        said = f"The call takes an API key with the scope {scope}, or one without scopes."
        right = (answer.code, answer.message) == ("PERMISSION_DENIED", said)
        return None if right else str(answer)

    assert await _wrong(every_rpc(), let_in) == {}


async def test_another_tenants_key_opens_nothing(mesh: GuardedMesh) -> None:
    """A request about one tenant is refused to another one's key, whatever it says of itself."""
    _, key = await mesh.key(Role.OPERATOR, tenant="intruder")
    claims = (*key, ("x-agentmesh-tenant", "acme"))
    about = {each.rpc: each.filled(_KEPT) for each in (*STORY, *END)}
    tried = 0

    async def let_in(rpc: Rpc) -> str | None:
        nonlocal tried
        request = about.get(rpc.method.name)
        if request is None or "tenants/acme" not in str(request):
            return None
        tried += 1
        answer = await mesh.call(rpc, claims, rpc.request(request), most=1)
        # A batch says so of each item.
        results: list[Any] = [
            each for answered in answer.answers for each in getattr(answered, "results", ())
        ]
        if results:
            denied = grpc.StatusCode.PERMISSION_DENIED.value[0]
            right = all(each.error.code == denied for each in results)
        else:
            denied = ("PERMISSION_DENIED", "UNIMPLEMENTED")
            right = answer.code in denied and not answer.answers
        return None if right else str(answer)

    assert await _wrong(every_rpc(), let_in) == {}
    assert tried > 60


async def test_the_right_key_comes_in(mesh: GuardedMesh) -> None:
    """A key with no more than the role and the scope that an RPC takes reaches its service."""

    async def refused(rpc: Rpc) -> str | None:
        metadata = await mesh.usual(_POLICY.role_of(rpc.path), _POLICY.scope_of(rpc.path))
        answer = await mesh.call(rpc, metadata, most=1)
        is_refused = answer.code in ("UNAUTHENTICATED", "UNAVAILABLE") or _TAKES.match(
            answer.message
        )
        return str(answer) if is_refused else None

    assert await _wrong(every_rpc(), refused) == {}


async def test_the_right_key_comes_in_by_json(mesh: GuardedMesh) -> None:
    """JSON has the same rules, whatever follows a path's `?`."""

    async def refused(rpc: Rpc) -> str | None:
        called = rpc.json_call()
        # A key with scopes makes none without, though it may make keys.
        if called is None or rpc.method.server_streaming or rpc == RPCS["CreateApiKey"]:
            return None
        verb, path = called
        metadata = await mesh.usual(_POLICY.role_of(rpc.path), _POLICY.scope_of(rpc.path))
        status = await mesh.http(verb, path.replace("tenants/x", "tenants/acme"), metadata)
        return str(status) if status in (401, 403, 502, 503) else None

    assert await _wrong(every_rpc(), refused) == {}
    key = await mesh.usual(Role.USER, "tasks:read")
    assert await mesh.http("GET", "/v1/tenants/acme/tasks?page_size=1", key) == 200
    assert await mesh.http("GET", "/v1/tenants/acme/agents?page_size=1", key) == 403
